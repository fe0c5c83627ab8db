"""Collections of other kinds than the four of the benchmarks: judgements without a relevant passage, untidy ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import pack

from syneg.core.config import CollectionConfig
from syneg.core.errors import DataError
from syneg.core.progress import Progress
from syneg.core.records import HardNegative, Instance
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.data.collection import Collection, load_collection
from syneg.data.read_log import ReadLog
from syneg.data.remarks import remarks
from syneg.negatives.gating import Gating
from syneg.negatives.judged import Judged, keys_of
from syneg.optimizers.objective import Objective
from syneg.optimizers.sampler import SamplerTrials
from syneg.run.folder import RunFolder
from syneg.run.trial import FromLM, Trials
from syneg.run.workspace import Workspace


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def load(dataset: Path, **settings: object) -> Collection:
    return load_collection(CollectionConfig(dataset=str(dataset), **settings))


def test_queries_that_are_judged_with_nothing_relevant_are_left_out_and_are_no_bad_rows(beir: Path) -> None:
    for i in range(20):
        append(beir / "queries.jsonl", json.dumps({"_id": f"z{i}", "text": f"a topic of number {i}"}) + "\n")
        append(beir / "qrels" / "train.tsv", f"z{i}\td{i}\t0\nz{i}\td{i + 1}\t{-(i % 2)}\n")
    collection = load(beir)
    assert (collection.problems, len(collection.queries)) == ((), 96)
    said = "20 of 116 queries have judgements, but no relevant passage, and are left out"
    assert said in collection.notes
    append(beir / "qrels" / "train.tsv", "q0\td0\t2\nq1\td1\t2\n")
    with pytest.raises(DataError, match="leaves 0 queries with a relevant passage for train"):
        load(beir, min_relevance=2)


@pytest.mark.parametrize("divided", [True, False])
def test_a_min_relevance_that_empties_a_split_is_what_the_advice_is_about(beir: Path, divided: bool) -> None:
    rows = [f"q{i}\td{i}\t{1 if (divided and i < 90) or i % 3 == 0 else 2}\n" for i in range(96)]
    (beir / "qrels" / "train.tsv").write_text("".join(rows[:60]))
    if divided:
        append(beir / "qrels" / "train.tsv", "".join(rows[60:]))
        said = "leaves 0 queries with a relevant passage for train .*; lower collection.min_relevance: 92 queries"
    else:
        (beir / "qrels" / "test.tsv").write_text("".join(row.replace("\t2", "\t1") for row in rows[60:]))
        said = r"no query of test has a passage of grade 2 or more \(beir\); lower collection.min_relevance"
    with pytest.raises(DataError, match=said):
        load(beir, min_relevance=2)
    assert len(load(beir, min_relevance=1).queries) == 96


def test_a_split_that_is_judged_with_nothing_relevant_is_not_cut_out_of_another(beir: Path) -> None:
    append(beir / "queries.jsonl", "".join(json.dumps({"_id": f"z{i}", "text": f"topic {i}"}) + "\n" for i in (1, 2)))
    (beir / "qrels" / "test.tsv").write_text("z1\td1\t0\nz2\td2\t-1\n")
    with pytest.raises(
        DataError, match=r"no query of test has a relevant passage \(beir\); correct the file, or remove it"
    ):
        load(beir)


def test_queries_whose_relevant_passages_are_all_missing_are_still_bad_rows(beir: Path) -> None:
    append(beir / "queries.jsonl", json.dumps({"_id": "z", "text": "a topic"}) + "\n")
    append(beir / "qrels" / "train.tsv", "z\tgone\t1\nz\tgone too\t1\n")
    with pytest.raises(DataError, match=r"2 bad rows of 98 in qrels/train\.tsv"):
        load(beir)
    assert "z" not in load(beir, max_bad_rows=0.1).queries


def test_the_share_of_bad_rows_that_is_advised_is_enough() -> None:
    for bad in range(2, 100):
        log = ReadLog()
        for number in range(100):
            log.row("a")
            if number < bad:
                log.problem(f"a:{number}", "is bad")
        with pytest.raises(DataError, match="max_bad_rows=") as error:
            log.check(0.01)
        log.check(float(str(error.value).rsplit("max_bad_rows=", 1)[1]))


def test_what_answers_an_equal_query_is_no_negative(beir: Path) -> None:
    append(beir / "queries.jsonl", json.dumps({"_id": "twin", "text": "Close  A socket."}) + "\n")
    append(beir / "qrels" / "train.tsv", "twin\td50\t1\ntwin\td51\t0\n")
    collection = load(beir)
    assert (collection.no_negative("q0"), collection.no_negative("twin")) == ({"d0", "d50"}, {"d0", "d50"})
    assert (collection.relevant("q0"), collection.relevant("twin")) == ({"d0"}, {"d50"})
    assert collection.no_negative("q1") == {"d1"}


def test_a_copy_of_what_answers_an_equal_query_is_no_negative_either(beir: Path) -> None:
    append(beir / "queries.jsonl", json.dumps({"_id": "twin", "text": "Close  A socket."}) + "\n")
    append(beir / "qrels" / "train.tsv", "twin\td50\t1\n")
    first = load(beir)
    copy = {"_id": "copy", "text": first.passages["d50"].upper() + " !"}
    append(beir / "corpus.jsonl", json.dumps(copy) + "\n")
    collection = load(beir)
    assert set(collection.answers("q0")) == {collection.passages["d0"], collection.passages["d50"]}
    assert Judged(collection, "q0", keys_of(collection)).excludes("copy")
    assert not Judged(collection, "q1", keys_of(collection)).excludes("copy")


def test_what_answers_an_equal_query_is_masked_and_no_written_negative(beir: Path, encoder_path: str) -> None:
    first = load(beir)
    asked, other = first.splits["train"][:2]
    answer = first.passages[next(iter(first.relevant(other)))]
    append(beir / "queries.jsonl", json.dumps({"_id": "twin", "text": first.queries[asked].upper()}) + "\n")
    append(beir / "qrels" / "train.tsv", f"twin\t{next(iter(first.relevant(other)))}\t1\n")
    settings = [f"collection.dataset={beir}", f"encoder.model={encoder_path}", "train.epochs=1", "mine.margin=0.95"]
    workspace = Workspace(RunFolder(beir.parent / "run"), load_config(None, settings), Progress(quiet=True))
    pairs = {pair.query_id: pair for pair in workspace.pairs}
    assert answer in Trials(workspace).job("mined", workspace.config, FromLM(), 0).relevant[asked]
    gating = Gating(workspace.collection, workspace.encoder, workspace.config.gates, 150, "")
    (draft,) = gating.on_text(pairs[asked], [HardNegative(answer, "single_prompt")])
    assert draft.verdict.reason == "equals a positive"


def test_what_answers_an_equal_query_is_masked_in_the_probe_of_a_compilation(beir: Path, encoder_path: str) -> None:
    first = load(beir)
    asked, other = first.splits["train"][:2]
    (answer,) = first.relevant(other)
    append(beir / "queries.jsonl", json.dumps({"_id": "twin", "text": first.queries[asked].upper()}) + "\n")
    append(beir / "qrels" / "train.tsv", f"twin\t{answer}\t1\n")
    settings = [f"collection.dataset={beir}", f"encoder.model={encoder_path}", "probe.layers=1"]
    workspace = Workspace(RunFolder(beir.parent / "run"), load_config(None, settings), Progress(quiet=True))
    collection, encoder, config = workspace.collection, workspace.encoder, workspace.config
    pair, text = next(pair for pair in workspace.pairs if pair.query_id == asked), collection.passages[answer]
    row = Instance(pair, (text,), ("dense",), (1.0,), (answer,))
    for probe in (
        Objective(encoder, collection, [pair], {}, config).probe, SamplerTrials(encoder, collection, [pair], config)._probe
    ):  # fmt: skip
        numbers = probe._loss([row], config.train, {}).numbers
        masked_rows, _ = numbers.known_places(np.array([0]), np.array([numbers.of(text)]))
        assert masked_rows.tolist() == [0]


def test_a_corpus_in_which_everything_is_relevant_is_refused_before_any_call(beir: Path) -> None:
    lines = (beir / "corpus.jsonl").read_text().splitlines(keepends=True)
    for passages in (1, 3):
        (beir / "corpus.jsonl").write_text("".join(lines[:passages]))
        rows = [f"q{i}\td{j}\t1\n" for i in range(96) for j in range(passages)]
        (beir / "qrels" / "train.tsv").write_text("".join(rows))
        with pytest.raises(
            DataError, match=rf"every passage of 'beir' \({passages}\) is relevant to every train query"
        ):
            load(beir)
    (beir / "qrels" / "train.tsv").write_text("".join(row for row in rows if "\td2\t" not in row))
    assert len(load(beir).passages) == 3


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "corpus-2.jsonl", "qrels/test.tsv"])
def test_a_file_that_is_a_link_to_nothing_or_a_folder_is_not_left_out(name: str, beir: Path) -> None:
    """Without qrels/test.tsv, test would be cut out of train."""
    path = beir / name
    path.unlink(missing_ok=True)
    path.symlink_to(beir / "moved" / "away.jsonl")
    with pytest.raises(DataError, match=rf"'{name}' is a link to a file that is not there .*; put the file there"):
        load(beir)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=rf"'{name}' is a folder .*beir\); put the file there, or remove it"):
        load(beir)


@pytest.mark.parametrize("name", ["corpus.jsonl", "test.csv", "data/more.csv"])
def test_a_folder_of_splits_leaves_out_no_link_to_nothing_either(name: str, tmp_path: Path) -> None:
    """Without corpus.jsonl, the positives would be the corpus."""
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = [f"how to {split} {i},call {split} {i}\n" for i in range(40)]
        (tmp_path / f"{split}.csv").write_text("query,positive\n" + "".join(rows))
    assert len(load(tmp_path).passages) == 80
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(DataError, match=rf"'{name}' is a link to a file that is not there"):
        load(tmp_path)


def test_a_link_to_nothing_is_not_said_to_mean_itself(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").symlink_to("gone.csv")
    with pytest.raises(
        DataError, match=r"no such file or folder: .*pairs.csv'; it is a link to 'gone.csv', where nothing"
    ):
        load(tmp_path / "pairs.csv")


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize(("cut", "said"), [(True, "is cut or damaged .*; copy or download it again"),
                                           (False, "is not packed .*; rename it without .")])  # fmt: skip
def test_a_broken_packed_file_is_told_what_helps(cut: bool, said: str, ending: str, tmp_path: Path) -> None:
    text = "query,positive\n" + "".join(f"how to close {i},call close {i}\n" for i in range(999))
    path = tmp_path / f"pairs.csv{ending}"
    packed = pack(text.encode(), ending)
    path.write_bytes(packed[: len(packed) // 2] if cut else text.encode())
    with pytest.raises(DataError, match=f"the {ending} file {said}"):
        load(path)
    path.write_bytes(packed[:40] + bytes(40) + packed[80:])
    with pytest.raises(DataError, match="is cut or damaged"):
        load(path)


def test_mining_counts_the_queries_that_got_negatives(beir: Path, encoder_path: str) -> None:
    settings = [f"collection.dataset={beir}", f"encoder.model={encoder_path}", "mine.margin=0.3", "mine.last_rank=3"]
    run = RunFolder(beir.parent / "run")
    progress = Progress(quiet=True)
    workspace = Workspace(run, load_config(None, settings), progress)
    with progress.kept(run.events):
        found, asked = len(workspace.mined), len(workspace.pairs_to_mine)
    assert 0 < found < asked
    said = [row["text"] for row in read_rows(run.events) if row.get("stage") == "mine" and row["event"] == "done"]
    assert said == [f"{sum(map(len, workspace.mined.values()))} negatives for {found} of {asked} queries"]


@pytest.mark.parametrize(
    ("corpus_id", "said"), [("0042", "42"), ("Doc7", "doc7"), ("a b", "a  b"), ("x-1", "x_1"), ("７", "7")]
)
def test_an_unknown_id_is_told_the_one_that_is_written_otherwise(beir: Path, corpus_id: str, said: str) -> None:
    append(beir / "corpus.jsonl", json.dumps({"_id": corpus_id, "text": "another passage"}) + "\n")
    append(beir / "queries.jsonl", json.dumps({"_id": f"Q{corpus_id}", "text": "another query"}) + "\n")
    append(beir / "qrels" / "train.tsv", f"q0\t{said}\t1\nq{corpus_id}\td0\t1\nq1\tnothing like it\t1\n")
    problems = load(beir, max_bad_rows=0.1).problems
    assert problems == (
        f"qrels/train.tsv:98 names the unknown passage {said!r}; there is {corpus_id!r}",
        f"qrels/train.tsv:99 names the unknown query 'q{corpus_id}'; there is 'Q{corpus_id}'",
        "qrels/train.tsv:100 names the unknown passage 'nothing like it'",
    )


def test_ids_that_differ_by_case_or_zeros_alone_are_different_ids(beir: Path) -> None:
    append(beir / "corpus.jsonl", '{"_id": "D0", "text": "one"}\n{"_id": "d00", "text": "two"}\n')
    append(beir / "qrels" / "train.tsv", "q0\tD0\t1\n")
    assert load(beir).relevant("q0") == {"d0", "D0"}


def test_a_file_without_a_good_row_is_not_told_to_allow_bad_rows() -> None:
    log = ReadLog()
    log.row("a")
    log.problem("a:1", "names the unknown passage '7'")
    with pytest.raises(DataError) as error:
        log.check(0.01)
    assert str(error.value).endswith("correct the file: none of its rows can be used")


def test_queries_of_few_words_are_not_easy_because_a_positive_holds_them(beir: Path) -> None:
    words = {f"q{i}": text.split()[0] for i, text in enumerate(["close it", "copy it", "reset it"] * 32)}
    lines = [json.dumps({"_id": key, "text": f"{word} {key}"}) for key, word in words.items()]
    (beir / "queries.jsonl").write_text("\n".join(lines) + "\n")
    rows = (json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines())
    texts = [{**row, "text": f"{row['text']} {words['q' + row['_id'][1:]]} q{row['_id'][1:]}"} for row in rows]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    assert not [line for line in remarks(load(beir)) if "word for word" in line]
