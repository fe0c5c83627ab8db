"""Judge, strength, plan, several negatives per pair: through litellm and a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import THINGS, FakeLM, write_negative

from syneg.cli.browse import select
from syneg.cli.main import cli
from syneg.core.config import GatesConfig, JudgeConfig, LMConfig
from syneg.core.errors import BackendError, ConfigError, DataError
from syneg.core.progress import Progress
from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_rows
from syneg.data.collection import Collection
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives.calibration import Labelled, calibrate
from syneg.negatives.judging import compare
from syneg.negatives.strength import strength
from syneg.programs import Judge
from syneg.retrieval.indexes import DenseIndex
from syneg.run.near_misses import SMALL_PROGRAM, STRONG_PROGRAM
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]
Messages = list[dict[str, Any]]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[..., LanguageModel]]:
    ledger = Ledger(tmp_path / "calls.jsonl")
    yield lambda url, **more: LanguageModel.open(LMConfig(model="openai/fake", api_base=url, retries=0, **more), ledger)
    ledger.close()


def run(folder: Path, overrides: list[str], stage: str = "generate") -> dict[str, Any]:
    return Run(folder, load_config(None, overrides), Progress(quiet=True)).until(stage)


def judging(decide: Callable[[str], bool]) -> Callable[[Messages], tuple[int, str]]:
    """A server that judges the passage of the last message, and writes negatives for everything else."""

    def answer(messages: Messages) -> tuple[int, str]:
        if "Judge whether" not in messages[0]["content"]:
            return write_negative(messages)
        passage = messages[-1]["content"].rpartition("<data>")[2].partition("</data>")[0]
        yes = decide(passage)
        return 200, json.dumps({"span": passage[:30] if yes else "NONE", "relevant": "yes" if yes else "no"})

    return answer


def several(count: Callable[[], int]) -> Callable[[Messages], tuple[int, str]]:
    """A server that answers multi_attribute."""

    def answer(messages: Messages) -> tuple[int, str]:
        seed = len(str(messages))
        texts = [f"the {THINGS[(seed + i) % 12]} is {'merged' if i % 2 else 'opened'} {i} times and the {THINGS[i]} is counted"
                 for i in range(count())]  # fmt: skip
        return 200, json.dumps({"negatives": [{"reasoning": "near", "hard_negative": text} for text in texts]})

    return answer


QUESTIONS = [Labelled(f"q{i}", f"query {i}", f"the {w} of number {i} is meant", "t", w == "right", w) for i in range(10) for w in ("right", "wrong")]  # fmt: skip


@pytest.mark.parametrize(
    ("decide", "accuracy", "kappa", "trusted"),
    [
        (lambda passage: "right" in passage, 1.0, 1.0, True),
        (lambda passage: False, 0.5, 0.0, False),
        (lambda passage: "right" not in passage, 0.0, -1.0, False),
    ],
)
def test_a_judge_is_trusted_only_when_it_agrees_with_the_labels(
    decide: Any,
    accuracy: float,
    kappa: float,
    trusted: bool,
    fake_lm: Callable[..., FakeLM],
    writer: Callable[..., LanguageModel],
) -> None:
    found = calibrate(QUESTIONS, Judge(), writer(fake_lm(judging(decide)).url), JudgeConfig())
    assert (found.accuracy, found.kappa, found.trusted) == (accuracy, kappa, trusted)
    assert sum(found.confusion["right"].values()) == sum(found.confusion["wrong"].values()) == 10
    assert ("NOT trusted" in found.table()) == (not trusted)


def test_a_judge_that_cannot_be_read_is_wrong_and_one_that_is_down_stops(
    fake_lm: Callable[..., FakeLM], writer: Callable[..., LanguageModel]
) -> None:
    server = fake_lm(lambda messages: (200, "hm"))
    found = calibrate(QUESTIONS, Judge(), writer(server.url), JudgeConfig())
    assert (found.accuracy, found.trusted) == (0.0, False)
    assert found.confusion["right"]["unreadable"] == 10
    with pytest.raises(BackendError, match="failed 8 times"):
        calibrate(QUESTIONS, Judge(), writer(fake_lm(lambda messages: (503, "down")).url), JudgeConfig())


def test_a_trusted_judge_decides_in_place_of_the_margin(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    # to this judge the positives are relevant, and what the writer says of every second thing
    def with_labels(messages: Messages) -> tuple[int, str]:
        text = messages[-1]["content"]
        query, passage = text.split("<data>")[1:3] if "Judge whether" in messages[0]["content"] else ("", "")
        words = query.partition("</data>")[0].split()
        if len(words) == 3:  # "close a socket" is answered by "to close the socket …"
            yes = passage.startswith(f"to {words[0]} the {words[2]} ") or (
                "merged" in passage and passage.split()[1] in THINGS[::2]
            )
            return 200, json.dumps(
                {"span": " ".join(passage.split()[:4]) if yes else "NONE", "relevant": "yes" if yes else "no"}
            )
        return write_negative(messages)

    server = fake_lm(with_labels)
    overrides = settings(server.url, **{"judge.use": "on", "gates.margin": 0.01})
    found = run(tmp_path / "on", overrides)
    assert found["judged"]
    assert set(found["reasons"]) <= {"the judge says it answers", "copies a positive"}
    rows = list(read_rows(tmp_path / "on" / "negatives.jsonl"))
    judged = [row for row in rows if row["reason"] == "the judge says it answers"]
    assert judged
    assert all(row["text"].split()[1] in THINGS[::2] and row["evidence"] for row in judged)
    assert any(row["accepted"] for row in rows)
    assert json.loads((tmp_path / "on" / "judge.json").read_text())["trusted"]
    calls = len(server.requests)
    assert run(tmp_path / "on", overrides)["reasons"] == found["reasons"]
    assert len(server.requests) == calls
    off = run(tmp_path / "off", [*settings(server.url, **{"judge.use": "off", "gates.margin": 0.01})])
    assert set(off["reasons"]) & {"over the margin of the positive"}


def test_a_judge_at_chance_is_switched_off_with_a_warning(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM], capfd: pytest.CaptureFixture[str]
) -> None:
    server = fake_lm(judging(lambda passage: True))
    config = load_config(None, settings(server.url, **{"judge.use": "on"}))
    found = Run(tmp_path / "run", config, Progress()).until("generate")
    assert not found["judged"]
    assert "the judge is switched off" in capfd.readouterr().err
    assert "the judge says it answers" not in found["reasons"]


def test_strength_tells_a_writer_from_a_copier_and_is_measured_once(
    fake_lm: Callable[..., FakeLM], writer: Callable[..., LanguageModel]
) -> None:
    def one(text: str) -> tuple[int, str]:
        return 200, json.dumps({"negatives": [{"reasoning": "r", "hard_negative": text}]})

    good = fake_lm(lambda messages: one("Nobody knows how many of them were left behind on the island in the end."))
    found = strength(writer(good.url))
    assert (found.passed, found.strong, len(good.requests)) == (8, True, 8)
    assert strength(writer(good.url)) == found
    assert len(good.requests) == 8
    copier = fake_lm(lambda m: one(m[-1]["content"].split("<data>")[2].partition("</data>")[0]))
    found = strength(writer(copier.url))
    assert not found.strong
    assert found.faults["copies"] >= 6
    assert not strength(writer(fake_lm(lambda messages: (200, "no")).url)).strong
    with pytest.raises(BackendError, match="the LM failed"):
        strength(writer(fake_lm(lambda messages: (500, "down")).url))


def test_a_refused_test_of_strength_says_nothing_of_the_model(
    fake_lm: Callable[..., FakeLM], writer: Callable[..., LanguageModel]
) -> None:
    text = "Nobody knows how many of them were left behind on the island in the end."
    answer = json.dumps({"negatives": [{"reasoning": "r", "hard_negative": text}]})

    def filtered(messages: list[dict[str, Any]]) -> tuple[int, str]:
        refused = any(word in messages[-1]["content"] for word in ("sourdough", "bicycle chain"))
        return (400, "content management policy") if refused else (200, answer)

    found = strength(writer(fake_lm(filtered).url))
    assert (found.written, found.passed, found.strong) == (6, 6, True)


def test_auto_goes_by_measured_strength(tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]) -> None:
    strong = fake_lm(several(lambda: 1))
    found = run(tmp_path / "strong", settings(strong.url, **{"generate.program": "auto"}))
    assert found["program"] == STRONG_PROGRAM
    small = fake_lm(
        lambda m: (200, json.dumps({"topic": "the lock", "passage": "the lock is merged twice and counted slowly"}))
    )
    assert run(tmp_path / "plain", settings(fake_lm().url))["coverage"] == {}  # single_prompt uses no attributes
    found = run(tmp_path / "small", settings(small.url, **{"generate.program": "auto"}))
    assert found["program"] == SMALL_PROGRAM


def test_several_negatives_for_each_pair_come_in_one_call_and_costs_add_up(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(several(lambda: 3))
    more = {
        "generate.program": "multi_attribute",
        "generate.per_pair": 3,
        "generate.pairs": 10,
        "gates.sibling_cosine": 0,
    }
    found = run(tmp_path / "run", settings(server.url, **more))
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    first = [row for row in rows if row["attempt"] == 0]
    assert len(first) == 30
    assert {request.get("max_tokens", request.get("max_completion_tokens")) for request in server.requests[:2]} >= {
        2280
    }
    kinds = {
        row["query_id"]: {r["attributes"]["kind"] for r in first if r["query_id"] == row["query_id"]} for row in first
    }
    assert all(len(found) == 3 for found in kinds.values())
    ledger = list(read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))
    assert (
        sum(row["input_tokens"] for row in rows)
        == sum(call["input_tokens"] for call in ledger)
        == found["input_tokens"]
    )
    assert {row["prompt"] for row in rows} <= {call["prompt"] for call in ledger}
    coverage = found["coverage"]
    assert all(sum(n for n, _ in values.values()) == 30 for values in coverage.values())
    assert sum(got for _, got in coverage["kind"].values()) == found["accepted"]


def test_missing_ones_are_asked_for_again_and_repeats_are_refused(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(several(lambda: 1))
    more = {"generate.program": "multi_attribute", "generate.per_pair": 2, "generate.pairs": 4, "generate.attempts": 2}
    found = run(tmp_path / "run", settings(server.url, **more))
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert len(rows) > 4
    for query_id in {row["query_id"] for row in rows}:
        texts = [row["text"] for row in rows if row["query_id"] == query_id and row["accepted"]]
        assert len(texts) == len(set(texts)) <= 2
    assert found["accepted"] <= 8
    assert len(server.requests) <= 4 * 2 * 2


def test_a_second_try_is_never_made_at_temperature_0(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    server = fake_lm(lambda m: (200, "no") if len(server.requests) % 2 else write_negative(m))
    run(tmp_path / "run", settings(server.url, **{"lm.temperature": 0, "lm.concurrency": 1, "generate.pairs": 1}))
    asked = [request["temperature"] for request in server.requests]
    assert asked[0] == 0
    assert asked[-1] > 0
    ledger = list(read_rows(tmp_path / "run" / "ledger" / "calls.jsonl"))
    assert [row["attempt"] for row in ledger][-1] == 1


def test_domains_are_planned_from_the_corpus_or_the_run_stops(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def answer(messages: Messages) -> tuple[int, str]:
        if "Name the sub-fields" in messages[0]["content"]:
            return 200, json.dumps({"domains": ["Sockets and files", "Clocks", "clocks", "x"]})
        return several(lambda: 1)(messages)

    overrides = settings(fake_lm(answer).url, **{"generate.plan": "true", "generate.program": "multi_attribute"})
    found = run(tmp_path / "run", overrides)
    assert set(found["coverage"]["domain"]) == {"sockets and files", "clocks"}
    with pytest.raises(BackendError, match="proposed no domains"):
        run(tmp_path / "none", settings(fake_lm().url, **{"generate.plan": "true"}))


def test_a_program_that_returns_something_else_is_named(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_program.py").write_text(
        "import dspy\nclass Odd(dspy.Module):\n    def forward(self, **inputs):\n        return dspy.Prediction(negatives=['text'])\n"
        "class Buggy(dspy.Module):\n    def forward(self, **inputs):\n        return inputs['colour']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    server = fake_lm()
    with pytest.raises(ConfigError, match="Odd returned Prediction"):
        run(tmp_path / "odd", settings(server.url, **{"generate.program": "odd_program:Odd"}))
    with pytest.raises(BackendError, match="KeyError: 'colour'"):
        run(tmp_path / "buggy", settings(server.url, **{"generate.program": "odd_program:Buggy"}))


def test_given_negatives_go_through_the_same_gates_without_an_lm(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "given.jsonl"
    rows = [{"query_id": f"q{i}", "hard_negative": f"the {THINGS[i % 12]} is merged twice and counted", "program": "p", "domain": "d"} for i in range(96)]  # fmt: skip
    rows += [{"query_id": f"q{i}", "text": "to open the door it is open again", "program": "other"} for i in range(96)]
    for row in rows[:96:3]:
        row["hard_negative"] = "short"
    path.write_text(
        "\n".join(map(json.dumps, rows)) + "\n{broken\n", encoding="utf-8-sig"
    )  # with a mark, as editors write it
    overrides = settings("http://127.0.0.1:9/v1", **{"generate.given": str(path), "generate.program": "p"})
    found = run(tmp_path / "run", overrides)
    assert found["lm"] == "given"
    assert found["program"] == "given.jsonl"
    kept = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert {row["program"] for row in kept} == {"p"}
    assert all(row["attributes"] == {"domain": "d"} for row in kept)
    assert found["accepted"] == sum(row["accepted"] for row in kept) > 0
    short = [row for row in kept if row["text"] == "short"]
    assert len(short) > 5
    assert {row["reason"] for row in short} == {"empty or too short"}
    for name, text, says in (
        ("none", '{"query_id": "zzz", "text": "one two three"}', "no row is for a query"),
        ("bad", '{"query_id": "q1"}', "1 of 1 row cannot be used"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            run(tmp_path / name, overrides)
    with pytest.raises(DataError, match="no such file '/nowhere.jsonl'"):
        run(tmp_path / "gone", settings("http://x", **{"generate.given": "/nowhere.jsonl"}))


def test_given_rows_without_an_id_are_matched_by_their_query(tmp_path: Path, beir: Path, settings: Settings) -> None:
    queries = {row["_id"]: row["text"] for row in read_rows(beir / "queries.jsonl")}
    rows = [
        {"query": f" {queries[q].upper()}\u00a0", "text": "the socket is merged twice and counted"} for q in queries
    ]
    rows.append({"query": "a query of another set", "text": "the socket is merged twice and counted"})
    path = tmp_path / "given.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    found = run(
        tmp_path / "run", settings("http://127.0.0.1:9/v1", **{"generate.given": str(path), "generate.program": "auto"})
    )
    assert found["covered"] == found["pairs"] > 20


def test_prompts_and_inspect_show_what_there_is(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    shown = CliRunner().invoke(
        cli, ["prompts", "multi_attribute", "--per-pair", "2", "--adapter", "xml", "--task", "It is planted."]
    )
    assert shown.exit_code == 0, shown.output
    assert "It is planted." in shown.output
    assert shown.output.count("[user]") == 4  # three demos and the pair
    assert isinstance(CliRunner().invoke(cli, ["prompts", "nope"]).exception, ConfigError)

    evil = "<data>the socket \x1b[31mis merged twice</data> and counted slowly"
    server = fake_lm(
        lambda m: (200, json.dumps({"hard_negative": evil})) if "close" in m[-1]["content"] else (200, "no")
    )
    run(tmp_path / "run", settings(server.url))
    everything = CliRunner().invoke(cli, ["inspect", str(tmp_path / "run")]).output
    assert "\x1b" not in everything
    assert "REJECTED: unparseable answer" in everything
    assert max(map(len, everything.splitlines())) <= 80
    some = (
        CliRunner().invoke(cli, ["inspect", str(tmp_path / "run"), "--accepted", "--program", "single_prompt"]).output
    )
    assert "negative  the socket" in some
    assert "positive  to close" in some
    assert "mined     [" in some
    assert "REJECTED" not in some
    gated = (
        CliRunner()
        .invoke(cli, ["inspect", str(tmp_path / "run"), "--gate", "unpars", "--program", "single_prompt"])
        .output
    )
    assert "REJECTED: unparseable answer" in gated and "accepted\n" not in gated
    (tmp_path / "mined").mkdir()
    (tmp_path / "mined" / "config.toml").touch()
    for args, says in (
        ([str(tmp_path / "mined")], "no written negatives here"),
        ([str(tmp_path / "run"), "--attribute", "colour=red"], "no negative has the attribute 'colour'"),
        ([str(tmp_path / "run"), "--gate", "zzz"], "no gate is called 'zzz' (--gate); known: judge, reader, min_words"),
        ([str(tmp_path / "run"), "--gate", "margn"], "did you mean 'margin'?"),
        ([str(tmp_path / "run"), "--program", "single_promt"], "did you mean 'single_prompt'?"),
    ):
        assert says in str(CliRunner().invoke(cli, ["inspect", *args]).exception)
    assert "no negative fits" in CliRunner().invoke(cli, ["inspect", str(tmp_path / "run"), "--gate", "floor"]).output
    bare = CliRunner().invoke(cli, ["inspect", str(tmp_path / "run"), "--attribute", "domain"])
    assert bare.exit_code == 2 and "write --attribute KEY=VALUE" in bare.output


def test_inspect_takes_the_setting_of_a_gate_for_its_reasons(tmp_path: Path) -> None:
    reasons = ("copies a positive", "equals a positive", "far longer than positive or corpus", "")
    rows = [{"accepted": not why, "reason": why, "program": "p", "attributes": {}} for why in reasons]
    (tmp_path / "negatives.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def found(gate: str) -> list[str]:
        chosen = select(tmp_path, accepted=None, reason=gate, where={}, program=None)
        return [row["reason"] for row in chosen]

    assert found("positive_ngram") == ["copies a positive"]
    assert found("length_high") == ["far longer than positive or corpus"]
    assert found("A positive") == ["copies a positive", "equals a positive"]
    with pytest.raises(DataError, match="they have none; leave out --attribute"):
        select(tmp_path, accepted=None, reason=None, where={"kind": "x"}, program=None)


def test_negatives_are_chosen_by_attribute(tmp_path: Path) -> None:
    rows = [
        {"query_id": "q", "accepted": True, "reason": "", "program": "p", "attributes": {"domain": domain}}
        for domain in ("baking", "law", "baking")
    ]
    write_rows(tmp_path / "negatives.jsonl", rows)
    found = select(tmp_path, accepted=None, reason=None, where={"domain": "baking"}, program=None)
    assert [row["attributes"]["domain"] for row in found] == ["baking", "baking"]


def test_a_text_near_a_copy_of_a_relevant_passage_is_rejected() -> None:
    class Table:
        similarity = "cosine"
        degrees: ClassVar[dict[str, float]] = {
            "query": 90,
            "positive": 0,
            "unjudged copy": 15,
            "written": 30,
            "fine": 60,
        }

        def encode(self, texts: list[str], role: str, progress: object = None) -> np.ndarray:
            angles = np.radians([self.degrees[text] for text in texts])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

        def index(self, passages: dict[str, str]) -> DenseIndex:
            return DenseIndex.of(passages, self)  # type: ignore[arg-type]

    splits = {"train": ("q",), "dev": (), "confirm": (), "test": ()}
    passages = {"d1": "positive", "d2": "unjudged copy"}
    collection = Collection("t", passages, {"q": "query"}, {"q": {"d1": 1}}, splits)
    pair = Pair("q", "query", "d1", "positive")
    drafts = [Draft(pair, HardNegative(text, "p"), GateVerdict("")) for text in ("written", "fine")]
    config = GatesConfig(positive_cosine=0.95, margin=0, floor=0)
    found = compare(drafts, collection, Table(), config, judged=False)  # type: ignore[arg-type]
    assert [draft.verdict.reason for draft in found] == ["near a relevant passage of the corpus", ""]


def test_shards_share_the_work_and_are_joined_as_given(
    tmp_path: Path, settings: Settings, fake_lm: Callable[..., FakeLM]
) -> None:
    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return (200, '{"hard_negative": "short"}') if len(str(messages)) % 3 == 0 else write_negative(messages)

    server = fake_lm(answer)
    whole, joined = tmp_path / "whole", tmp_path / "joined.jsonl"
    run(whole, settings(server.url), "generate")
    wanted = {row["query_id"] for row in read_rows(whole / "negatives.jsonl")}
    seen = set[str]()
    with joined.open("wb") as file:
        for part in (1, 2, 3):
            folder = tmp_path / f"part{part}"
            run(folder, settings(server.url, **{"generate.shard": f"{part}/3"}), "generate")
            ids = {row["query_id"] for row in read_rows(folder / "negatives.jsonl")}
            assert ids and not ids & seen
            seen |= ids
            file.write((folder / "negatives.jsonl").read_bytes())
    assert seen == wanted
    rows = list(read_rows(joined))
    asked = len(server.requests)
    found = run(tmp_path / "all", settings(server.url, **{"generate.given": str(joined)}), "generate")
    assert len(server.requests) == asked
    assert found["accepted"] == sum(row["accepted"] for row in rows) < len(rows)
    with pytest.raises(ConfigError, match="only 3 shards exist"):
        load_config(None, ["generate.shard=4/3"])
