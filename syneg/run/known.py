"""What is known of a run before it goes on, found without calling an LM, fetching a model or computing a stage.

    known = Known(run, rates)
    known.is_mined          → True
    known.strength          → Strength(passed=5, written=6, …), or None if the writer was never tested
    known.judges            → False

An encoder or an LM whose weights are not on this machine has made nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from syneg.core.errors import SynegError
from syneg.core.fetch import is_here
from syneg.core.records import MinedNegative
from syneg.data.tasks import Task, task_for
from syneg.llm.lms import LanguageModel
from syneg.llm.role_settings import reader_settings, reflection_settings
from syneg.negatives.assignment import plan_domains
from syneg.negatives.calibration import Calibration, TrustedJudge
from syneg.negatives.strength import Strength, known_strength
from syneg.negatives.text_reading import TrustedReader
from syneg.programs import load_query_program

from .arms import Arm
from .compile import is_compiled
from .compile_queries import QueriesPlan
from .folds import pairs_of_folds, wants_folds
from .judge import known_calibration
from .measured import Measured
from .near_readings import GROUNDING
from .parts import Parts
from .rates import Rates
from .readings import READING
from .text_reader import text_reader


class Known:
    """Looks into the folder of a run. Each property is looked up once."""

    def __init__(self, parts: Parts, rates: Rates) -> None:
        """`rates` are those of the ledger."""
        self._workspace, self._rates = parts.workspace, rates
        self._readings, self._config = parts.readings, parts.workspace.config
        self.arms: list[Arm] = parts.experiment.planned

    @cached_property
    def encoder_is_here(self) -> bool:
        """Whether the encoder can be loaded without fetching it."""
        return _is_model_here(self._config.encoder.model, self._config.encoder.revision)

    @cached_property
    def cross_encoder_is_here(self) -> bool:
        """Whether `reader.cross_encoder` is named and can be loaded without fetching it."""
        name = self._config.reader.cross_encoder
        return name is not None and _is_model_here(name, None)

    @cached_property
    def _writer(self) -> LanguageModel | None:
        """The writer's LM, opened; None where its weights would have to be fetched."""
        here = self._config.executor.replay or is_here(self._config.lm.model)
        return self._workspace.roles.writer if here else None

    @cached_property
    def is_mined(self) -> bool:
        """Whether the negatives are mined for the current settings."""
        return self.encoder_is_here and self._workspace.is_mined

    @cached_property
    def pairs(self) -> int:
        """The number of pairs that are trained on."""
        return len(self._workspace.train_split[: self._config.train.pairs or None])

    def queries(self, split: str) -> int:
        """Count the queries of `split`."""
        return len(self._workspace.collection.splits[split])

    @cached_property
    def strength(self) -> Strength | None:
        """The measured strength of the writer; None where it was never measured."""
        return known_strength(self._writer) if self._writer else None

    @property
    def needs_strength(self) -> bool:
        """Whether a setting is `auto` and follows the strength of the writer."""
        programs = {self._config.generate.program, *(arm.config.generate.program for arm in self.arms)}
        return "auto" in programs or self._config.judge.use == "auto"

    @property
    def is_strong(self) -> bool:
        """Whether the writer is strong. Before it is measured, embedded LMs count as small and all others as strong."""
        return self.strength.strong if self.strength else not self._config.lm.model.startswith("local/")

    @property
    def judges(self) -> bool:
        """Whether a judge will read negatives. A judge that was never calibrated counts as trusted."""
        use = self._config.judge.use
        wanted = use == "on" or (use == "auto" and self.is_strong)
        return wanted and (self.calibration is None or self.calibration.trusted)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the judge; None where it was never calibrated with these settings."""
        return known_calibration(self._workspace) if self.is_mined and self._writer else None

    @cached_property
    def task(self) -> Task | None:
        """The task. With `generate.plan` it holds the domains that the LM named; None until the LM has named them."""
        task = task_for(self._config)
        if not self._config.generate.plan or self._config.generate.domains:
            return task
        if self._writer is None:
            return None
        with self._writer.engine.uncalled():
            try:
                passages = self._workspace.collection.passages
                return plan_domains(task, passages, self._writer, self._config.seed)
            except SynegError:
                return None

    @property
    def _reader_is_here(self) -> bool:
        reader = self._config.reader
        models = [reader_settings(self._config).model, *filter(None, [reader.strong])]
        scores = reader.cross_encoder is None or self.cross_encoder_is_here
        return self.is_mined and scores and all(map(is_here, models))

    @cached_property
    def measured_reader(self) -> Measured | None:
        """The measurement of the reader; None where it was not measured with these settings."""
        return self._readings.reader.measured if self._reader_is_here and self._readings.reader.is_measured else None

    @property
    def queries_to_read(self) -> int:
        """The number of train queries whose passages the reader has not graded."""
        made, most = self._lists
        return 0 if made else max(0, most - self._rates.calls(READING, reader_settings(self._config).model))

    @property
    def queries_to_look_at(self) -> int:
        """The number of queries whose new 3s are looked at again; 0 if all lists are graded."""
        made, most = self._lists
        return 0 if made else most

    @property
    def _lists(self) -> tuple[bool, int]:
        """Whether the lists of the train queries are graded, and their number."""
        made = self._reader_is_here and self._readings.is_made
        if self.folds and any(arm.reads for arm in self.arms):
            made = made and self._workspace.manifest.key("folds") is not None
            most = self._config.reader.pairs or len(self._workspace.collection.queries)
            return made, min(most, len(pairs_of_folds(self._workspace)[0]))
        return made, self._readings.queries

    @property
    def queries_to_ground(self) -> int:
        """The number of queries for which the reader has not graded the real passages near written texts."""
        programs = dict.fromkeys(arm.config.generate.program for arm in self.arms if arm.grounds)
        if not programs:
            return 0
        made = all(self._readings.near.is_made(program) for program in programs)
        written = self._workspace.pairs_to_write
        if self.folds:
            made = made and self._workspace.manifest.key("folds") is not None
            written = pairs_of_folds(self._workspace)[1]
        if made:
            return 0
        most = min(self._config.reader.pairs or len(written), len(written)) * len(programs)
        return max(0, most - self._rates.calls(GROUNDING, reader_settings(self._config).model))

    @cached_property
    def folds(self) -> int:
        """The number of folds of cross-fitting; 0 where the run is not cross-fitted."""
        return self._config.evaluate.folds if wants_folds(self._workspace) else 0

    @property
    def is_reader_compiled(self) -> bool:
        """Whether the program of the reader is compiled for the current settings."""
        return self._reader_is_here and self._readings.reader.is_compiled

    @property
    def passages(self) -> Mapping[str, str]:
        """The passages of the collection."""
        return self._workspace.collection.passages

    @property
    def are_queries_compiled(self) -> bool:
        """Whether the program that writes queries is compiled for the current settings."""
        if self._writer is None or not self.encoder_is_here or not is_here(reflection_settings(self._config).model):
            return False
        name = self._config.queries.program
        return is_compiled(self._workspace, QueriesPlan(self._workspace, name, load_query_program(name)))

    @property
    def deciding_queries(self) -> int:
        """The number of queries that decide between two programs of the reader."""
        return self._readings.reader.plan.deciding

    @cached_property
    def _candidates(self) -> Mapping[str, Sequence[MinedNegative]]:
        """The passages that programs rewrite, by query id: graded ones if a reader has graded them, else mined ones."""
        read = self._may_read and self._readings.is_made
        return self._readings.candidates() if read else self._workspace.mined

    @property
    def _may_read(self) -> bool:
        """Whether the reader was measured, or is used unmeasured; a cross-encoder is measured for its thresholds."""
        reader, config = self._readings.reader, self._config.reader
        if not self._reader_is_here or not reader.is_compiled:
            return False
        return (config.use == "on" and not config.cross_encoder) or reader.is_measured

    @property
    def _judge_is_open(self) -> bool:
        """Whether a judge is wanted but not calibrated."""
        return self.judges and self.calibration is None

    @property
    def _judge(self) -> TrustedJudge | TrustedReader | None:
        if not self.judges:
            return self.text_reader
        if self.calibration is None:
            return None
        return TrustedJudge(self._workspace.roles.judge_lm, self.calibration)

    @property
    def text_reader(self) -> TrustedReader | None:
        """The reader that decides about texts over the margin; None if it does not, or was never measured."""
        return text_reader(self._workspace, self._readings.reader) if self._may_read else None


def _is_model_here(name: str, revision: str | None) -> bool:
    """Whether a model is a folder, was fetched as local/NAME, or is in the cache of the Hugging Face hub."""
    if name.startswith("local/") or Path(name).expanduser().is_dir():
        return is_here(name) or not name.startswith("local/")
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
