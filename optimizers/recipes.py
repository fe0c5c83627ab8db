"""Recipes: DSPy's optimizers as ways to propose programs, by the value of single answers, under one budget.

    RECIPES["copro"].propose(compiling)     afterwards, compiling.register has every program that it ran

The sizes are chosen here, because DSPy's own presets need thousands of calls. The program that an optimizer returns is
ignored: `search.choose` decides among all programs that it tried. The recipes gepa and search have their own modules.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dspy.teleprompt import COPRO, SIMBA, BootstrapFewShotWithRandomSearch, MIPROv2
from tqdm import tqdm

from syneg.core.errors import BackendError, BudgetError, StoppedError, SynegError, one_line
from syneg.core.failing import on_failure
from syneg.llm.calls import reraise_fatal
from syneg.llm.engine import LedgerEngine

from .compiling import Compiling
from .gepa import gepa
from .search import search


@dataclass(frozen=True)
class Recipe:
    """One way to propose programs. It is refused if the budget allows fewer than `least` programs.

    `runs(pairs, proposals)` estimates how many times it runs a program on a pair, including the final choice.
    `reflects` tells whether an LM proposes instructions.
    """

    name: str
    least: int
    propose: Callable[[Compiling], None]
    runs: Callable[[int, int], float]
    reflects: bool = True


_NEVER = 10**6  # errors until an optimizer gives up: never, because unreadable answers score 0 instead


@contextmanager
def quiet() -> Iterator[None]:
    """Inside this context, suppress what optimizers print and log, and all their progress bars."""
    before, make_bar = logging.root.manager.disable, tqdm.__init__

    def hidden(bar: Any, *args: Any, **settings: Any) -> None:
        make_bar(bar, *args, **{**settings, "disable": True})

    logging.disable(logging.CRITICAL)
    tqdm.__init__ = hidden
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        tqdm.__init__ = make_bar


def run_recipe(name: str, compiling: Compiling) -> str:
    """Run a recipe until it ends or its budget is spent; return why it stopped early, or "".

    After the budget is spent, calls are refused, and DSPy raises a bare Exception. Another error is a fault of the
    recipe, and stands in the reason.

    Optimizers continue after errors. So this raises afterwards what should have ended the run: the budget of the whole
    command, an endpoint that is down, or a reflection LM that never answered.
    """
    target = compiling.target
    engines = [lm.engine for lm in (target.lm, *target.others, compiling.reflection)]
    before = [(engine, len(engine.ended), engine.answers, engine.failures) for engine in engines]

    def failed(error: BaseException) -> None:
        if not isinstance(error, Exception):
            return
        _raise_swallowed(compiling, before)
        if not compiling.budget.spent:
            reraise_fatal(error)
            raise BackendError(f"{name} failed: {one_line(error)}") from error
        raise _BudgetEnded("" if _is_refusal(error) else f"; {name} then failed: {one_line(error)}") from error

    fault = ""
    try:
        with on_failure(failed), quiet(), compiling.context():
            RECIPES[name].propose(compiling)
    except _BudgetEnded as ended:
        fault = str(ended)
    _raise_swallowed(compiling, before)
    return f"{compiling.budget.spent}{fault}"


class _BudgetEnded(Exception):
    """A recipe failed after its budget was spent. The text is what it adds to the reason."""


def _is_refusal(error: BaseException) -> bool:
    """Whether an error comes from refused calls: DSPy's bare Exception, or one of ours among its causes."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SynegError):
        cause = cause.__cause__ or cause.__context__
    return type(error) is Exception or cause is not None


def _raise_swallowed(compiling: Compiling, before: Sequence[tuple[LedgerEngine, int, int, int]]) -> None:
    for engine, ended, _, _ in before:
        for error in engine.ended[ended:]:
            own = isinstance(error, BudgetError) and error.budget is compiling.budget
            if not own and not isinstance(error, StoppedError):
                raise error
    engine, _, answers, failures = before[-1]
    if engine.answers == answers and engine.failures > failures and not compiling.budget.spent:
        raise BackendError(
            f"the reflection LM {engine.config.model!r} never gave an answer: {engine.last_failure}",
            todo="check --reflection-lm and its settings; then run the same command again",
        )


def none(compiling: Compiling) -> None:
    """Propose nothing: keep the program as its author wrote it."""


