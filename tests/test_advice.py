"""What to do about data that is too small, or that a reader leaves out: the advice helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from syneg.core.config import CollectionConfig, MineConfig
from syneg.core.errors import DataError
from syneg.data.collection import load_collection
from syneg.data.read_log import ReadLog
from syneg.data.trec import read_items
from syneg.negatives.mining import more_advice


def csv(path: Path, count: int, extra: str = "") -> str:
    rows = "".join(f"how does thing {i} work,it works by {i}{',' * bool(extra)}{extra}\n" for i in range(count))
    path.write_text(f"query,positive{',split' * bool(extra)}\n{rows}")
    return str(path)


@pytest.mark.parametrize("confirm", [0.0, 0.1])
def test_the_number_of_queries_that_is_asked_for_is_enough(confirm: float, tmp_path: Path) -> None:
    enough = 0
    for count in range(1, 12):
        config = CollectionConfig(dataset=csv(tmp_path / "pairs.csv", count), confirm=confirm)
        try:
            load_collection(config)
        except DataError as error:
            asked = int(str(error).partition("at least ")[2].split()[0])
            assert count < asked
            assert asked == (enough or asked)
            enough = asked
        else:
            assert count >= enough
    assert enough == (8 if confirm == 0 else 9)


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"test": 0.0}, "set collection.test$"),
        ({"dev": 0.5, "test": 0.5}, "set collection.dev, collection.confirm and collection.test lower$"),
    ],
)
def test_shares_that_no_number_fills_are_told(shares: dict[str, float], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        load_collection(CollectionConfig(dataset=csv(tmp_path / "pairs.csv", 40), **shares))


def test_a_split_of_the_file_is_filled_in_the_file(tmp_path: Path) -> None:
    path = Path(csv(tmp_path / "pairs.csv", 20, "train"))
    path.write_text(path.read_text().replace(",train", ",test", 1))
    with pytest.raises(DataError, match="give test at least 2 queries"):
        load_collection(CollectionConfig(dataset=str(path)))


def test_a_rank_is_only_raised_where_passages_lie_behind_it() -> None:
    assert more_advice(51, MineConfig(last_rank=50)).startswith("raise mine.last_rank")
    assert "last_rank" not in more_advice(50, MineConfig(last_rank=50))


def test_a_header_in_the_middle_of_files_that_were_joined_is_no_pair(tmp_path: Path) -> None:
    path = Path(csv(tmp_path / "pairs.csv", 12))
    path.write_text(path.read_text() * 2)
    collection = load_collection(CollectionConfig(dataset=str(path), max_bad_rows=0.1))
    assert len(collection.queries) == 12
    assert collection.problems == ("pairs.csv:14 repeats the header",)


@pytest.mark.parametrize(
    ("before", "between", "after", "lost"),
    [
        ("", "words of nobody\n", "", ["docs.trec:2 before text in no entry: 'words of nobody'"]),
        ("", "", "the end\n", ["docs.trec:3 before text in no entry: 'the end'"]),
        ('<?xml version="1.0"?>\n<!-- a note -->\n<docs>\n', "<!-- a > b -->\n\n", "</docs>\n", []),
    ],
)
def test_text_between_entries_is_a_problem(
    before: str, between: str, after: str, lost: list[str], tmp_path: Path
) -> None:
    first, second = (f"<DOC><DOCNO>d{i}</DOCNO>thing {i}</DOC>\n" for i in range(2))
    path, log = tmp_path / "docs.trec", ReadLog()
    path.write_text(before + first + between + second + after)
    assert [key for _, key, _ in read_items(path, log, "auto", topics=False)] == ["d0", "d1"]
    assert log.problems == lost
