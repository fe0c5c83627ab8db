"""Reading: lists with known passages hidden in them, a measured reader, and what training gets of its grades."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from click.testing import CliRunner
from conftest import FakeLM, write_negative
from test_batch import answered

import syneg
from syneg.cli.main import cli
from syneg.core.config import Config, MineConfig
from syneg.core.errors import BackendError, ConfigError, DataError
from syneg.core.progress import Progress, Stage
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows, write_json, write_rows
from syneg.data.collection import Collection, load_collection
from syneg.negatives.given_readings import given_readings, lists_of, with_known_negative
from syneg.negatives.reader_agreement import Agreement, agreement, kappa_of
from syneg.negatives.reading import ANSWERS, Answers, Reading, ToRead, lists_to_read, ordered
from syneg.retrieval.encoder import Encoder
from syneg.run import windows
from syneg.run.arms import arm
from syneg.run.cross_time import CrossTime
from syneg.run.measured import Measured
from syneg.run.pipeline import Run
from syneg.run.window_rates import Rate
from syneg.run.windows import WINDOWS, Choice
from syneg.verdict.statistics import paired_interval
from syneg.verdict.verdict import Cost

Settings = Callable[..., list[str]]


def grade(query: str, passage: str) -> int:
    """The truth of the small collection: 3 for thing and action, 1 for one of them."""
    action, thing = query.split(" a ")
    right = (f"to {action} " in passage) + (f"the {thing} " in passage)
    return 3 if right == 2 else 1 if right else 0


def reads_well(messages: list[dict[str, Any]]) -> tuple[int, str]:
    text = messages[-1]["content"]
    query = re.findall(r"<data>(.*?)</data>", text)[0]
    shown = re.findall(r"(\d+)\. <data>(.*?)</data>", text)
    rows = [
        {
            "passage": int(number),
            "span": passage if grade(query, passage) > 1 else "NONE",
            "grade": grade(query, passage),
        }
        for number, passage in shown
    ]
    return 200, json.dumps({"grades": rows})


def all_three(messages: list[dict[str, Any]]) -> tuple[int, str]:
    shown = re.findall(r"(\d+)\. <data>(.*?)</data>", messages[-1]["content"])
    return 200, json.dumps({"grades": [{"passage": int(n), "span": passage, "grade": 3} for n, passage in shown]})


READS = {
    "reader.use": "auto",
    "collection.dev": 0.3,
    "lm.adapter": "json",
    "reader.candidates": 8,
    "train.arms": '["mined", "verified"]',
}


@pytest.fixture
def sparse(beir: Path) -> Path:
    """Each passage stands twice in the corpus, in other words; the second is judged by nobody."""
    rows = list(read_rows(beir / "corpus.jsonl"))
    twice = [
        {
            **row,
            "_id": f"{row['_id']}b",
            "text": re.sub(r"to (\w+) (the \w+) .*", r"\2 and to \1 it twice", row["text"]),
        }
        for row in rows
    ]
    write_rows(beir / "corpus.jsonl", rows + twice)
    return beir


def run(folder: Path, overrides: list[str], stage: str) -> dict[str, Any]:
    return Run(folder, load_config(None, overrides), Progress(quiet=True)).until(stage)


@pytest.fixture
def small(sparse: Path, encoder_path: str) -> tuple[Collection, Encoder]:
    config = load_config(
        None, [f"collection.dataset={sparse}", f"encoder.model={encoder_path}", "encoder.precision=fp32"]
    )
    return load_collection(config.collection, 0), Encoder.load(config.encoder)


def test_known_passages_are_hidden_in_each_list(small: tuple[Collection, Encoder]) -> None:
    collection, encoder = small
    pairs = collection.pairs("train")[:9]
    lists = lists_to_read(collection, encoder, pairs, 8, seed=0)
    assert [asked.query_id for asked in lists] == [pair.query_id for pair in pairs]
    for asked, pair in zip(lists, pairs, strict=True):
        assert len(asked.doc_ids) == len(set(asked.doc_ids)) == 8
        assert asked.positives == {pair.doc_id}
        assert len(asked.checks) == 1 and not asked.checks & asked.positives
        assert f"{pair.doc_id}b" in asked.doc_ids  # BM25 has it on top
        query, *texts = [pair.query, *(collection.passages[d] for d in asked.doc_ids)]
        scores = encoder.encode(texts, "passage") @ encoder.encode([query], "query")[0]
        assert sorted(scores, reverse=True) == pytest.approx(list(scores))  # the order that the reader is held against
    assert lists == lists_to_read(collection, encoder, pairs, 8, seed=0)


def test_agreement_by_hand() -> None:
    lists = [
        ToRead("q1", "", ("a", "b", "c"), frozenset("b"), frozenset("c")),
        ToRead("q2", "", ("a", "b", "c"), frozenset("a"), frozenset("c")),
        ToRead("q3", "", ("a", "b"), frozenset("a"), frozenset()),
    ]
    found = agreement(lists, {"q1": {"a": 1, "b": 3, "c": 0}, "q2": {"a": 2, "b": 3, "c": 2}},
                      {"q1": {"b": 1}, "q2": {"a": 1}, "q3": {"a": 1}})  # fmt: skip
    assert (found.lists, found.unreadable, found.positives, found.answers, found.in_part) == (2, 1, 2, 1, 1)
    assert (found.checks, found.false, found.recall) == (2, 1, 1.0)
    # 3 of 4 right; by chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2
    assert found.kappa == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert found.marks == {"q1": (1, 1, 0, 1), "q2": (1, 1, 1, 1)}
    second = 0.6309297535714575  # 1 / log2(3)
    assert found.order == pytest.approx({"q1": 1.0, "q2": second})
    assert found.encoder_order == pytest.approx({"q1": second, "q2": 1.0})


@pytest.mark.parametrize("use", ["auto", "on"])
def test_reading_shows_progress_while_it_embeds_the_corpus(
    use: str, tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counted: dict[str, list[tuple[int, int]]] = {}
    opened: list[str] = []

    class Seen(Stage):
        def __init__(self, name: str, *more: Any) -> None:
            super().__init__(name, *more)
            assert not opened, f"{name} is drawn over {opened}"
            opened.append(name)

        def __call__(self, done: int, total: int) -> None:
            counted.setdefault(self.name, []).append((done, total))

        def close(self, how: str = "") -> float:
            opened.remove(self.name)
            return super().close(how)

    monkeypatch.setattr("syneg.core.progress.Stage", Seen)
    run(tmp_path / "run", settings(fake_lm(reads_well).url, **{**READS, "reader.use": use}), "read")
    assert counted["embed"][-1] == (192, 192)


def test_a_reader_is_measured_and_its_answers_become_positives(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server, folder = fake_lm(reads_well), tmp_path / "run"
    found = run(folder, settings(server.url, **READS), "read")
    assert found["trusted"], found["table"]
    in_python = syneg.read(sparse, folder)  # with the settings of the folder
    assert sum(map(len, in_python.values())) == sum(found["read"]["grades"].values())
    assert "recall of 2 and 3         1.00   [1.00, 1.00]" in found["table"]
    kept = read_json(folder / "reader.json")
    assert (kept["split"], kept["agreement"]["false"]) == ("dev", 0)
    rows = list(read_rows(folder / "readings.jsonl"))
    assert set(rows[0]) == {"query_id", "doc_id", "grade", "span", "lm"}
    pairs = len({row["query_id"] for row in rows})
    assert found["read"]["queries"] == pairs > 40
    assert found["read"]["extra"] == pairs  # the copy that nobody judged
    assert len(server.requests) == pairs + kept["agreement"]["lists"]
    calls = len(server.requests)
    more = {**READS, "train.arms": '["mined", "verified", "graded@ratio=0"]'}
    verdict = run(folder, settings(server.url, **more), "verdict")
    assert len(server.requests) == calls
    assert list(verdict["arms"]) == ["base", "mined", "verified", "graded@ratio=0"]
    shares = [verdict["arms"][arm]["training"][0]["shares"][0] for arm in ("verified", "graded@ratio=0")]
    assert shares[0]["related"] > 0 and shares[0] != shares[1]
    assert verdict["arms"]["verified"]["calls"] == calls
    assert verdict["arms"]["mined"]["calls"] == 0
    sides = (
        (verdict["worth"]["with_lm"], ("verified", "graded@ratio=0")),
        (verdict["worth"]["without_lm"], ("base", "mined")),
    )
    for named, among in sides:
        assert named == max(among, key=lambda arm: verdict["arms"][arm]["dev"]["ndcg@10"])
    assert verdict["worth"]["per_1000_calls"] is not None


def test_a_reader_that_is_used_without_a_test_is_not_measured_to_add_up_what_it_cost(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server, folder = fake_lm(reads_well), tmp_path / "run"
    values = settings(server.url, **{**READS, "reader.use": "on", "train.epochs": 0.2})
    estimated = Run(folder, load_config(None, values), Progress(quiet=True)).estimate()["parts"][-1]["calls"]
    verdict = run(folder, values, "verdict")
    assert {row["use"] for row in read_rows(folder / "ledger" / "calls.jsonl")} == {"read"}
    assert len(server.requests) == verdict["arms"]["verified"]["calls"] == estimated["likely"]
    run(folder, values, "read")  # measures the reader, and what that cost counts from then on
    assert run(folder, values, "verdict")["arms"]["verified"]["calls"] == len(server.requests) > estimated["likely"]


def test_reading_is_replayed_without_the_lm(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_lm(reads_well)
    run(tmp_path / "one", settings(server.url, **READS), "read")
    server.stop()
    monkeypatch.delenv("OPENAI_API_KEY")
    ledger = tmp_path / "one" / "ledger" / "calls.jsonl"
    elsewhere = settings("http://127.0.0.1:9/v1", **READS, **{"executor.replay": ledger})
    run(tmp_path / "two", elsewhere, "read")
    first, second = ((tmp_path / name / "readings.jsonl").read_text() for name in ("one", "two"))
    assert first.replace(server.url, "URL") == second.replace("http://127.0.0.1:9/v1", "URL") != ""


def test_rows_of_a_verified_arm(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    config = load_config(None, settings(fake_lm(reads_well).url, **READS))
    whole = Run(tmp_path / "run", config, Progress(quiet=True))
    fed = whole.readings.fed
    job = whole.experiment.job(whole.experiment.planned[1], 0)
    whole.workspace.close()
    collection = whole.workspace.collection
    for epoch in job.epochs:
        for row in epoch:
            (extra,) = fed.extra[row.pair.query_id]
            assert extra == f"{min(collection.relevant(row.pair.query_id))}b"
            assert set(row.sources) <= {"read", "related", "dense", "bm25"}
            assert not {*row.negatives} & {*job.relevant[row.pair.query_id]}
            assert collection.passages[extra] in job.relevant[row.pair.query_id]  # masked in the batch
    first, second = ([row.pair.positive for row in epoch] for epoch in job.epochs)
    assert all(a != b for a, b in zip(first, second, strict=True))  # one drawn an epoch, all used in turn


def test_a_program_rewrites_what_was_graded_1(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    config = load_config(None, settings(fake_lm(reads_well).url, **READS))
    whole = Run(tmp_path / "run", config, Progress(quiet=True))
    shown, grades = whole.readings.candidates(), whole.readings.grades
    for query_id, graded in grades.items():
        given = [graded.get(n.doc_id, 0) for n in shown[query_id]]
        assert given == sorted(given, reverse=True)
        assert given[0] == 1  # never a 2 or 3, though these are nearest
    whole.workspace.close()
    plain = load_config(None, settings("http://127.0.0.1:9", **{**READS, "train.arms": '["mined"]'}))
    other = Run(tmp_path / "other", plain, Progress(quiet=True))
    assert other.readings.candidates() is other.workspace.mined


def test_nothing_goes_by_a_reader_that_is_not_trusted(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(all_three)
    found = run(tmp_path / "run", settings(server.url, **READS), "read")
    assert not found["trusted"] and "read" not in found
    assert "kappa 0.00 (wanted 0.4)" in found["refusal"]
    assert len(server.requests) == found["agreement"]["lists"]  # no train query was read for
    verdict = run(tmp_path / "run", settings(server.url, **READS), "verdict")
    assert list(verdict["arms"]) == ["base", "mined"]
    assert verdict["left_out"] == ["verified"]
    forced = run(tmp_path / "run", settings(server.url, **{**READS, "reader.use": "on"}), "read")
    assert forced["read"]["queries"] > 40


def test_reading_by_batch_files(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def read(*way: str) -> str:
        flags = [part for value in settings("http://127.0.0.1:9", **READS) for part in ("--set", value)]
        done = CliRunner().invoke(
            cli, ["read", "--quiet", "--run", str(tmp_path / "run"), *way, *flags], catch_exceptions=False
        )
        return done.output

    out, back = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    assert "requests written" in read("--batch", "export", str(out))
    first = answered(out, back, reads_well)
    assert "requests written" in read("--batch", "import", str(back), "--batch", "export", str(out))
    second = answered(out, back, reads_well)
    assert "train queries read" in read("--batch", "import", str(back))
    live = run(tmp_path / "live", settings(fake_lm(reads_well).url, **READS), "read")
    assert live["read"]["calls"] == first + second
    grades = [[(r["doc_id"], r["grade"]) for r in read_rows(tmp_path / f / "readings.jsonl")] for f in ("run", "live")]
    assert grades[0] == grades[1]


@pytest.mark.parametrize("words", [150, 151])
def test_passages_that_the_reader_sees_only_in_part_are_said(
    words: int, tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = [
        {**row, "text": " ".join([*row["text"].split(), *["slowly"] * words][:words])}
        for row in read_rows(sparse / "corpus.jsonl")
    ]
    write_rows(sparse / "corpus.jsonl", rows)
    more = {**READS, "reader.use": "on"}
    config = load_config(None, settings(fake_lm(reads_well).url, **more))
    Run(tmp_path / "run", config, Progress()).until("read")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("longer than the 150 words that the reader sees of each") == (words > 150)


def test_given_grades_take_the_place_of_a_reader(tmp_path: Path, sparse: Path, settings: Settings) -> None:
    collection = load_collection(load_config(None, [f"collection.dataset={sparse}"]).collection, 0)
    path = tmp_path / "grades.jsonl"
    rows = []
    for query_id, query in collection.queries.items():
        truth = {d: grade(query, text) for d, text in collection.passages.items()}
        doc_ids = sorted(truth, key=lambda d: -truth[d])[:12]
        rows.append({"query_id": query_id, "doc_ids": doc_ids, "grades": [truth[d] for d in doc_ids]})  # fmt: skip
    write_rows(path, rows)
    more = {**READS, "reader.given": str(path)}
    verdict = run(tmp_path / "run", settings("http://127.0.0.1:9", **more), "verdict")
    assert list(verdict["arms"]) == ["base", "mined", "verified"]
    assert (verdict["arms"]["verified"]["uses_lm"], verdict["arms"]["verified"]["calls"]) == (True, 0)
    write_rows(path, rows[: len(rows) // 2])
    assert run(tmp_path / "run", settings("http://127.0.0.1:9", **more), "verdict")["arms"] != verdict["arms"]


def test_what_nobody_judged_does_not_count_against_given_grades(small: tuple[Collection, Encoder]) -> None:
    collection, encoder = small
    readings = []
    for pair in collection.pairs("train")[:12]:
        truth = {d: grade(pair.query, text) for d, text in collection.passages.items()}
        best = sorted(truth, key=lambda d: -truth[d])[:12]
        readings += [Reading(pair.query_id, d, truth[d], lm="given") for d in best]
    query_ids = {reading.query_id for reading in readings}
    given = ordered(lists_of(readings, collection, query_ids), collection.passages, encoder)
    assert not any(asked.checks for asked in given)  # nobody judged a passage as not relevant
    lists = [with_known_negative(asked) for asked in given]
    grades = Answers(readings).by_query()
    for asked in lists:
        (check,) = asked.checks
        assert [d for d in asked.doc_ids if d not in asked.positives][-1] == check
        assert sum(value == ANSWERS for value in grades[asked.query_id].values()) > len(asked.positives)
    assert agreement(lists, grades, collection.qrels).kappa == pytest.approx(1.0)
    judged = replace(given[0], checks=frozenset(given[0].doc_ids[:1]))
    assert with_known_negative(judged) == judged


def test_a_passage_judged_not_relevant_is_a_known_negative_of_given_grades(small: tuple[Collection, Encoder]) -> None:
    collection, _ = small
    pair = collection.pairs("train")[0]
    (known,), rest = collection.relevant(pair.query_id), sorted(collection.passages)[:3]
    qrels = {**collection.qrels, pair.query_id: {known: 1, rest[0]: 0}}
    readings = [Reading(pair.query_id, d, 0, lm="given") for d in {known: 0, **dict.fromkeys(rest, 0)}]
    (asked,) = lists_of(readings, replace(collection, qrels=qrels), {pair.query_id})
    assert asked.checks == {rest[0]} and asked.positives == {known}


def test_what_is_wrong_with_given_grades_is_said(tmp_path: Path, sparse: Path) -> None:
    collection = load_collection(load_config(None, [f"collection.dataset={sparse}"]).collection, 0)
    path = tmp_path / "grades.jsonl"
    good = {"query_id": "q1", "doc_id": "d1", "grade": 3}
    write_rows(path, [good, {**good, "doc_id": "nowhere"}])
    found, notes = given_readings(path, collection, 0.0)
    assert [(r.doc_id, r.grade) for r in found] == [("d1", 3)]
    assert notes == ["1 grade not used: the collection does not have the passage 'nowhere'"]
    write_rows(path, [good, {**good, "grade": 4}, {"query_id": "q1", "doc_ids": ["d1"], "grades": []}, {}, []])
    with pytest.raises(DataError, match="4 of 5 rows cannot be used") as error:
        given_readings(path, collection, 0.1)
    assert f"{path}:4: no query_id\n" in str(error.value) and f"{path}:5: not a JSON object" in str(error.value)
    with pytest.raises(DataError, match="no such file of grades"):
        given_readings(tmp_path / "none", collection, 0.1)
    path.write_text("query_id,doc_id,grade\nq1,d1,3\n")
    with pytest.raises(DataError, match=r":2: not valid JSON \(.*grades.jsonl\); write one JSON object on each line$"):
        given_readings(path, collection, 0.1)


def test_given_grades_may_begin_with_a_byte_order_mark(tmp_path: Path, sparse: Path) -> None:
    collection = load_collection(load_config(None, [f"collection.dataset={sparse}"]).collection, 0)
    path = tmp_path / "grades.jsonl"
    path.write_text('{"query_id": "q1", "doc_id": "d1", "grade": 3}\n\n', encoding="utf-8-sig")
    found, notes = given_readings(path, collection, 0.0)
    assert (len(found), notes) == (1, [])


def test_an_embedded_lm_is_not_asked_unless_it_was_measured(tmp_path: Path, settings: Settings) -> None:
    overrides = settings("http://127.0.0.1:9", **{**READS, "reader.model": "local/qwen2.5-coder-1.5b"})
    whole = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True))
    assert "no embedded LM reads unasked" in whole.readings.reader.refusal()
    whole.workspace.close()
    assert "verified" not in [*Config().train.arms]


def test_a_dry_run_counts_what_is_read(tmp_path: Path, sparse: Path, settings: Settings) -> None:
    def parts(**more: Any) -> dict[str, Any]:
        overrides = settings("http://127.0.0.1:9", **{**READS, **more})
        found = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).estimate()
        return {part["name"]: part for part in found["parts"]}

    found = parts()
    measured, read = found["measure reader"], found["read"]
    assert measured["calls"] == {"likely": 29, "most": 58}
    assert read["calls"]["most"] == 2 * read["calls"]["likely"] > 60
    assert read["reads"]["likely"] / read["calls"]["likely"] > 300
    assert "measure reader" not in parts(**{"reader.use": "on"})
    assert "read" not in parts(**{"reader.use": "off"})


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CrossEncoder with random weights: real and tiny."""
    import torch
    from conftest import ACTIONS, THINGS
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    path = tmp_path_factory.mktemp("cross")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *THINGS, *ACTIONS, "the", "to", "it", "a", "twice", "again"]
    (path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "initializer_range": 0.5,
    }
    BertForSequenceClassification(BertConfig(vocab_size=len(words), num_labels=1, **sizes)).save_pretrained(path)
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return str(path)