def copro(compiling: Compiling) -> None:
    """COPRO: improve instructions step by step; each round sees the scores of the round before."""
    breadth = max(2, compiling.config.proposals // (2 * len(compiling.student.predictors())))
    optimizer = COPRO(
        prompt_model=compiling.reflection.lm, metric=compiling.metric, breadth=breadth, depth=2, init_temperature=1.0
    )
    optimizer.compile(compiling.student, trainset=compiling.trainset, eval_kwargs=_evaluation(compiling))


def mipro(compiling: Compiling) -> None:
    """MIPROv2: choose instructions and demos together, by Bayesian search.

    Raises BackendError without optuna (the extra `mipro`).
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise BackendError("mipro needs optuna", todo="pip install 'syneg-dspy[mipro]'") from error
    optimizer = MIPROv2(
        metric=compiling.metric, prompt_model=compiling.reflection.lm, task_model=compiling.lm, auto=None,
        num_candidates=max(2, compiling.config.proposals // 3), max_bootstrapped_demos=2, max_labeled_demos=0,
        num_threads=compiling.at_once, max_errors=_NEVER, seed=compiling.seed,
    )  # fmt: skip
    half = max(1, len(compiling.trainset) // 2)
    optimizer.compile(
        compiling.student, trainset=compiling.trainset[:half], valset=compiling.trainset[half:] or compiling.trainset,
        num_trials=compiling.config.proposals, minibatch=False, seed=compiling.seed,
    )  # fmt: skip


def simba(compiling: Compiling) -> None:
    """SIMBA: derive rules and demos from the answers to a query whose values differ most."""
    size = max(2, min(8, len(compiling.trainset)))
    candidates = max(2, min(4, compiling.config.proposals // 3))
    optimizer = SIMBA(
        metric=compiling.metric, bsize=size, num_candidates=candidates, max_demos=2,
        prompt_model=compiling.reflection.lm,
        max_steps=max(1, compiling.config.proposals // (candidates + 1)), num_threads=compiling.at_once,
    )  # fmt: skip
    student = compiling.student.deepcopy()
    student.set_lm(compiling.lm)
    optimizer.compile(student, trainset=compiling.trainset, seed=compiling.seed)


def bootstrap(compiling: Compiling) -> None:
    """Random search over demos from the program's own good answers; instructions stay as they are."""
    optimizer = BootstrapFewShotWithRandomSearch(
        metric=compiling.metric, max_bootstrapped_demos=3, max_labeled_demos=0, max_rounds=1,
        num_candidate_programs=max(1, compiling.config.proposals - 3), num_threads=compiling.at_once, max_errors=_NEVER,
    )  # fmt: skip
    optimizer.compile(compiling.student, trainset=compiling.trainset, valset=compiling.trainset)


def _evaluation(compiling: Compiling) -> dict[str, object]:
    return {"num_threads": compiling.at_once, "display_progress": False}


_CHOSEN = 4  # candidates that the final choice runs on all pairs


def _chosen(pairs: int, tried: float) -> float:
    """Runs of the final choice, if each of the best candidates was tried on `tried` pairs before."""
    return _CHOSEN * max(0.0, pairs - tried)


_ROWS = (
    Recipe("none", 0, none, lambda pairs, proposals: 0, reflects=False),
    Recipe("search", 3, search, lambda pairs, proposals: (
        pairs / 3 + proposals * (pairs / 3 + min(pairs / 3, 4) / 2) + _chosen(pairs, pairs / 3))),
    Recipe("gepa", 3, gepa, lambda pairs, proposals: (
        pairs / 2 + proposals * (2 * min(3, pairs / 2) + pairs / 4) + _chosen(pairs, pairs / 2))),
    Recipe("mipro", 4, mipro, lambda pairs, proposals: (proposals + 2) * pairs / 2 + _chosen(pairs, pairs / 2)),
    Recipe("simba", 4, simba, lambda pairs, proposals: (2 * proposals + 4) * min(8, pairs) + _chosen(pairs, pairs / 2)),
    Recipe("copro", 4, copro, lambda pairs, proposals: (proposals + 2) * pairs),
    Recipe("bootstrap", 3, bootstrap, lambda pairs, proposals: max(4, proposals) * pairs, reflects=False),
)  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in _ROWS}
