"""The LMs of a run by role: the writer, the judge, and the LM that reflects.

    roles = Roles(run_folder, config, progress)
    roles.writer.identity   → "openai/gpt-4o-mini@default"

LMs are opened when first needed; `close` ends them, so that training has the memory of the embedded server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dspy

from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import fetch_with_progress
from syneg.core.progress import Progress

from .batch_files import Pending
from .budget import Budget
from .ledger import Ledger
from .lms import Connect, LanguageModel, Terms


class Roles:
    """Opens, measures and closes the LMs of one run folder."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        progress: Progress,
        connect: Connect | None = None,
        pending: Pending | None = None,
    ) -> None:
        """`connect` makes the client of an LM elsewhere than here; calls are put off into `pending`, where it is given."""
        self._folder, self.config, self._progress = folder, config, progress
        self._connect, self._pending = connect, pending
        self._opened: dict[str, LanguageModel] = {}
        self._ledger: Ledger | None = None
        self.budget = Budget(**config.budget.model_dump())
        # DSPy's own cache would unpickle what lies in a folder of the user's; the ledger does its work
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False, restrict_pickle=True)

    @property
    def ledger(self) -> Ledger:
        """Every call of the run folder."""
        if self._ledger is None:
            self._ledger = Ledger(self._folder / "ledger" / "calls.jsonl", self._progress.call)
        return self._ledger

    @property
    def writer(self) -> LanguageModel:
        """The LM that writes."""
        return self._role("llm", lambda: self.config.lm)

    @property
    def judge_lm(self) -> LanguageModel:
        """The judge's LM: the writer's, or one of its own. It answers at temperature 0, or at 1 where the writer does:
        reasoning models accept only 1."""

        def settings() -> LMConfig:
            model = self.config.judge.model or self.config.lm.model
            return self.config.lm.model_copy(
                update={"model": model, "temperature": float(self.config.lm.temperature == 1)}
            )

        return self._role("judge", settings)

    @property
    def reflection(self) -> LanguageModel:
        """The LM that proposes instructions. The same question asked twice gets two answers."""

        def settings() -> LMConfig:
            config = self.config.compile
            update = {
                "model": config.reflection or self.config.lm.model,
                "temperature": 1.0,
                "max_tokens": config.reflection_tokens,
            }
            return self.config.lm.model_copy(update=update)

        return self._role("reflection", settings, repeats=True)

    def _role(self, name: str, settings: Callable[[], LMConfig], *, repeats: bool = False) -> LanguageModel:
        if name not in self._opened:
            self._opened[name] = self._open(settings(), self._folder / f"{name}.log", repeats=repeats)
        return self._opened[name]

    def _open(self, lm: LMConfig, log: Path, *, repeats: bool) -> LanguageModel:
        """An LM of the run; one with the writer's model shares its endpoint. Raises ConfigError where dollars are limited and
        the price is not known."""
        fetch_with_progress(lm.model, self._progress)
        shared = self.writer if lm is not self.config.lm and lm.model == self.config.lm.model else None
        terms = Terms(repeats, self._pending, self.budget)
        opened = LanguageModel.open(lm, self.ledger, log=log, server_of=shared, connect=self._connect, terms=terms)
        if self.config.budget.usd and not opened.engine.price_known:
            opened.close()
            raise ConfigError(
                f"the price of {lm.model!r} is not known, so --budget-usd cannot be kept",
                todo="limit calls or tokens: --budget-calls, --budget-tokens",
            )
        return opened

    @contextmanager
    def limited(self, budget: Budget) -> Iterator[None]:
        """While this is open, every call of writer and reflection LM has to fit into `budget`, too."""
        with self.writer.engine.within(budget), self.reflection.engine.within(budget):
            yield

    def close(self) -> None:
        """End the LMs and the ledger; they are opened again when asked for again."""
        for name in ("judge", "reflection", "llm"):  # the writer last: others may share its server
            if opened := self._opened.pop(name, None):
                opened.close()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
