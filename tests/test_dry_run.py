from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, FakeLM, Fault

from syneg.core.errors import BudgetError, DataError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows, write_rows
from syneg.llm.engine import LedgerEngine
from syneg.llm.usage import count_tokens
from syneg.programs import PROGRAMS
from syneg.run.figures import Estimate, Figure, Part
from syneg.run.near_misses import other_program
from syneg.run.pipeline import Run
from syneg.run.prompt_sizes import expected_attempts

WRITER, JUDGE = "openai/gpt-4o-mini", "openai/gpt-4o"


def answer_to(prompt: str) -> dict[str, Any]:
    """A usable answer for every program and for the judge, who knows the relevant passages of the collection."""
    if "Judge whether" in prompt:
        query, passage = (part.partition("</data>")[0] for part in prompt.rsplit("<data>", 2)[1:])
        action, _, thing = query.split()[:3] if len(query.split()) == 3 else ("", "", "")
        relevant = bool(action) and passage.startswith(f"to {action} the {thing} ")
        return {"span": " ".join(passage.split()[:4]) if relevant else "NONE", "relevant": "yes" if relevant else "no"}
    thing = THINGS[sum(map(ord, prompt)) % len(THINGS)]
    text = f"the {thing} is merged twice and counted slowly"
    return {
        "hard_negative": text, "passage": text, "topic": f"how a {thing} is counted", "topics": [f"a {thing} counted"] * 3,
        "reasoning": "it shares words", "need": "an action", "requirements": ["an action", "a thing", "a way"],
        "better_instruction": f"Write about another thing, by rule {sum(map(ord, prompt))}.", "broken": "an action", "how": "action shift", "negatives": [{"reasoning": "it shares words", "hard_negative": text}],
    }  # fmt: skip


def counting(messages: list[dict[str, Any]]) -> Fault:
    """An answer whose usage is counted as a provider does."""
    prompt = "\n".join(str(message["content"]) for message in messages)
    said = json.dumps(answer_to(prompt))
    usage = {"prompt_tokens": count_tokens(prompt, WRITER), "completion_tokens": count_tokens(said, WRITER)}
    message = {"role": "assistant", "content": said}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
    return Fault(200, json.dumps(body).encode())


def opened(values: list[str], folder: Path) -> Run:
    return Run(folder, load_config(None, values), Progress(quiet=True))


def used(folder: Path) -> dict[str, float]:
    """What the ledger of a run says that it took."""
    rows = list(read_rows(folder / "ledger" / "calls.jsonl"))
    return {
        "calls": len(rows), "reads": sum(row["input_tokens"] for row in rows),
        "writes": sum(row["output_tokens"] for row in rows), "usd": sum(row["usd"] or 0 for row in rows),
    }  # fmt: skip


def assert_close(estimated: dict[str, Any], took: dict[str, float], factor: float = 1.5) -> None:
    for name, value in took.items():
        likely = estimated[name]["likely"]
        assert value / factor <= likely <= value * factor, f"{name}: {likely} estimated, {value} taken"
        assert value <= estimated[name]["most"], name


@pytest.fixture
def whole(settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]) -> tuple[FakeLM, list[str]]:
    """A run with two programs, near-misses of a third, and a judge of another price."""
    server = fake_lm(counting)
    return server, settings(
        server.url,
        **{
            "lm.model": WRITER, "judge.model": JUDGE, "judge.use": "on", "judge.sample": 16, "generate.program": "single_prompt",
            "generate.pairs": 24, "boundary.queries": 6, "boundary.program": "neighbour_topic", "train.epochs": 0.2,
            "train.arms": "mined,hybrid,hybrid@program=multi_attribute", "lm.adapter": "json",
        },
    )  # fmt: skip


def test_a_whole_run_is_estimated_within_a_factor_of_one_and_a_half(
    whole: tuple[FakeLM, list[str]], tmp_path: Path
) -> None:
    server, values = whole
    folder = tmp_path / "run"
    before = opened(values, folder).estimate()
    assert not server.requests
    uses = {part["name"]: part for part in before["parts"]}
    assert {"write single_prompt", "write multi_attribute", "write neighbour_topic", "calibrate judge", "judge"} <= {
        *uses
    }
    opened(values, folder).until("verdict")
    assert_close(uses["in all"], used(folder))
    asked = [body["model"] for body in server.requests]
    judged = sum(uses[name]["calls"]["likely"] for name in ("calibrate judge", "judge"))
    assert asked.count("gpt-4o") / 1.5 <= judged <= asked.count("gpt-4o") * 1.5
    after = opened(values, folder).estimate()
    assert after["parts"][-1]["calls"] == {"likely": 0, "most": 0}
    assert after["parts"][-1]["minutes"]["likely"] < 0.05