def test_a_cross_encoder_reads_without_an_lm(
    tmp_path: Path, sparse: Path, settings: Settings, cross_encoder: str
) -> None:
    more = {**READS, "reader.cross_encoder": cross_encoder}
    refused = run(tmp_path / "run", settings("http://127.0.0.1:9", **more), "read")
    assert "not trusted" in refused["refusal"]  # its weights are random
    overrides = settings("http://127.0.0.1:9", **{**more, "reader.use": "on"})
    found = run(tmp_path / "run", overrides, "read")
    assert found["lm"].startswith(f"cross-encoder {cross_encoder}@")
    limits = found["thresholds"]
    assert limits["answers"] >= limits["in_part"] >= limits["near"]
    assert "scores for 3, 2, 1" in found["table"]
    assert len({row["grade"] for row in read_rows(tmp_path / "run" / "readings.jsonl")}) > 1
    verdict = run(tmp_path / "run", overrides, "verdict")
    assert (verdict["arms"]["verified"]["uses_lm"], verdict["worth"]) == (False, None)


def test_the_minutes_of_a_cross_encoder_are_estimated(
    tmp_path: Path, sparse: Path, settings: Settings, cross_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrossTime, "each", 0.6)

    def minutes(stage: str, name: str = cross_encoder, **more: object) -> dict[str, float]:
        arms = '["mined@distil=1@teacher=cross-encoder", "verified", "mined"]'
        values = {**READS, "reader.cross_encoder": name, "train.arms": arms, **more}
        planned = Run(
            tmp_path / "run", load_config(None, settings("http://127.0.0.1:9", **values)), Progress(quiet=True)
        )
        parts = planned.estimate(stage)["parts"]
        return {part["name"]: part["minutes"] and part["minutes"]["likely"] for part in parts}

    run_ = Run(tmp_path / "run", load_config(None, settings("http://127.0.0.1:9", **READS)), Progress(quiet=True))
    splits, reader, mine = run_.workspace.collection.splits, run_.config.reader, run_.config.mine
    dev, train = (min(reader.sample, len(splits[split])) for split in ("dev", "train"))
    whole = minutes("verdict")
    read = (dev + train + len(run_.workspace.pairs)) * reader.candidates
    teach = len(run_.workspace.pairs) * (1 + mine.per_query) + dev * reader.candidates
    assert whole["read with the cross-encoder"] == pytest.approx(read / 100)
    assert whole["teach by the cross-encoder"] == pytest.approx(teach / 100)
    assert "teach by the cross-encoder" not in minutes("read")
    assert "read with the cross-encoder" not in minutes("verdict", **{"reader.use": "off", "train.arms": '["mined"]'})
    path = run_.folder.teacher
    run_.workspace.manifest.make("teach", "key", path, lambda: write_json(path, {"scores": {}, "order": []}))
    assert "teach by the cross-encoder" not in minutes("verdict")
    monkeypatch.undo()
    assert minutes("read", **{"seed": 1})["read with the cross-encoder"] > 0  # measured
    assert minutes("read", "some/where-else", **{"seed": 1})["read with the cross-encoder"] is None


