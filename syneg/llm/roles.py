"""The LMs of a run by role: the writer, the judge, the reader, and the LM that reflects.

    roles = Roles(run_folder, config, progress)
    roles.writer.identity   → "openai/gpt-4o-mini@default"

LMs are opened when first needed; `close` ends them, so that training has the memory of the embedded server.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dspy

from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import fetch_with_progress
from syneg.core.progress import Progress

from .batch_files import Pending
from .budget import Budget
from .engine import Terms
from .ledger import Ledger
from .lms import Connect, LanguageModel
from .recorded import Recorded

JUDGE, REFLECT = "judge", "reflect"  # uses of an LM, as the ledger calls them
GRADES_WORDS = 500  # of an answer that grades 20 passages, with quotes
_INSTRUCTION_WORDS = 700  # of a program's instructions, with the reasons that a reflection LM gives


def judge_settings(config: Config) -> LMConfig:
    """The settings of the judge's LM. It answers at temperature 0, or at 1 where the writer does: reasoning models
    accept only
    1."""
    return config.judge.beside(config.lm, temperature=float(config.lm.temperature == 1))


def reader_settings(config: Config) -> LMConfig:
    """The settings of the reader's LM; its temperature is that of the judge's."""
    return config.reader.beside(config.lm, temperature=float(config.lm.temperature == 1), max_tokens=0)


def reflection_settings(config: Config) -> LMConfig:
    """The settings of the LM that proposes instructions."""
    return config.reflection.beside(config.lm, temperature=1.0, max_tokens=0)


def endpoint_of(lm: LMConfig) -> tuple[object, ...]:
    """What two LMs must have in common to share an endpoint."""
    return lm.model, lm.api_base, lm.engine, sorted(lm.extra.items(), key=str)


class Roles:
    """Opens, measures and closes the LMs of one run folder."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        progress: Progress,
        connect: Connect | None = None,
        pending: Pending | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """`announce` is called before each call that the ledger does not answer. `connect` makes the client of an LM
        elsewhere than here; calls are put off into `pending`, where it is given."""
        self._folder, self.config, self._progress = folder, config, progress
        self._connect, self._pending = connect, pending
        self._opened: dict[str, LanguageModel] = {}
        self._ledger: Ledger | None = None
        self._recorded: Recorded | None = None
        self._use = ""
        self._announce = announce
        self._announcing = threading.RLock()  # an estimate asks the ledger by way of these LMs
        self.budget = Budget(**config.budget.model_dump())
        # DSPy's own cache would unpickle what lies in a folder of the user's; the ledger does its work
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False, restrict_pickle=True)

    def _before_call(self) -> None:
        with self._announcing:
            self._announce()

    @property
    def ledger(self) -> Ledger:
        """Every call of the run folder."""
        if self._ledger is None:
            self._ledger = Ledger(self._folder / "ledger" / "calls.jsonl", self._progress.call)
            self._ledger.use = self._use
        return self._ledger

    @contextmanager
    def used_for(self, name: str) -> Iterator[None]:
        """While this is open, every new row of the ledger says that it is for this use, in whatever thread it is
        made."""
        before = self._use
        self._label(name)
        try:
            yield
        finally:
            self._label(before)

    def _label(self, name: str) -> None:
        self._use = name
        if self._ledger is not None:
            self._ledger.use = name

    @property
    def recorded(self) -> Recorded | None:
        """The ledger of another run that answers in place of the LMs; None where they are called."""
        if self._recorded is None and self.config.executor.replay:
            self._recorded = Recorded(Path(self.config.executor.replay))
        return self._recorded

    @property
    def writer(self) -> LanguageModel:
        """The LM that writes."""
        return self._role("llm", lambda: self.config.lm, self._terms("lm"))

    @property
    def judge_lm(self) -> LanguageModel:
        """The judge's LM: the writer's, or one of its own."""
        return self._role("judge", lambda: judge_settings(self.config), replace(self._terms("judge"), use=JUDGE))

    @property
    def reader_lm(self) -> LanguageModel:
        """The reader's LM: the writer's, or one of its own."""
        terms = replace(self._terms("reader"), words=GRADES_WORDS)
        return self._role("reader", lambda: reader_settings(self.config), terms)

    @property
    def reflection(self) -> LanguageModel:
        """The LM that proposes instructions. The same question asked twice gets two answers."""
        terms = replace(self._terms("reflection"), words=_INSTRUCTION_WORDS, repeats=True, whole=True, use=REFLECT)
        return self._role("reflection", lambda: reflection_settings(self.config), terms)

    def _terms(self, section: str) -> Terms:
        words = self.config.generate.passage_words
        return Terms(
            section, words, pending=self._pending, budget=self.budget, recorded=self.recorded, say=self._progress.say,
            before=self._before_call,
        )  # fmt: skip

    def _role(self, name: str, settings: Callable[[], LMConfig], terms: Terms) -> LanguageModel:
        if name not in self._opened:
            self._opened[name] = self._open(settings(), self._folder / f"{name}.log", terms)
        return self._opened[name]

    def _open(self, lm: LMConfig, log: Path, terms: Terms) -> LanguageModel:
        """An LM of the run; one at the writer's endpoint shares it. Raises ConfigError where dollars are limited and
        the price is not known."""
        if self.recorded is None:
            fetch_with_progress(lm.model, self._progress)
        shared = self.writer if lm is not self.config.lm and endpoint_of(lm) == endpoint_of(self.config.lm) else None
        opened = LanguageModel.open(lm, self.ledger, log=log, server_of=shared, connect=self._connect, terms=terms)
        if self.config.budget.usd and not opened.engine.price_known:
            opened.close()
            raise ConfigError(
                f"the price of {lm.model!r} is not known, so --budget-usd cannot be kept",
                todo="limit calls or tokens: --budget-calls, --budget-tokens",
            )
        return opened

    @contextmanager
    def limited(self, budget: Budget, lms: Iterable[LanguageModel]) -> Iterator[None]:
        """While this is open, every call of `lms` has to fit into `budget`, too."""
        with contextlib.ExitStack() as stack:
            for lm in lms:
                stack.enter_context(lm.engine.within(budget))
            yield

    def close(self) -> None:
        """End the LMs and the ledger; they are opened again when asked for again."""
        for name in ("judge", "reader", "reflection", "llm"):  # the writer last: others may share its server
            if opened := self._opened.pop(name, None):
                opened.close()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None
