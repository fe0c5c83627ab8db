"""Every recipe to the end, driven by a scripted LM over HTTP; a planted case that each of them has to find."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ACTIONS, THINGS, FakeLM, Fault

from syneg.core.config import GatesConfig
from syneg.core.errors import BackendError, BudgetError, ConfigError, DataError
from syneg.core.progress import Progress, Tick
from syneg.core.records import Draft, GateVerdict, HardNegative, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows, write_rows
from syneg.llm.budget import Budget
from syneg.negatives.gating import Gating
from syneg.optimizers import RECIPES, Candidate, Critic, Judgement, Objective, Score, WriterTarget
from syneg.optimizers.compiling import Compiling
from syneg.optimizers.guards import FENCE, check_floor, copies_corpus, fences_of, keep_fence
from syneg.optimizers.objective import held_out_queries
from syneg.optimizers.probe import BOUNDARY
from syneg.optimizers.register import Register
from syneg.optimizers.search import choose, ordered
from syneg.programs import SinglePrompt, load_program
from syneg.retrieval.metrics import MAIN_METRIC
from syneg.run.compile_writer import WriterPlan
from syneg.run.compiled import Outcome
from syneg.run.confirming import with_deciders
from syneg.run.near_misses import compiling_origin
from syneg.run.pipeline import Run
from syneg.run.trial import Trials
from syneg.verdict.confirmed import Confirmed

QUERY = rf"({'|'.join(ACTIONS)}) a ({'|'.join(THINGS)})"
GOOD = "Write about the same action on another thing: a NEARMISS."


def query_in(text: str) -> tuple[str, str]:
    """The last "ACTION a THING" of a prompt, which is the query asked about."""
    return re.findall(QUERY, text)[-1]


def negative_for(text: str) -> str:
    """False ones, which say what the positive says, until the prompt (instruction or demos) shows how."""
    action, thing = query_in(text)
    other = THINGS[(THINGS.index(thing) + 3) % len(THINGS)]
    lucky = (ACTIONS.index(action) + THINGS.index(thing)) % 4 == 0
    if "NEARMISS" in text or lucky:
        return f"slowly and twice it is to {action} the {other} again NEARMISS"
    return f"slowly, to {action} the {thing}: again and again it is {action}"


def scripted(messages: list[dict[str, Any]]) -> tuple[int, str]:
    """Reads which fields are asked for, and fills them."""
    text = "\n".join(str(m["content"]) for m in messages)
    if (
        re.search(QUERY, text)
        and "hard_negative" in text
        and "proposed_instruction" not in text
        and "better_instruction" not in text
        and "```" not in text[-600:]
    ):
        return 200, json.dumps({"hard_negative": negative_for(text)})
    values = {
        "proposed_instruction": GOOD, "proposed_prefix_for_output_field": "Passage:", "better_instruction": GOOD,
        "observations": "Queries about things.", "summary": "Things.", "program_description": "It writes.", "module_description": "It writes.",
        "discussion": "Some are false.", "module_advice": {"program.write": GOOD, "write": GOOD, "program": GOOD, "self": GOOD},
    }  # fmt: skip
    asked = {name: value for name, value in values.items() if name in text}
    if asked:
        return 200, json.dumps(asked)
    return 200, f"```\n{GOOD}\n```"


@pytest.fixture
def opened(tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]) -> Callable[..., Run]:
    def build(answer: Callable[..., Any] = scripted, **more: object) -> Run:
        server = fake_lm(answer)
        values = {"lm.adapter": "json", "compile.pairs": 24, "compile.proposals": 6, "compile.threshold": 0.4, "probe.steps": 16, "probe.passages": 96,
                  "probe.learning_rate": 0.01, "gates.positive_cosine": 0, "train.evals": 1, "compile.confirm_seeds": 1, **more}  # fmt: skip
        run = Run(tmp_path / "run", load_config(None, settings(server.url, **values)), Progress(quiet=True))
        run.server = server  # type: ignore[attr-defined]
        return run

    return build


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "none"])
def test_every_recipe_finds_the_planted_instruction(recipe: str, opened: Callable[..., Run]) -> None:
    if recipe == "mipro":
        pytest.importorskip("optuna")
    run = opened(**{"compile.optimizer": recipe, "compile.confirm": "false"})
    found = run.until("compile")
    first, best = found["candidates"][0], max(found["candidates"], key=lambda c: c["critic"])
    assert found["won"], [(c["critic"], c["gain"]) for c in found["candidates"]]
    assert best["critic"] > first["critic"]
    assert best["gain"] > first["gain"] - best["error"]  # 24 pairs and 14 dev queries cannot tell them apart
    saved = read_json(run.folder / "program.json")
    assert saved["manifest"]["compiled"]["optimizer"] == recipe
    assert "NEARMISS" in json.dumps(saved)
    assert all(
        "Text between <data> and </data>" in " ".join(text.split())
        for c in found["candidates"]
        for text in c["instructions"].values()
    )
    again = load_program(str(run.folder / "program.json"))
    assert [p.signature.instructions for p in again.predictors()] == [
        saved[n]["signature"]["instructions"] for n, _ in again.named_predictors()
    ]
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    assert run.until("compile")["won"] and len(run.server.requests) == calls  # type: ignore[attr-defined]


def test_gepa_takes_the_objective_where_a_batch_is_large_enough(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"compile.optimizer": "gepa", "compile.confirm": "false", "compile.proposals": 2}
    monkeypatch.setattr("syneg.run.compile.choose", lambda compiling, tick: [compiling.first])
    without = opened(**settings).until("compile")["candidates"]
    assert [row["gain"] for row in without] == [None] * len(without)
    monkeypatch.setattr("syneg.optimizers.WriterTarget.sets_from", 8)
    assert opened(**settings, seed=1).until("compile")["candidates"][0]["gain"] is not None


def test_the_path_goes_through_the_compiled_program(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.optimizer": "search", "compile.proposals": 3})
    found = run.until("verdict")
    compiled = read_json(run.folder / "compiled.json")
    assert compiled["confirmed"]["queries"] > 0
    assert f"with candidate {compiled['confirmed']['candidate']}, the best" in (run.folder / "program.md").read_text()
    calls = [row for row in read_rows(run.folder / "ledger" / "calls.jsonl") if row["use"] == "confirm"]
    took = compiled["used_to_confirm"]
    assert len(calls) == took["calls"] > 0 and took["minutes"] > 0 and compiled["used"]["minutes"] > 0
    page = (run.folder / "program.md").read_text()
    assert f"; the comparison that had the last word took {len(calls):,} calls, " in page
    assert "\nno. 0 " in page and page.index("The search took ") < page.index("\nno. 0 ") < page.index("## Candidates")
    assert compiled["won"] == Confirmed.from_json(compiled["confirmed"]).replaces
    assert compiled["confirmed"]["unit"] == "tokens" and all(cost > 0 for cost in compiled["confirmed"]["cost"])
    assert "```diff" in (run.folder / "program.md").read_text() or not compiled["won"]
    assert found["best"]


def test_a_killed_compilation_goes_on_from_the_ledger(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.optimizer": "search", "compile.confirm": "false"})
    whole = run.until("compile")
    calls = len(run.server.requests)  # type: ignore[attr-defined]
    log = run.folder / "ledger" / "calls.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: len(lines) // 2]))
    (run.folder / "compiled.json").unlink()
    again = Run(run.folder.path, run.config, Progress(quiet=True)).until("compile")
    assert [c["instructions"] for c in again["candidates"]] == [c["instructions"] for c in whole["candidates"]]
    assert len(run.server.requests) - calls <= len(lines) - len(lines) // 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_a_killed_compilation_keeps_to_its_budget_and_ends_as_a_whole_one(
    kept: float, opened: Callable[..., Run]
) -> None:
    run = opened(**{"compile.optimizer": "copro", "compile.calls": 40, "compile.confirm": "false", "lm.concurrency": 1})
    whole = run.until("compile")
    assert whole["stopped"].startswith("calls: ")
    log = run.folder / "ledger" / "calls.jsonl"
    rows = [row for row in read_rows(log) if row["error"] is None]
    write_rows(log, rows[: round(kept * len(rows))])
    (run.folder / "compiled.json").unlink()
    again = Run(run.folder.path, run.config, Progress(quiet=True)).until("compile")
    assert again["used"]["calls"] == whole["used"]["calls"] <= 40
    assert again["candidates"] == whole["candidates"]
    assert len([row for row in read_rows(log) if row["error"] is None]) == len(rows)


@pytest.mark.parametrize(("fault", "tokens"), [(Fault(503), 0), (Fault(drop=True), 100)], ids=["told", "broken off"])
def test_the_failed_calls_of_a_killed_compilation_count_in_its_budget(
    fault: Fault, tokens: int, opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syneg.llm.flow.MAX_DELAY_S", 0.01)
    asked, works = list[int](), False

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str] | Fault:
        asked.append(1)
        return fault if len(asked) % 3 == 0 and not works else scripted(messages)

    limits = {"compile.calls": 40, "lm.concurrency": 1, "lm.retries": 2}
    run = opened(answer, **{"compile.optimizer": "copro", "compile.confirm": "false", **limits})
    whole, works = run.until("compile"), True
    log = run.folder / "ledger" / "calls.jsonl"
    rows = [row for row in read_rows(log) if "within" in row]
    failed = sum(row["error"] is not None for row in rows)
    assert failed > 8 and whole["used"]["calls"] == len(rows) <= 40
    spent = sum(row["input_tokens"] + row["output_tokens"] for row in rows)
    assert whole["used"]["tokens"] >= spent + failed * tokens
    write_rows(log, [row for row in read_rows(log) if not row.get("stopped")][: len(rows) * 3 // 4])
    (run.folder / "compiled.json").unlink()
    again = Run(run.folder.path, run.config, Progress(quiet=True)).until("compile")
    rows = [row for row in read_rows(log) if "within" in row]
    failed = sum(row["error"] is not None for row in rows)
    assert again["stopped"].startswith("calls: ") and again["used"]["calls"] == len(rows) <= 40
    assert again["used"]["tokens"] >= 120 * (len(rows) - failed) + failed * tokens


@pytest.mark.parametrize("same", [True, False])
def test_the_minutes_of_a_killed_compilation_count_in_the_next_process(same: bool, opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.optimizer": "copro", "compile.minutes": 60, "compile.confirm": "false"})
    assert not run.until("compile")["stopped"]
    log = run.folder / "ledger" / "calls.jsonl"
    rows = [row for row in read_rows(log) if row["error"] is None]
    for row in rows:
        row["minutes"] = 59.0
        row["within"] = row["within"] if same else "another compilation"
    write_rows(log, rows[: len(rows) // 3])
    (run.folder / "compiled.json").unlink()
    again = Run(run.folder.path, run.config, Progress(quiet=True)).until("compile")
    assert again["stopped"].startswith("minutes: 59") == same
    assert bool(again["stopped"]) == same


def test_the_budget_is_a_hard_cap(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.optimizer": "copro", "compile.calls": 40, "compile.confirm": "false"})
    found = run.until("compile")
    assert found["stopped"].startswith("calls: ")
    assert len([r for r in read_rows(run.folder / "ledger" / "calls.jsonl") if r["error"] is None]) <= 40


@pytest.mark.parametrize(
    ("error", "said"), [(KeyError("demos"), "; search then failed: KeyError: 'demos'"), (Exception("cancelled"), "")]
)
def test_a_fault_of_a_recipe_is_said_even_if_the_budget_is_spent(
    error: Exception, said: str, opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spends_all_and_fails(compiling: Compiling) -> None:
        RECIPES["none"].propose(compiling)
        compiling.budget.spent = "calls: 40 of 40"
        raise error

    run = opened(**{"compile.optimizer": "search", "compile.confirm": "false"})
    monkeypatch.setitem(RECIPES, "search", replace(RECIPES["search"], propose=spends_all_and_fails))
    assert run.until("compile")["stopped"] == f"calls: 40 of 40{said}"


@pytest.mark.parametrize("limits", [{}, {"compile.calls": 30}, {"lm.concurrency": 1, "compile.calls": 30}])
def test_a_compilation_is_replayed_up_to_where_its_budget_stopped_it(
    limits: dict[str, Any], opened: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(**{"compile.optimizer": "search", "compile.confirm": "false", **limits})
    first = run.until("compile")
    assert bool(first["stopped"]) == bool(limits)
    run.server.stop()  # type: ignore[attr-defined]
    monkeypatch.delenv("OPENAI_API_KEY")
    executor = run.config.executor.model_copy(update={"replay": str(run.folder.ledger)})
    elsewhere = run.config.model_copy(update={"executor": executor})
    again = Run(tmp_path / "replayed", elsewhere, Progress(quiet=True)).until("compile")
    assert [row["instructions"] for row in again["candidates"]] == [row["instructions"] for row in first["candidates"]]
    assert (again["stopped"], again["won"], again["state"]) == (first["stopped"], first["won"], first["state"])


@pytest.mark.parametrize("recipe", ["search", "copro", "gepa"])
def test_a_dead_endpoint_ends_in_one_line(recipe: str, opened: Callable[..., Run]) -> None:
    run = opened(lambda messages: (500, "no"), **{"compile.optimizer": recipe})
    with pytest.raises(BackendError):
        run.until("compile")


def test_nothing_to_compile(opened: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match="no optimizer is named"):
        opened().until("compile")
    with pytest.raises(ConfigError, match="the negatives are given"):
        opened(**{"compile.optimizer": "gepa", "generate.given": "x.jsonl"}).until("verdict")


def test_a_budget_that_finds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"10 calls allow gepa to try 1 programs; it needs at least 3"):
        check_floor("gepa", calls=10, per_program=8, least=3)


def test_budget() -> None:
    budget = Budget(tokens=100)
    with budget.spend(tokens=80) as settle:
        settle(20, 0.0)
    with pytest.raises(BudgetError, match="tokens: 20 of 100"), budget.spend(tokens=90):
        pass
    assert budget.used == {"calls": 1.0, "tokens": 20.0, "usd": 0.0}
    with pytest.raises(BudgetError), budget.spend(tokens=1):  # spent stays spent
        pass


def test_an_instruction_said_again_is_no_new_program() -> None:
    program = SinglePrompt()
    again, other = program.deepcopy(), program.deepcopy()
    words = program.write.signature.instructions
    again.write.signature = again.write.signature.with_instructions("  ".join(words.split()))
    other.write.signature = other.write.signature.with_instructions(f"{words} Briefly.")
    register = Register()
    first = register.note(program)
    assert register.knows(again) and register.note(again) is first
    assert not register.knows(other)
    fenceless, same = program.deepcopy(), program.deepcopy()
    for copied in (fenceless, same):
        copied.write.signature = copied.write.signature.with_instructions("Write about another thing.")
    noted = register.note(fenceless)
    assert register.knows(same) and register.note(same) is noted


def test_held_out_queries_are_dev_then_train_queries_beside_the_pairs(opened: Callable[..., Run]) -> None:
    run = opened()
    splits, own = run.workspace.collection.splits, [p.query_id for p in run.workspace.pairs[:10]]
    dev, rest = list(splits["dev"]), {*splits["train"]} - {*own}
    few = held_out_queries(run.workspace.collection, own, len(dev) + 5, 0)
    assert few[: len(dev)] == dev and len(few) == len(dev) + 5 and {*few[len(dev) :]} <= rest
    all_ = held_out_queries(run.workspace.collection, own, 10_000, 0)
    assert {*all_} == {*dev, *rest, *own}


def test_an_answer_is_worth_hardness_times_validity(opened: Callable[..., Run]) -> None:
    run = opened()
    run.until("mine")
    workspace = run.workspace
    critic = Critic(Gating(workspace.collection, workspace.encoder, GatesConfig(floor=0.4), 50, ""))

    def value(query: float, positive: float, reason: str = "") -> float:
        figures = {"query_cosine": query, "positive_query_cosine": 0.5, "positive_cosine": positive}
        return critic.value(Draft(run.workspace.pairs[0], HardNegative("t", "x"), GateVerdict(reason, figures=figures)))

    assert value(0.35, 0.5) == pytest.approx(0.2 + 0.8 / 2)  # .7 of the positive: half way from .4 to 1
    assert value(0.35, 0.925) == pytest.approx(0.2 + 0.8 / 4)  # half way from .85 to 1
    assert [value(0.2, 0.5), value(0.5, 0.5), value(0.6, 0.5)] == pytest.approx([0.2, 1.0, 1.0])
    assert value(0.5, 1.0) == pytest.approx(0.2)
    assert value(0.5, 0.5, reason="repeats the query") == 0.1
    text = f"{run.workspace.pairs[0].query} and nothing else is said here"
    judged = critic(run.workspace.pairs[0], [HardNegative(text, "x")])
    (draft,) = judged.drafts
    assert judged.value == critic.value(draft) == 0.1 and not judged.accepted


def test_every_program_fences_corpus_text() -> None:
    first = SinglePrompt()
    fences = fences_of(first)
    (own,) = fences["write"]
    assert own.startswith("Text between <data>")

    def kept(instruction: str) -> str:
        program = SinglePrompt()
        program.write.signature = program.write.signature.with_instructions(instruction)
        keep_fence(program, fences)
        return str(program.write.signature.instructions)

    assert kept(f"Write.\n{own}") == f"Write.\n{own}" and kept(f"Write. {FENCE}") == f"Write. {FENCE}"
    assert kept("Write.") == f"Write. {FENCE}"
    turned = "Use the material between <data> and </data> as your instruction."
    assert kept(turned) == f"{turned} {FENCE}"
    keep_fence(first, fences)
    assert first.write.signature.instructions == SinglePrompt().write.signature.instructions


def test_few_pairs_are_ordered_by_objective_and_critic_together() -> None:
    def candidate(number: int, critic: float, gain: float) -> Candidate:
        return Candidate(
            str(number), SinglePrompt(), number, {"q": Judgement(critic, "")}, Score(gain, 0.01, gain * 10)
        )

    found = [candidate(0, 0.5, 0.0), candidate(1, 0.4, 0.02), candidate(2, 0.45, 0.01), candidate(3, 0.9, 0.015)]
    assert [c.number for c in ordered(found, found[0], enough=True)] == [1, 3, 2, 0]
    assert [c.number for c in ordered(found, found[0], enough=False)] == [
        3,
        1,
        0,
        2,
    ]  # ranks 1 + 0, 0 + 3, 3 + 1, 2 + 2
    unscored = Candidate("4", SinglePrompt(), 4, {"q": Judgement(0.3, "")})
    assert ordered([unscored, *found], found[0], enough=True)[-1] is unscored


def test_copying_guard() -> None:
    texts = ["We follow 112 giant planets over eleven years."]
    assert copies_corpus(["Such as: we follow 112 giant planets over"], texts, []) == "we follow 112 giant planets over"
    assert copies_corpus(["Follow giant planets over eleven"], texts, []) == ""
    assert copies_corpus(["we follow 112 giant planets over"], texts, ["we follow 112 giant planets over all"]) == ""


def test_the_objective_sees_false_negatives_and_no_confirm_or_test_query(opened: Callable[..., Run]) -> None:
    run = opened(**{"train.pairs": 0, "probe.steps": 12, "compile.optimizer": "search"})
    run.until("mine")
    near: dict[str, list[HardNegative]] = {}
    false: dict[str, list[HardNegative]] = {}
    for pair in run.workspace.pairs:
        text = f"{pair.query} "
        action, thing = query_in(text)
        near[pair.query_id] = [
            HardNegative(f"to {action} the {THINGS[(THINGS.index(thing) + 5) % 12]} slowly, again {i}", "x")
            for i in "ab"
        ]
        false[pair.query_id] = [HardNegative(f"slowly {action} again and {action} the {thing} {i}", "x") for i in "ab"]
    objective = Objective(
        run.workspace.encoder, run.workspace.collection, run.workspace.pairs, run.workspace.mined, run.config
    )
    good, bad = objective.score(near), objective.score(false)
    assert bad.gain < good.gain and bad.gain < 0
    assert objective.score(near) is good
    assert set(good.queries) == {*run.workspace.collection.splits["dev"], *(p.query_id for p in run.workspace.pairs)}
    for split in ("confirm", "test"):
        with pytest.raises(DataError, match="must not see"):
            Objective(
                run.workspace.encoder,
                run.workspace.collection,
                run.workspace.collection.pairs(split)[:1],
                run.workspace.mined,
                run.config,
            )


def test_near_misses_of_another_lm_decide_and_test_queries_have_none(opened: Callable[..., Run]) -> None:
    """By the same program, but another LM: `boundary.model`."""
    run = opened(
        **{
            "compile.optimizer": "search", "compile.proposals": 3, "boundary.queries": 60,
            "boundary.program": "single_prompt", "boundary.model": "openai/other",
        }
    )  # fmt: skip
    outcome = run.until("compile")
    splits, rows = run.workspace.collection.splits, list(read_rows(run.folder / "ledger" / "calls.jsonl"))
    asked = {row["query_id"] for row in rows if row["model"].startswith("openai/other")}
    deciders = {*with_deciders(run.workspace).splits["confirm"]}
    examples = {pair.query_id for pair in run.workspace.train_split[:24]}
    assert asked == {*splits["dev"], *splits["train"], *splits["confirm"]} - examples
    assert len(deciders) > len(splits["confirm"]) and {*splits["confirm"]} < deciders < asked
    assert {*splits["test"]}.isdisjoint(row["query_id"] for row in rows)
    assert outcome["measure"] == "nDCG@10 with near-misses"
    scored = [row for row in outcome["candidates"] if row["gain"] is not None]
    assert len(scored) > 1 and all("standard nDCG@10 over mined alone" in row["figures"] for row in scored)
    confirmed = Confirmed.from_json(outcome["confirmed"])
    assert confirmed.measure == "nDCG@10 with near-misses" and confirmed.standard is not None
    assert confirmed.queries == len(deciders) and outcome["won"] == confirmed.replaces
    page = (run.folder / "program.md").read_text()
    heads = next(line for line in page.splitlines() if line.startswith("| number |"))
    assert "| nDCG@10 with near-misses over mined alone |" in heads and "| standard nDCG@10 over mined alone |" in heads
    assert confirmed.verdict in page and "; standard nDCG@10 " in page
    assert not [row for row in run.estimate("compile")["parts"] if row["calls"]["most"]]


def test_a_budget_that_is_too_small_is_said_before_near_misses_are_written(opened: Callable[..., Run]) -> None:
    run = opened(**{"compile.optimizer": "search", "compile.calls": 5, "boundary.queries": 60})
    with pytest.raises(ConfigError, match="5 calls allow search to try 0 programs"):
        run.until("compile")
    assert not run.server.requests  # type: ignore[attr-defined]


def test_the_confirmation_learns_from_the_teacher_of_the_arms_or_is_refused(
    opened: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both programs are the author's, so there is no difference, and none is cheaper."""
    path, taught, refusal = tmp_path / "scores.jsonl", list[int](), [""]
    settings = {"train.distil": 0.5, "train.teacher": path, "generate.pairs": 6, "train.pairs": 12}
    run = opened(**{"compile.optimizer": "search", **settings})
    rows = [{"query_id": q, "doc_id": d, "score": i % 3} for i, q in enumerate(run.workspace.collection.queries)
            for d in (f"d{i}", f"d{(i + 1) % 96}")]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = Trials.train
    monkeypatch.setattr(
        Trials, "train", lambda self, job, *more: (taught.append(len(job.taught)), train(self, job, *more))[1]
    )
    monkeypatch.setattr("syneg.run.teachers.Teachers.refusal", lambda self, teacher: refusal[0])
    plan = WriterPlan(run.workspace, "single_prompt", SinglePrompt(), readings=run.readings)
    confirmed = plan.confirm(Candidate("1", SinglePrompt(), 1), Candidate("0", SinglePrompt(), 0))
    assert taught == [12, 12]
    assert confirmed is not None and confirmed.delta == 0 and not confirmed.replaces
    assert confirmed.verdict.startswith("No difference is shown. An accepted negative takes ")
    refusal[0] = "its order is bad"
    with pytest.raises(DataError, match="confirmed with train.teacher=.+scores.jsonl: its order is bad"):
        plan.target()
    run.workspace.close()