def test_a_cross_encoder_that_cannot_be_used_is_said(tmp_path: Path, sparse: Path, settings: Settings) -> None:
    more = {**READS, "reader.cross_encoder": str(tmp_path / "nothing")}
    with pytest.raises(ConfigError, match=r"no such folder '.*nothing'.*\(reader.cross_encoder\)"):
        run(tmp_path / "run", settings("http://127.0.0.1:9", **more), "read")


def test_reading_that_broke_off_asks_only_for_the_rest(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    answers: list[int] = []

    def breaks_off(messages: list[dict[str, Any]]) -> tuple[int, str]:
        answers.append(1)
        return reads_well(messages) if len(answers) <= 40 else (401, "no such key")

    server = fake_lm(breaks_off)
    with pytest.raises(BackendError):
        run(tmp_path / "run", settings(server.url, **READS), "read")
    answered_before = sum(row["error"] is None for row in read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))
    assert answered_before == 40
    server.answer, server.requests[:] = reads_well, []
    found = run(tmp_path / "run", settings(server.url, **READS), "read")
    assert len(server.requests) == found["read"]["calls"] - answered_before


def test_the_reason_for_no_trust_is_what_failed_alone() -> None:
    def doubts(kappa: float, order: float, interval: tuple[float, float] | None, lists: int = 2) -> str:
        values = {"q1": order, "q2": order} if lists else {}
        found = Agreement(lists, 6, 2, 2, 0, 2, 0, kappa, values, dict.fromkeys(values, 0.8))
        measured = Measured("lm", "dev", found, interval, 0.4, Cost(usd=None))
        assert ("kappa" in measured.table()) == bool(lists)
        return "; ".join(measured.doubts)

    assert doubts(0.3, 0.9, (0.1, 0.3)) == "kappa 0.30 (wanted 0.4)"
    assert (
        doubts(0.9, 0.9, (-0.01, 0.2))
        == "the gain of its order over the encoder's may be chance: +0.100 [-0.010, +0.200]"
    )
    assert doubts(0.9, 0.9, None) == "the gain of its order over the encoder's is known from one list alone"
    assert (
        doubts(0.3, 0.7, (-0.2, 0.0))
        == "kappa 0.30 (wanted 0.4); nDCG@10 of its order 0.700 against the encoder's 0.800"
    )
    assert doubts(0.0, 0.0, None, lists=0) == "none of its answers to 6 lists could be read"


