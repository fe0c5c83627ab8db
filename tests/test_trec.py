"""Files of TREC in every layout: no entry is lost, merged with the next one, or cut, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from syneg.core.errors import DataError
from syneg.data.read_log import ReadLog
from syneg.data.trec import read_items, read_judgements

Items = dict[str, str]


def read(path: Path, text: str, *, topics: bool = False) -> tuple[Items, list[str]]:
    path.write_text(text)
    log = ReadLog()
    return {key: words for _, key, words in read_items(path, log, "auto", topics=topics)}, log.problems


def doc(key: str, text: str) -> str:
    return f"<DOC>\n<DOCNO> {key} </DOCNO>\n<TEXT>\n{text}\n</TEXT>\n</DOC>"


def topic(key: str, text: str) -> str:
    return f"<top>\n<num> Number: {key}\n<title> {text}\n<desc> Description:\nlong\n</top>"


@pytest.mark.parametrize("between", ["\n", "", " ", "\n\n"])
def test_entries_may_begin_on_the_line_where_another_one_ends(tmp_path: Path, between: str) -> None:
    docs = between.join(doc(f"D{i}", f"text {i}") for i in range(5))
    assert read(tmp_path / "docs.trec", docs) == ({f"D{i}": f"text {i}" for i in range(5)}, [])
    topics = between.join(topic(str(i), f"query {i}") for i in range(5))
    assert read(tmp_path / "topics.txt", topics, topics=True) == ({str(i): f"query {i}" for i in range(5)}, [])


@pytest.mark.parametrize("topics", [False, True])
def test_an_entry_without_its_end_is_a_problem_and_not_part_of_the_next_one(tmp_path: Path, topics: bool) -> None:
    made, end = (topic, "</top>") if topics else (doc, "</DOC>")
    first, second, third = (made(str(i), f"text {i}") for i in range(3))
    items, problems = read(tmp_path / "file.txt", f"{first}\n{second.replace(end, '')}\n{third}\n", topics=topics)
    assert items == {"0": "text 0", "2": "text 2"}
    (line,) = problems
    assert "does not end" in line


def test_an_end_without_a_beginning_is_a_problem(tmp_path: Path) -> None:
    lost = doc("1", "text 1").replace("<DOC>", "")
    items, problems = read(tmp_path / "docs.trec", f"{doc('0', 'text 0')}\n{lost}\n{doc('2', 'text 2')}\n")
    assert items == {"0": "text 0", "2": "text 2"}
    assert len(problems) == 1
    assert "has no beginning" in problems[0]


def test_a_file_that_ends_inside_an_entry_is_refused_wherever_the_entry_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ends inside an entry"):
        read(tmp_path / "docs.trec", doc("0", "text 0") + "<DOC><DOCNO>1</DOCNO> cut off")


def test_signs_in_a_topic_do_not_cut_it(tmp_path: Path) -> None:
    wanted = "is x < y or a<3 when C<sub>2</sub> &lt; 5"
    items, _ = read(tmp_path / "topics.txt", topic("7", wanted), topics=True)
    assert items == {"7": "is x < y or a<3 when C 2 < 5"}


def test_marks_of_xml_are_no_text(tmp_path: Path) -> None:
    text = "<![CDATA[Close it.]]> <!-- a <b> note --> Then wait."
    assert read(tmp_path / "docs.trec", doc("1", text)) == ({"1": "Close it. Then wait."}, [])


@pytest.mark.parametrize("grade", ["+1", "1.", "1.0", "1e0", "-1", ".5", "+2.50"])
def test_a_grade_of_qrels_may_be_written_in_every_way_of_a_number(tmp_path: Path, grade: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text(f"q1 0 d1 {grade}\nq2 0 d2 1\n")
    rows = read_judgements(path, ReadLog(), "auto", "qrels.txt")
    assert rows is not None
    assert list(rows) == [("qrels.txt:1", ["q1", "d1", grade]), ("qrels.txt:2", ["q2", "d2", "1"])]