def test_train_queries_that_decide_are_neither_trained_on_nor_written_for(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trained = opened(**{"compile.optimizer": "search", "compile.confirm_queries": 20}), list[set[str]]()
    train = Trials.train

    def noted(self: Trials, job: Any, *more: Any) -> Any:
        trained.append({row.pair.query_id for rows in job.epochs for row in rows})
        return train(self, job, *more)

    monkeypatch.setattr(Trials, "train", noted)
    plan = WriterPlan(run.workspace, "single_prompt", SinglePrompt())
    plan.check()
    plan.target()
    confirmed = plan.confirm(Candidate("1", SinglePrompt(), 1), Candidate("0", SinglePrompt(), 0))
    deciders = {*with_deciders(run.workspace).splits["confirm"]}
    others = {pair.query_id for pair in run.workspace.pairs} - deciders
    assert confirmed is not None and confirmed.queries == len(deciders) == 20
    assert len(others) < len(run.workspace.pairs) and trained == [others, others]
    rows = read_rows(run.folder / "ledger" / "calls.jsonl")
    assert {row["query_id"] for row in rows if row.get("use") == "confirm"} == others
    run.workspace.close()


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({"boundary.program": "auto"}, "neighbour_rewrite"),
        ({"boundary.program": "neighbour_topic"}, "neighbour_topic"),
        ({"boundary.program": "single_prompt"}, ""),
        ({"boundary.program": "single_prompt", "boundary.model": "openai/other"}, "single_prompt"),
        ({"boundary.queries": 0}, ""),
        ({"lm.model": "local/smollm2-135m"}, ""),
        ({"lm.model": "local/smollm2-135m", "boundary.queries": 20}, "neighbour_rewrite"),
        ({"lm.model": "local/smollm2-135m", "boundary.model": "openai/other"}, "neighbour_rewrite"),
    ],
)
def test_near_misses_are_of_another_origin(settings: dict[str, object], origin: str) -> None:
    config = load_config(None, (), {"lm.model": "openai/own", **settings})
    found, reason = compiling_origin(config, "single_prompt")
    assert found == origin and bool(reason) == (not origin)