@pytest.mark.parametrize(
    ("kappa", "order", "interval", "trusted"),
    [
        (0.5, 0.9, (0.0, 0.2), True),
        (0.3, 0.9, (0.1, 0.3), False),  # it cannot tell positives from negatives
        (0.9, 0.9, (-0.01, 0.2), False),  # its order may be worse than the encoder's
        (0.9, 0.8, (0.0, 0.0), False),  # it is the encoder's
        (0.9, 0.9, None, False),
    ],
)
def test_the_rule_of_trust(kappa: float, order: float, interval: tuple[float, float] | None, trusted: bool) -> None:
    found = Agreement(2, 0, 2, 2, 0, 2, 0, kappa, {"q1": order, "q2": order}, {"q1": 0.8, "q2": 0.8})
    measured = Measured("lm", "dev", found, interval, 0.4, Cost(usd=None))
    assert measured.trusted == trusted
    assert measured.table().splitlines()[-1].startswith("trusted" if trusted else "NOT trusted")
    assert bool(measured.doubts) != trusted
    assert max(map(len, measured.table().splitlines())) <= 80
    assert Measured.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def measured_from(marks: Sequence[tuple[int, int, int, int]]) -> Measured:
    """What is measured where (found, positives, false, checks) are `marks`, a list each, and the order is better."""
    found, positives, false, checks = map(sum, zip(*marks, strict=True))
    ids = [f"q{number:03}" for number in range(len(marks))]
    kappa = float(kappa_of([found, positives, false, checks]))
    orders = dict.fromkeys(ids, 0.9), dict.fromkeys(ids, 0.8)
    agreed = Agreement(
        len(ids), 0, positives, found, 0, checks, false, kappa, *orders, dict(zip(ids, marks, strict=True))
    )
    return Measured("lm", "dev", agreed, (0.1, 0.1), 0.4, Cost(usd=None))


