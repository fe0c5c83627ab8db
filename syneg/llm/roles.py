"""The LMs of a run by role: writer, judge, reader and reflection LM.

    roles = Roles(run_folder, config, progress)
    roles.writer.identity   → "openai/gpt-4o-mini@default"

An LM is opened when it is first used. `close` ends them all, so that training gets the memory of the embedded server.
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
from .role_settings import endpoint_of, judge_settings, reader_settings, reflection_settings, strong_reader_settings
from .tries import count_failed

JUDGE, REFLECT, DOUBT, READ_TEXTS = "judge", "reflect", "read in doubt", "read texts"  # values of `use` in the ledger
GRADES_WORDS = 500  # words of an answer that grades 20 passages and quotes them
_INSTRUCTION_WORDS = 700  # words of an answer with a program's new instructions and the reasons for them


class Roles:
    """Opens and closes the LMs of one run folder, with one ledger and one budget."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        progress: Progress,
        connect: Connect | None = None,
        pending: Pending | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """`connect` makes the clients on other machines. `pending` defers all calls to a batch file. `announce` is
        called before each call that the ledger does not answer."""
        self._folder, self.config, self._progress = folder, config, progress
        self._connect, self._pending = connect, pending
        self._opened: dict[str, LanguageModel] = {}
        self._ledger: Ledger | None = None
        self._recorded: Recorded | None = None
        self._use = ""
        self._within: list[Budget] = []  # of `counted_in`
        self._announce = announce
        self._announcing = threading.RLock()  # reentrant, because the announced estimate asks these LMs, too
        self.budget = Budget(**config.budget.model_dump())
        # DSPy's cache would unpickle files in the user's folder; the ledger takes its place
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False, restrict_pickle=True)

    def _before_call(self) -> None:
        with self._announcing:
            self._announce()

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run folder, opened on first use."""
        if self._ledger is None:
            self._ledger = Ledger(self._folder / "ledger" / "calls.jsonl", self._progress.call)
            self._ledger.use = self._use
        return self._ledger

    @contextmanager
    def used_for(self, name: str) -> Iterator[None]:
        """Write `name` as the use of every new ledger row, in all threads, while this is open."""
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
        """The ledger that `--replay` names, which answers in place of the LMs; None if LMs are called."""
        if self._recorded is None and self.config.executor.replay:
            self._recorded = Recorded(Path(self.config.executor.replay))
        return self._recorded

    @property
    def writer(self) -> LanguageModel:
        """The LM that writes."""
        return self._role("llm", lambda: self.config.lm, self._terms("lm"))

    @property
    def judge_lm(self) -> LanguageModel:
        """The judge's LM; it shares the writer's endpoint if their addresses are equal."""
        return self._role("judge", lambda: judge_settings(self.config), replace(self._terms("judge"), use=JUDGE))

    @property
    def reader_lm(self) -> LanguageModel:
        """The reader's LM; it shares the writer's endpoint if their addresses are equal."""
        terms = replace(self._terms("reader"), words=GRADES_WORDS)
        return self._role("reader", lambda: reader_settings(self.config), terms)

    @property
    def text_reader_lm(self) -> LanguageModel:
        """The reader's LM, where it grades written texts."""
        terms = replace(self._terms("reader"), words=GRADES_WORDS, use=READ_TEXTS)
        return self._role("text-reader", lambda: reader_settings(self.config), terms)

    @property
    def strong_reader_lm(self) -> LanguageModel:
        """The LM that reads lists in doubt, and single passages a second time."""
        terms = replace(self._terms("reader"), words=GRADES_WORDS)
        return self._role("strong-reader", lambda: strong_reader_settings(self.config), terms)

    def writer_for(self, config: Config) -> LanguageModel:
        """The LM that writes under `config`: the writer, or the LM that `config` names in its place."""
        if config.lm == self.config.lm:
            return self.writer
        return self._role("boundary", lambda: config.lm, self._terms("boundary"))

    @property
    def reflection(self) -> LanguageModel:
        """The LM that proposes instructions. It answers the same request anew each time."""
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
        """Open an LM. It shares the writer's endpoint if their addresses are equal. Raises ConfigError if dollars are
        limited and its price is unknown."""
        if self.recorded is None:
            fetch_with_progress(lm.model, self._progress)
        shared = self.writer if lm is not self.config.lm and endpoint_of(lm) == endpoint_of(self.config.lm) else None
        opened = LanguageModel.open(lm, self.ledger, log=log, server_of=shared, connect=self._connect, terms=terms)
        for budget in self._within:
            opened.engine.budgets.append(budget)
        if self.config.budget.usd and not opened.engine.price_known:
            opened.close()
            raise ConfigError(
                f"the price of {lm.model!r} is unknown, so --budget-usd cannot limit it",
                todo="limit calls or tokens instead: --budget-calls, --budget-tokens",
            )
        return opened

    @contextmanager
    def limited(self, budget: Budget, lms: Iterable[LanguageModel]) -> Iterator[None]:
        """Limit every call of `lms` by `budget` as well, while this is open. Calls that failed in earlier processes
        count."""
        count_failed(budget, self.ledger)
        with contextlib.ExitStack() as stack:
            for lm in lms:
                stack.enter_context(lm.engine.within(budget))
            yield

    @contextmanager
    def counted_in(self, budget: Budget) -> Iterator[None]:
        """Limit every call of any LM by `budget` as well, also of LMs that are opened again, while this is open."""
        count_failed(budget, self.ledger)
        self._within.append(budget)
        for opened in self._opened.values():
            opened.engine.budgets.append(budget)
        try:
            yield
        finally:
            self._within.remove(budget)
            for opened in self._opened.values():
                opened.engine.budgets.remove(budget)

    def close(self) -> None:
        """Close the LMs and the ledger. They open again on next use."""
        for name in sorted(self._opened, key=lambda name: name == "llm"):  # the writer last: others share its server
            if opened := self._opened.pop(name, None):
                opened.close()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None