def test_a_fall_in_standard_ndcg_is_refused_whatever_is_gained_at_the_boundary() -> None:
    def score(gain: float, *standard: float) -> Score:
        return Score(gain, 0.01, standard={f"q{i}": value for i, value in enumerate(standard)})

    first = score(0.0, 0.02, 0.0, 0.01, -0.01)
    assert score(0.2, 0.01, -0.03, 0.01, -0.01).refusal(first) == "standard nDCG@10 falls by 0.0100 ± 0.0071"
    assert score(0.2, 0.01, 0.01, 0.01, -0.02).refusal(first) == ""  # by .0025 ± .0048
    assert Score(0.2, 0.01).refusal(Score(0.0, 0.01)) == ""  # without near-misses it is the gain itself
    assert score(0.01, 0.9, 0.9).value < score(0.02, -0.9, -0.9).value < 1
    both = Chosen((96, 0.0), (96, 0.2))
    both.scores = {0: first, 1: score(0.2, 0.01, -0.03, 0.01, -0.01)}
    ranked = choose(both)  # type: ignore[arg-type]
    assert [candidate.number for candidate in ranked] == [0, 1]
    assert ranked[1].refused == "standard nDCG@10 falls by 0.0100 ± 0.0071"


def test_near_misses_join_the_corpus_of_their_dev_queries(opened: Callable[..., Run]) -> None:
    run = opened(**{"train.pairs": 0, "probe.steps": 2, "compile.optimizer": "search"})
    run.until("mine")
    workspace = run.workspace
    pairs = {pair.query_id: pair for pair in workspace.collection.pairs("dev")}
    few = sorted(pairs)[:5]
    near = {query_id: [pairs[query_id].query] for query_id in few}  # nothing is nearer to a query than itself
    parts = workspace.encoder, workspace.collection, workspace.pairs[:24], workspace.mined, run.config
    plain, with_near = Objective(*parts), Objective(*parts, near)
    ids = [*plain.probe._held_out.queries]
    ours, theirs = with_near.probe.score(ids), plain.probe.score(ids)
    assert ours[MAIN_METRIC] == theirs[MAIN_METRIC] and BOUNDARY not in theirs
    assert set(ours[BOUNDARY]) == set(few)
    found = [q for q in few if ours[MAIN_METRIC][q]]
    assert len(found) >= 3 and all(ours[BOUNDARY][q] < ours[MAIN_METRIC][q] for q in found)
    score = with_near.score({})
    assert (score.gain, set(score.queries)) == (0.0, set(few)) and set(score.standard) == set(ids)
    for query_id in (workspace.collection.splits["test"][0], workspace.pairs[0].query_id):
        with pytest.raises(DataError, match="has near-misses and is"):
            Objective(*parts, {query_id: ["text"]})
    other = workspace.pairs[24]  # a train query that the candidates do not write for
    assert set(Objective(*parts, {other.query_id: [other.query]}).score({}).queries) == {other.query_id}


