"""Errors that end a run end it also where the program catches them, as dspy.BestOfN, Refine and Parallel do."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from conftest import FakeLM, write_negative

from syneg.core.config import LMConfig
from syneg.core.errors import BackendError, BudgetError
from syneg.core.progress import Progress
from syneg.core.records import HardNegative
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.llm.budget import Budget
from syneg.llm.calls import attempted, current_purpose, purpose
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.negatives.queries import Asked, written
from syneg.programs import SinglePrompt, WriteQueries
from syneg.run.pipeline import Run

ASK = {"query": "close a socket", "positive": "Close the socket."}
Open = Callable[..., LanguageModel]


def first_of(prediction: Any) -> dspy.Prediction:
    """A usable prediction, whatever came back."""
    if isinstance(prediction, dspy.Prediction):
        return prediction
    return dspy.Prediction(negatives=[HardNegative("a text in place of an answer", program="caught")])


class Bare(dspy.Module):
    """Answers something else if the LM does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SinglePrompt()

    def forward(self, **ask: Any) -> dspy.Prediction:
        try:
            return self.inner(**ask)
        except Exception:  # noqa: BLE001 as a user may write it
            return first_of(None)


class Wrapped(dspy.Module):
    """A DSPy module around the program: it prints errors and goes on."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.inner = kind(module=SinglePrompt(), N=3, reward_fn=lambda ask, found: 0.0, threshold=1.0, fail_count=3)

    def forward(self, **ask: Any) -> dspy.Prediction:
        return first_of(self.inner(**ask))


class InParallel(dspy.Module):
    """Asks in threads, and takes what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SinglePrompt()

    def forward(self, **ask: Any) -> dspy.Prediction:
        pool = dspy.Parallel(num_threads=2, max_errors=9, disable_progress_bar=True)
        return first_of(pool([(self.inner, ask), (self.inner, ask)])[0])


PROGRAMS: dict[str, Callable[[], dspy.Module]] = {
    "bare except": Bare,
    "BestOfN": lambda: Wrapped(dspy.BestOfN),
    "Refine": lambda: Wrapped(dspy.Refine),
    "Parallel": InParallel,
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    ledger = Ledger(tmp_path / "calls.jsonl")

    def build(url: str, **terms: Any) -> LanguageModel:
        return LanguageModel.open(LMConfig(model="openai/fake", api_base=url, retries=0), ledger, terms=Terms(**terms))

    yield build
    ledger.close()


def spent() -> Budget:
    budget = Budget(calls=1)
    with budget.spend(tokens=1) as used:
        used(1, 0.0)
    return budget


def asked(program: dspy.Module, lm: LanguageModel) -> Any:
    with dspy.context(lm=lm.lm_for(0, 1), adapter=lm.adapter), purpose("q1"):
        return attempted(program, ASK)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_spent_budget_ends_the_run(name: str, fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    with pytest.raises(BudgetError, match="the budget is spent"):
        asked(PROGRAMS[name](), opened(fake_lm(write_negative).url, budget=spent()))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_ends_the_run(
    name: str, number: int, fake_lm: Callable[..., FakeLM], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(self: Ledger, row: Any) -> None:
        raise OSError(number, "the disk")

    lm = opened(fake_lm(write_negative).url)
    monkeypatch.setattr(Ledger, "keep", keep)
    with pytest.raises(OSError, match="the disk"):
        asked(PROGRAMS[name](), lm)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_refused_key_ends_the_run(name: str, fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    with pytest.raises(BackendError, match="key"):
        asked(PROGRAMS[name](), opened(fake_lm(lambda messages: (401, "bad key")).url))


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unreadable_answer_ends_nothing(name: str, fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    found, failed = asked(PROGRAMS[name](), opened(fake_lm(lambda messages: (200, "hm")).url))
    assert failed or found.negatives[0].text == "a text in place of an answer"


def test_calls_in_threads_of_dspy_belong_to_the_query(fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    lm = opened(fake_lm(write_negative).url)
    with dspy.context(lm=lm.lm_for(0, 1), adapter=lm.adapter), purpose("q1") as current:
        InParallel()(**ASK)
    assert current.calls and current_purpose().query_id == ""


class Queries(dspy.Module):
    """Writes queries, or one of its own if the LM does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.write = WriteQueries()

    def forward(self, **ask: Any) -> dspy.Prediction:
        try:
            return self.write(**ask)
        except Exception:  # noqa: BLE001 as a user may write it
            return dspy.Prediction(queries=["a query in place of an answer"])


def test_a_spent_budget_ends_the_writing_of_queries(fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    lm = opened(fake_lm(write_negative).url, budget=spent())
    with pytest.raises(BudgetError, match="the budget is spent"):
        written([Asked("d1", "Close the socket.", "question", ())], Queries(), lm, "search")


def test_an_error_of_a_users_query_program_is_a_failed_attempt(fake_lm: Callable[..., FakeLM], opened: Open) -> None:
    class Broken(dspy.Module):
        def forward(self, **ask: Any) -> dspy.Prediction:
            raise RuntimeError("of the user")

    lm = opened(fake_lm(write_negative).url)
    found = written([Asked("d1", "Close the socket.", "question", ())], Broken(), lm, "search")
    assert [query.text for query in found] == [""]


PROGRAM = """
import dspy
from syneg.core.records import HardNegative
from syneg.negatives.queries import Asked, written
from syneg.programs import SinglePrompt, WriteQueries

class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.inner = SinglePrompt()

    def forward(self, **ask):
        try:
            return self.inner(**ask)
        except Exception:
            return dspy.Prediction(negatives=[HardNegative("a text in place of an answer", program="caught")])
"""


def test_a_run_stops_at_its_budget_and_goes_on(
    fake_lm: Callable[..., FakeLM],
    settings: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "catches_all.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    server = fake_lm(write_negative)
    own = settings(server.url, **{"generate.program": "catches_all:Program"})

    def run(calls: int) -> Any:
        config = load_config(None, [*own, f"budget.calls={calls}"])
        return Run(tmp_path / "run", config, Progress(quiet=True)).until("generate")

    with pytest.raises(BudgetError, match="the budget is spent"):
        run(2)
    kept = len(server.requests)
    assert 0 < kept <= 2
    assert run(0)
    rows = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert rows and "in place of an answer" not in json.dumps(rows)