def test_recall_and_kappa_have_intervals_over_queries() -> None:
    half = measured_from([(1, 1, 0, 1), (0, 1, 0, 1)] * 50)  # recall 1/2, its standard error over 100 queries 1/20
    low, high = half.recall_interval or (0, 0)
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.02)
    assert half.recall_interval == paired_interval([1.0, 0.0] * 50)  # one positive a query: a mean, by the same draws
    # of 200 passages, 150 right: (3/4 - 1/2) / (1 - 1/2) = 1/2; with the recall r, 1/2 r + 1/2 are right, so kappa is r
    assert half.agreement.kappa == pytest.approx(0.5) and half.kappa_interval == pytest.approx((low, high), abs=1e-9)
    row = next(row for row in half.table().splitlines() if "kappa" in row)
    assert row.endswith(f"0.50   [{low:.2f}, {high:.2f}], wanted 0.4") == (low >= 0.4)
    assert half.trusted and half.to_json()["kappa_interval"] == half.kappa_interval
    assert half.to_json()["recall_interval"] == half.recall_interval
    assert Measured.from_json(json.loads(json.dumps(half.to_json()))) == half


def test_intervals_are_the_same_after_reader_json_is_read() -> None:
    measured = measured_from([(number % 3, 2, number % 2, 1) for number in range(40)])
    marks = dict(reversed(measured.agreement.marks.items()))  # lists are not graded in the order of their ids
    made = replace(measured, agreement=replace(measured.agreement, marks=marks))
    kept = Measured.from_json(json.loads(json.dumps(made.to_json(), sort_keys=True)))
    assert (kept.recall_interval, kept.kappa_interval) == (made.recall_interval, made.kappa_interval)