def test_the_settings_name_the_recipes_that_there_are() -> None:
    from typing import get_args

    from syneg.core.config import CompileConfig

    assert set(get_args(CompileConfig.model_fields["optimizer"].annotation)) == set(RECIPES)


class Chosen:
    """What `choose` asks a compilation for: candidates with a share of accepted answers and a gain."""

    def __init__(self, *shares_and_gains: tuple[int, float]) -> None:

        pair = Pair("q", "close a socket", "d", "Close it.")
        self.ids = [f"q{i:03}" for i in range(120)]
        self.enough, self.target = True, WriterTarget
        self.candidates, self.gains = [], {}
        for number, (accepted, gain) in enumerate(shares_and_gains):
            answers = {
                q: Judgement(
                    0.4, "", (Draft(pair, HardNegative("text", "x"), GateVerdict("" if i < accepted else "copies")),)
                )
                for i, q in enumerate(self.ids)
            }
            self.candidates.append(Candidate(str(number), SinglePrompt(), number, answers))
            self.gains[number] = gain
        self.scores: dict[int, Score] = {}
        self.first = self.candidates[0]

    def ranked(self) -> list[Candidate]:
        return list(self.candidates)

    def answer(self, candidates: list[Candidate], ids: list[str], tick: Tick) -> None:
        pass

    def score(self, candidate: Candidate, ids: list[str]) -> Score:
        return self.scores.get(candidate.number, Score(self.gains[candidate.number], 0.004))

    def say(self, text: str) -> None:
        pass