def test_each_lm_is_priced_as_itself(whole: tuple[FakeLM, list[str]], tmp_path: Path) -> None:
    _, values = whole
    parts = {part["name"]: part for part in opened(values, tmp_path / "run").estimate()["parts"]}
    cheap = [value for value in values if not value.startswith("judge.model")]
    by_writer = {part["name"]: part for part in opened(cheap, tmp_path / "other").estimate()["parts"]}
    dearer = parts["judge"]["usd"]["likely"] / by_writer["judge"]["usd"]["likely"]
    assert 15 < dearer < 20  # gpt-4o costs 16.7 times as much as gpt-4o-mini
    assert parts["write single_prompt"]["usd"] == by_writer["write single_prompt"]["usd"]
    compiling = [*cheap, "compile.optimizer=search", "reflection.model=openai/gpt-4o", "compile.pairs=8"]
    reflecting = {part["name"]: part for part in opened(compiling, tmp_path / "third").estimate()["parts"]}
    assert reflecting["reflect"]["lm"] == "openai/gpt-4o"
    assert {"compile", "confirm"} <= {*reflecting}
    unpriced = opened([*values, "judge.model=openai/own"], tmp_path / "fourth").estimate()
    assert unpriced["parts"][-1]["usd"] is None
    assert "dollars unknown" in unpriced["line"]


def test_half_a_run_leaves_half_of_the_calls(whole: tuple[FakeLM, list[str]], tmp_path: Path) -> None:
    server, values = whole
    folder, simple = tmp_path / "run", [*values, "train.arms=hybrid", "boundary.queries=0", "judge.use=off"]
    with pytest.raises(BudgetError):
        opened([*simple, "budget.calls=12"], folder).until("generate")
    assert len(server.requests) == 12
    left = opened(simple, folder).estimate("generate")["parts"][-1]
    opened(simple, folder).until("generate")
    took = len(server.requests) - 12
    assert took / 1.5 <= left["calls"]["likely"] <= took * 1.5
    changed = opened([*simple, "collection.task=Something else is relevant."], folder).estimate("generate")
    assert changed["parts"][-1]["calls"]["likely"] >= 24  # other prompts: nothing of it was asked


def test_a_compilation_is_estimated_within_its_budget(whole: tuple[FakeLM, list[str]], tmp_path: Path) -> None:
    server, values = whole
    more = ["judge.use=off", "compile.optimizer=search", "compile.pairs=8", "compile.confirm=false",
            "probe.queries=20", "probe.steps=2", "train.arms=hybrid"]  # fmt: skip
    found = opened([*values, *more], tmp_path / "run").estimate("compile")
    opened([*values, *more], tmp_path / "run").until("compile")
    took, likely = len(server.requests), found["parts"][-1]["calls"]["likely"]
    assert took / 1.5 <= likely <= took * 1.5
    done = opened([*values, *more], tmp_path / "run").estimate("compile")
    assert done["parts"][-1]["calls"]["most"] == 0