def test_a_kappa_that_may_be_chance_is_not_trusted() -> None:
    few = measured_from([(1, 1, 0, 1), (0, 1, 0, 1), (1, 1, 1, 1), (1, 1, 0, 1)])
    assert few.agreement.kappa == 0.5 and few.kappa_interval is not None and few.kappa_interval[0] <= 0
    assert few.doubts == (f"kappa may be chance: 0.50 [{few.kappa_interval[0]:.2f}, {few.kappa_interval[1]:.2f}]",)
    assert not few.trusted and "may be under it" in few.table()
    assert measured_from([(1, 1, 0, 1)]).kappa_interval is None
    wide = measured_from([(1, 1, 0, 1), (0, 1, 0, 1)] * 6)
    assert wide.trusted and "wanted 0.4; may be under it" in wide.table()  # trusted as likely, and told that it is
    assert max(map(len, wide.table().splitlines())) <= 80


def test_the_choice_of_the_margin_sees_the_answers_that_a_trusted_reader_finds(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LEAST_PAIRS", 4)
    monkeypatch.setattr(windows, "LEAST_QUERIES", 4)
    seen: list[dict[str, Rate]] = []

    def choose(
        trials: object, config: MineConfig, measure: Callable[[dict[str, MineConfig]], dict[str, Rate]], line: object
    ) -> Choice:
        seen.append(dict(measure({window.name: window.of(config) for window in WINDOWS})))
        return Choice("95 % rule", (), "planted")

    monkeypatch.setattr(windows, "choose", choose)
    monkeypatch.setattr(windows, "trials_of", lambda *_: None)
    server = fake_lm(reads_well)

    def opened(name: str, **more: object) -> Run:
        values = settings(server.url, **{**READS, "mine.margin": "auto", **more})
        return Run(tmp_path / name, load_config(None, values), Progress(quiet=True))

    run_ = opened("run")
    run_.until("train")  # reads before it mines, although no stage asked for it yet
    relevant = run_.workspace.collection.relevant
    rows = [
        row for row in read_rows(tmp_path / "run" / "readings.jsonl") if row["doc_id"] not in relevant(row["query_id"])
    ]
    answers = {name: (rate.answers, rate.graded) for name, rate in seen[0].items()}
    graded = sum(of for _, of in answers.values())
    assert 9 < graded < len(rows)
    assert answers["no margin"][0] > 9 and answers["95 % rule"][0] == 0  # the copies of positives are over the rule
    opened("unread").until("mine")  # calls no LM
    opened("off", **{"reader.use": "off"}).until("mine")
    server.answer = all_three
    opened("bad").until("train")  # not trusted
    assert seen[1:] == [{}, {}, {}]
    given = {"reader.given": str(tmp_path / "run" / "readings.jsonl")}
    calls = len(server.requests)
    opened("given", **given).until("mine")
    assert seen[4:] == seen[:1] and len(server.requests) == calls


def test_a_strong_lm_reads_the_lists_in_doubt(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def in_haste(messages: list[dict[str, Any]]) -> tuple[int, str]:
        """All to 3 for half of the things, else as it should be."""
        query = re.findall(r"<data>(.*?)</data>", messages[-1]["content"])[0]
        return all_three(messages) if query.split(" a ")[1] < "lock" else reads_well(messages)

    cheap, strong, folder = fake_lm(in_haste), fake_lm(reads_well), tmp_path / "run"
    more = {**READS, "reader.strong": "openai/strong", "reader.strong_api_base": strong.url}
    planned = Run(folder, load_config(None, settings(cheap.url, **more)), Progress(quiet=True)).estimate("read")
    parts = {part["name"]: part for part in planned["parts"]}
    lists = sum(parts[name]["calls"]["likely"] for name in ("measure reader", "read"))
    assert parts["read in doubt"]["lm"] == "openai/strong"
    assert parts["read in doubt"]["calls"] == {"likely": pytest.approx(0.3 * lists), "most": 2 * lists}
    found = run(folder, settings(cheap.url, **more), "read")
    assert found["trusted"] and f"read again, in doubt    {found['in_doubt']:>6}   (no 2 or 3" in found["table"]
    rows = list(read_rows(folder / "ledger" / "calls.jsonl"))
    uses = {use: {row["model"].split("@")[0] for row in rows if row["use"] == use} for use in {r["use"] for r in rows}}
    assert uses["read in doubt"] == {"openai/strong"} and uses["read"] != uses["read in doubt"]
    doubted, looked = (sum(row["use"] == use for row in rows) for use in ("read in doubt", "look again"))
    assert 0.2 * len(cheap.requests) < doubted < 0.8 * len(cheap.requests)
    assert doubted + looked == len(strong.requests)
    assert found["read"]["calls"] == len(cheap.requests) + len(strong.requests)
    answered = {row["query_id"]: row["lm"] for row in read_rows(folder / "readings.jsonl")}
    assert {lm.split("@")[0] for lm in answered.values()} == {"openai/strong", "openai/fake"}
    after = Run(folder, load_config(None, settings(cheap.url, **more)), Progress(quiet=True)).estimate("read")
    assert not [part for part in after["parts"] if part["name"].startswith("read")]
    with pytest.raises(ConfigError, match="reads nothing where grades are given"):
        run(folder, settings(cheap.url, **{**more, "reader.given": str(folder / "readings.jsonl")}), "read")


def test_a_teacher_is_used_where_its_order_beats_the_encoders(
    tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    collection = load_collection(Config(collection={"dataset": str(sparse)}).collection, 0)

    def scored(sign: float) -> str:
        path = tmp_path / f"scores{sign}.jsonl"
        write_rows(path, [
            {"query_id": q, "doc_id": d, "score": sign * grade(query, text)}
            for q, query in collection.queries.items() for d, text in collection.passages.items()
            if grade(query, text) == 3 or crc32(f"{q} {d}".encode()) % 9 == 0
        ])  # fmt: skip
        return str(path)

    server, folder = fake_lm(reads_well), tmp_path / "run"
    arms = [f"mined@distil=1@teacher={scored(sign)}" for sign in (1.0, -1.0)]
    arms += ["verified@distil=1@teacher=reader", "mined"]
    found = run(folder, settings(server.url, **{**READS, "train.arms": json.dumps(arms), "train.evals": 1}), "verdict")
    assert found["left_out"] == [arms[1]]
    assert "the teacher's order of dev passages is no better" in (folder / "events.jsonl").read_text()
    assert found["arms"][arms[2]]["uses_lm"] and not found["arms"][arms[0]]["uses_lm"]
    with pytest.raises(ConfigError, match="teaches nothing with train.distil = 0"):
        load_config(None, ["train.teacher=reader"])
    with pytest.raises(DataError, match="base, reader, cross-encoder or a file"):
        run(
            tmp_path / "other",
            settings(server.url, **{**READS, "train.arms": '["mined@distil=1@teacher=nobody"]'}),
            "verdict",
        )
    with pytest.raises(ConfigError, match="set reader.cross_encoder"):
        run(
            tmp_path / "other",
            settings(server.url, **{**READS, "train.arms": '["mined@distil=1@teacher=cross-encoder"]'}),
            "verdict",
        )


def test_a_cross_encoder_teaches_mined_passages(
    tmp_path: Path, sparse: Path, settings: Settings, cross_encoder: str
) -> None:
    more = {
        **READS,
        "reader.cross_encoder": cross_encoder,
        "train.arms": '["mined@distil=1@teacher=cross-encoder", "mined"]',
    }
    found = run(tmp_path / "run", settings("http://127.0.0.1:9", **more), "verdict")
    kept = read_json(tmp_path / "run" / "teacher.json")
    ours, theirs, low, _ = kept["order"]
    assert (found["left_out"] == []) == (ours > theirs and low >= 0)
    values = [value for own in kept["scores"].values() for value in own.values()]
    assert len(values) > 200 and -2 < min(values) < 0.2 and 2.8 < max(values) < 5


def test_arms_at_equal_calls(tmp_path: Path, sparse: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> None:
    def both(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return reads_well(messages) if "passages" in messages[0]["content"] else write_negative(messages)

    server, folder = fake_lm(both), tmp_path / "run"
    arms = ["mined", "verified@calls=equal", "hybrid@calls=equal", "grounded@calls=equal"]
    more = {**READS, "train.arms": json.dumps(arms), "train.evals": 1, "generate.pairs": 12}
    found = run(folder, settings(server.url, **more), "verdict")
    wrote, read = (found["arms"][arm]["calls"] for arm in (arms[2], arms[1]))
    assert wrote == read == len(list(read_rows(folder / "negatives.jsonl"))) < len(queries_read(folder))
    assert f"At equal LM calls ({read} and {wrote}): " in found["sentence"]
    rows = list(read_rows(folder / "rows" / "verified@calls=equal-0.jsonl"))
    with_grades = {row["query_id"] for row in rows if {"read", "related"} & set(row["sources"])}
    written_for = {row["query_id"] for row in read_rows(folder / "negatives.jsonl")}
    assert with_grades <= written_for and len(written_for) == wrote
    grounded = list(read_rows(folder / "rows" / "grounded@calls=equal-0.jsonl"))
    near_texts = {row["query_id"] for row in grounded if "grounded" in row["sources"]}
    assert 0 < len(near_texts) <= wrote / 2  # it reads and writes for each query
    assert found["arms"]["grounded@calls=equal"]["calls"] == wrote
    for wrong in ("mined@calls=3", "hybrid@calls=none", "hybrid@calls=0"):
        with pytest.raises(ConfigError, match="calls"):
            arm(wrong, load_config())


def queries_read(folder: Path) -> set[str]:
    return {row["query_id"] for row in read_rows(folder / "readings.jsonl")}