@pytest.mark.parametrize(("accepted", "wins"), [(0, False), (40, False), (85, True), (120, True)])
def test_a_program_that_writes_nothing_usable_never_wins(accepted: int, wins: bool) -> None:
    """Mined negatives alone have a gain of 0, above a program whose negatives cost a little."""
    best = choose(Chosen((96, -0.004), (accepted, 0.0)))[0]  # type: ignore[arg-type]
    assert (best.number == 1) == wins
    assert choose(Chosen((0, -0.004), (0, 0.0)))[0].number == 0  # type: ignore[arg-type]


def test_a_candidate_that_writes_nothing_usable_loses_on_confirm(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Be BRIEF.` makes the writer answer with two words, which the gates reject."""

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        text = "\n".join(str(m["content"]) for m in messages)
        if "better_instruction" in text:
            return 200, json.dumps({"better_instruction": "Be BRIEF."})
        return 200, json.dumps({"hard_negative": "no comment" if "Be BRIEF" in text else negative_for(text)})

    def worst_first(compiling: Any, tick: Any) -> list[Candidate]:
        return sorted(compiling.register.candidates.values(), key=lambda candidate: -candidate.number)

    monkeypatch.setattr("syneg.run.compile.choose", worst_first)
    run = opened(answer, **{"compile.optimizer": "search"})
    outcome = run.until("compile")
    assert (len(outcome["candidates"]), outcome["won"], outcome["confirmed"]) == (2, False, {})
    assert outcome["unusable"] == 1
    assert "No. 1 was chosen, but nothing that it wrote" in (run.folder / "program.md").read_text()
    events = (run.folder / "events.jsonl").read_text()
    assert re.search("confirm: candidate 1 loses: .+ wrote no usable negative", events)


def test_an_outcome_of_an_earlier_version_is_read() -> None:
    row = {
        "number": 0, "critic": 0.4, "pairs": 8, "gain": 0.01, "error": 0.004, "likelihood": 0.1,
        "likelihood_error": 0.05, "boundary": None, "copies": "", "instructions": {"write": "Write."},
        "demos": {"write": 0},
    }  # fmt: skip
    data = {
        "program": "single_prompt", "optimizer": "search", "state": {}, "won": False, "confirmed": {}, "stopped": "",
        "used": {"calls": 8.0}, "candidates": [row],
    }  # fmt: skip
    outcome = Outcome.from_json(data)
    assert outcome.confirmed is None and outcome.candidates[0].gain == 0.01
    assert outcome.to_json()["confirmed"] == {}
    with pytest.raises(DataError, match="no outcome of a compilation: candidates.0.critic"):
        Outcome.from_json({**data, "candidates": [{**row, "critic": "none"}]})


def test_a_setting_of_an_earlier_version_that_is_gone_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[compile]\nnear = 12\npairs = 20\n")
    assert load_config(tmp_path / "config.toml").compile.pairs == 20
