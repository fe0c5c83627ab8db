"""The LMs of a run by role: the writer, and the judge. Both are measured before anything goes by them.

    roles = Roles(run_folder, config, progress)
    roles.strength.strong      → may the writer see the positive, is it worth asking as a judge?
    roles.judge(collection, encoder) → (judge_lm, Calibration(…)) when a judge is wanted and trusted, else None

LMs are opened when first needed; `close` ends them, so that training has the memory of the embedded server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import dspy

from syneg.core.config import Config, LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import fetch_with_progress
from syneg.core.progress import Progress
from syneg.core.records import fingerprint
from syneg.core.storage import read_json, write_json
from syneg.data.collection import Collection
from syneg.data.tasks import task_for
from syneg.negatives.calibration import Calibration, calibrate, labelled_passages
from syneg.negatives.strength import Strength, strength
from syneg.programs import Judge
from syneg.retrieval.encoder import Encoder

from .budget import Budget
from .ledger import Ledger
from .lms import LanguageModel

if TYPE_CHECKING:
    from syneg.run.cluster import Cluster

    from .batch_files import Pending


class Roles:
    """Opens, measures and closes the LMs of one run folder."""

    def __init__(self, folder: Path, config: Config, progress: Progress, cluster: Cluster | None = None) -> None:
        self.folder, self.config, self.progress, self.cluster = folder, config, progress, cluster
        self.deferred: Pending | None = None  # where calls go that are not to be made now
        # DSPy's own cache would unpickle what lies in a folder of the user's; the ledger does its work
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False, restrict_pickle=True)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger" / "calls.jsonl", self.progress.call)

    @cached_property
    def writer(self) -> LanguageModel:
        return self._open(self.config.lm, "llm.log")

    @cached_property
    def judge_lm(self) -> LanguageModel:
        """The judge's LM: the writer's, or one of its own. It answers at temperature 0, but where the writer's is 1: models
        that reason take nothing else."""
        model = self.config.judge.model or self.config.lm.model
        lm = self.config.lm.model_copy(update={"model": model, "temperature": float(self.config.lm.temperature == 1)})
        return self._open(lm, "judge.log")

    @cached_property
    def reflection(self) -> LanguageModel:
        """The LM that proposes instructions. The same question asked twice gets two answers."""
        config = self.config.compile
        model = config.reflection or self.config.lm.model
        lm = self.config.lm.model_copy(
            update={"model": model, "temperature": 1.0, "max_tokens": config.reflection_tokens}
        )
        return self._open(lm, "reflection.log", repeats=True)

    @cached_property
    def budget(self) -> Budget:
        """What all calls of this command may use together."""
        budget = Budget(**self.config.budget.model_dump())
        self.progress.dollars = lambda: budget.used["usd"]
        return budget

    def _open(self, lm: LMConfig, log: str, *, repeats: bool = False) -> LanguageModel:
        """An LM of the run; one with the writer's model shares its endpoint. Raises ConfigError where dollars are limited and
        the price is not known."""
        fetch_with_progress(lm.model, self.progress)
        shared = self.writer if lm is not self.config.lm and lm.model == self.config.lm.model else None
        opened = LanguageModel.open(
            lm, self.ledger, log=self.folder / log, server_of=shared, repeats=repeats, cluster=self.cluster
        )
        if self.config.budget.usd and not opened.engine.price_known:
            raise ConfigError(
                f"the price of {lm.model!r} is not known, so --budget-usd cannot be kept",
                todo="limit calls or tokens: --budget-calls, --budget-tokens",
            )
        opened.engine.budgets.append(self.budget)
        opened.engine.deferred = self.deferred
        return opened

    @contextmanager
    def limited(self, budget: Budget) -> Iterator[None]:
        """While this is open, every call of writer and reflection LM has to fit into `budget`, too."""
        engines = [self.writer.engine, self.reflection.engine]
        for engine in engines:
            engine.budgets.append(budget)
        try:
            yield
        finally:
            for engine in engines:
                engine.budgets.remove(budget)

    def close(self) -> None:
        """End what was opened; it is opened again when asked for again."""
        for name in ("judge_lm", "reflection", "writer", "ledger"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    @cached_property
    def strength(self) -> Strength:
        """How well the writer writes with the positive in sight; what `auto` settings go by."""
        with self.progress.stage("strength", "tests") as line:
            found = strength(self.writer, line)
            faults = "".join(f", {fault} {n}" for fault, n in found.faults.items())
            kind = "strong" if found.strong else "small"
            line.note = f"{found.passed} of {found.written} tests passed: {kind} model{faults}"
        return found

    def judge(self, collection: Collection, encoder: Encoder) -> tuple[LanguageModel, Calibration] | None:
        """The judge, when one is wanted and its calibration allows; says so when it is switched off."""
        use = self.config.judge.use
        if use == "off" or (use == "auto" and not self.strength.strong):
            return None
        found = self.calibration(collection, encoder)
        if found.trusted:
            return self.judge_lm, found
        self.progress.say(
            f"  the judge is switched off: kappa {found.kappa:.2f} (wanted {self.config.judge.min_kappa:g}), "
            f"p {found.p_value:.2g}; the margin decides"
        )
        return None

    def calibration(self, collection: Collection, encoder: Encoder) -> Calibration:
        """The judge's LM held against labelled passages of the collection; kept in judge.json."""
        judge, path, task = Judge(), self.folder / "judge.json", task_for(self.config).definition
        questions = labelled_passages(collection, encoder, self.config.judge, task, self.config.seed)
        key = fingerprint(
            [asdict(q) for q in questions], judge.dump_state(), self.judge_lm.identity, self.config.judge.min_kappa
        )
        kept = read_json(path)
        if kept is None or kept["key"] != key:
            with self.progress.stage("calibrate", "passages") as line:
                found = calibrate(questions, judge, self.judge_lm, self.config.judge, line)
                line.note = f"judge {found.lm.split('@')[0]}: kappa {found.kappa:.2f}, accuracy {found.accuracy:.2f}"
            kept = {"key": key, **asdict(found)}
            write_json(path, kept)
        return Calibration(**{name: value for name, value in kept.items() if name != "key"})