def test_the_estimate_is_said_once_before_the_first_call(
    whole: tuple[FakeLM, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, values = whole
    asked_when_said: list[int] = []
    progress = Progress()
    say = progress.say

    def heard(text: str) -> None:
        if "estimate:" in text:
            asked_when_said.append(len(server.requests))
        say(text)

    progress.say = heard  # type: ignore[method-assign]
    simple = [*values, "judge.use=off", "boundary.queries=0"]
    Run(tmp_path / "run", load_config(None, simple), progress).until("generate")
    assert asked_when_said == [0]
    assert "tokens in" in " ".join(capsys.readouterr().err.split())
    Run(tmp_path / "run", load_config(None, simple), progress).until("generate")  # nothing is left to ask
    assert asked_when_said == [0]


def test_all_attempts_and_all_negatives_of_a_call_are_in_the_greatest_value(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = settings("http://127.0.0.1:9/v1", **{"generate.pairs": 10, "lm.model": WRITER, "generate.per_pair": 3})
    part = opened(values, tmp_path / "run").estimate("generate")["parts"][-1]
    assert part["calls"]["most"] == 10 * 2 * 3
    one = opened([*values, "generate.per_pair=1"], tmp_path / "run").estimate("generate")["parts"][-1]
    assert part["writes"]["most"] == pytest.approx(
        9 * one["writes"]["most"]
    )  # three times the calls, each of three texts


def test_an_empty_shard_and_a_run_of_mined_negatives_ask_nothing(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = settings("http://127.0.0.1:9/v1", **{"generate.pairs": 4, "generate.shard": "8/8"})
    assert opened(values, tmp_path / "run").estimate("generate")["parts"][-1]["calls"]["most"] == 0
    mined = opened([*settings("http://127.0.0.1:9/v1"), "train.arms=mined"], tmp_path / "other").estimate()
    assert "no LM would be called" in mined["table"]
    assert [part["name"] for part in mined["parts"]] == ["mine", "train 1 model", "evaluate 1 model", "in all"]
    assert all(part["minutes"]["likely"] > 0 for part in mined["parts"])


def test_calls_of_an_embedded_lm_share_the_cores(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    minutes = []
    for concurrency in (1, 4):
        own = {"lm.model": "local/qwen2.5-coder-1.5b", "lm.concurrency": concurrency, "evaluate.folds": 5}
        values = [line for line in settings("", **own) if "api_base" not in line]
        parts = opened(values, tmp_path / str(concurrency)).estimate("generate")["parts"]
        (writing,) = (part for part in parts if part["name"].startswith("write "))
        minutes.append(writing["minutes"]["likely"])
    assert minutes[0] / minutes[1] == pytest.approx(1.3)


def test_what_is_written_for_folds_has_a_name_of_its_own(settings: Callable[..., list[str]], tmp_path: Path) -> None:
    rows = [
        f"{action} a {thing},to {action} the {thing} it is {action} again" for thing in THINGS for action in ACTIONS
    ]
    (tmp_path / "pairs.csv").write_text("query,positive\n" + "\n".join(rows[:40]) + "\n")
    own = {"collection.dataset": tmp_path / "pairs.csv", "evaluate.folds": 5, "lm.adapter": "json"}
    names = [
        part["name"] for part in opened(settings("http://127.0.0.1:9/v1", **own), tmp_path / "run").estimate()["parts"]
    ]
    assert {"write single_prompt", "write single_prompt, folds"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("passing", "wanted", "most", "calls"),
    [(1.0, 3, 6, 1.0), (0.5, 1, 2, 1.5), (0.0, 1, 2, 2.0), (0.5, 2, 2, 1.75)],
)
def test_expected_attempts(passing: float, wanted: int, most: int, calls: float) -> None:
    assert expected_attempts(passing, wanted, most) == pytest.approx(calls)


def test_an_estimate_in_words() -> None:
    writing = Part(
        "write x", "m", Figure(52, 80), Figure(31_000, 48_000), Figure(9_100, 20_000), Figure(0.02, 0.05), Figure(6, 9)
    )
    found = Estimate((writing, Part("mine", minutes=None)), ("assumed: much",))
    assert found.line() == (
        "estimate: 52 LM calls (at most 80), 31k tokens in, 9100 out, $0.02 (at most $0.05), 6.0 minutes without mine"
    )
    rows = found.table().splitlines()
    assert all(len(row) <= 80 for row in rows)
    assert rows[-1] == "assumed: much"
    assert "unknown" in rows[2]


def test_a_long_name_keeps_its_end_which_tells_it_from_others() -> None:
    names = [f"write /home/someone/project/runs/first/program.json{end}" for end in ("", ", folds")]
    whole = Estimate(tuple(Part(name, minutes=None) for name in names)).table().splitlines()
    assert [row[:32].rstrip() for row in whole[1:3]] == [
        "write …t/runs/first/program.json",
        "write …first/program.json, folds",
    ]


def test_near_misses_beside_four_arms_come_from_a_further_program() -> None:
    arms = ["multi_attribute", "neighbour_rewrite", "neighbour_topic", "requirement_break"]
    assert other_program(["multi_attribute"]) == "requirement_break"
    assert other_program(arms) not in {*arms, ""}
    assert other_program(list(PROGRAMS)) == ""


def test_answers_of_a_batch_took_no_time_here_and_leave_the_minutes_assumed(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = settings("http://127.0.0.1:9/v1", **{"generate.pairs": 10, "lm.model": WRITER})
    row = {"attempt": 0, "model": f"{WRITER}@default", "input_tokens": 300, "output_tokens": 50, "seconds": 0.0, "usd": 0.0,
           "answer": "x", "finish_reason": "stop", "error": None, "use": "write single_prompt"}  # fmt: skip
    write_rows(
        tmp_path / "run" / "ledger" / "calls.jsonl", [{**row, "key": f"{i}", "query_id": f"{i}"} for i in range(6)]
    )
    found = opened(values, tmp_path / "run").estimate("generate")
    part = next(part for part in found["parts"] if part["name"] == "write single_prompt")
    assert part["reads"]["likely"] == pytest.approx(300 * part["calls"]["likely"])
    assert part["minutes"]["likely"] > 0
    assert "tokens a second" in found["table"].replace("\n ", "")


def test_an_embedded_lm_is_taken_to_write_less_than_it_is_asked_for(
    settings: Callable[..., list[str]], tmp_path: Path
) -> None:
    def written(model: str) -> float:
        more = {"lm.model": model, "generate.program": "single_prompt", "judge.use": "off", "boundary.queries": 0}
        run = opened(settings("http://127.0.0.1:9/v1", **more), tmp_path / model.replace("/", "-"))
        whole = run.estimate("generate")["parts"][-1]
        return float(whole["writes"]["likely"] / whole["calls"]["likely"])

    assert written("local/qwen2.5-coder-1.5b") < 0.7 * written("openai/gpt-4o-mini")


def test_an_estimate_does_not_hide_an_error_that_ends_the_run(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_lm()
    opened(settings(server.url, **{"generate.pairs": 2}), tmp_path / "run").until("generate")
    more = opened(settings(server.url, **{"generate.pairs": 6}), tmp_path / "run")
    assert more.estimate("generate")["parts"][0]["calls"]["likely"] >= 4  # the ledger answers for two of six

    def damaged(engine: LedgerEngine, request: object) -> None:
        raise DataError("not valid JSON", where="calls.jsonl, byte 0")

    monkeypatch.setattr(LedgerEngine, "complete", damaged)
    with pytest.raises(DataError, match="not valid JSON"):
        more.estimate("generate")
