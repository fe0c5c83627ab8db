"""Run one trial: fill the rows of an arm, train a fresh encoder on them, evaluate it on the whole corpus.

    trials = Trials(workspace)
    job = trials.job("hybrid", config, FromLM(weighed(negatives, config.mix)), seed=0)
    trials.train(job, folder/"models/hybrid-0", "hybrid-0")      → Training, the data of training.json
    trials.evaluate(trials.load(folder/"models/hybrid-0", config), ("test",)) → {"test": SplitResult(…)}

The verdict and the confirmation of a compiled program both use trials. The trials of one run share the dev set and the
cached output of frozen layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from syneg.core.config import Config, MineConfig, MixConfig, TrainConfig
from syneg.core.counts import counted
from syneg.core.errors import BackendError
from syneg.core.progress import Tick
from syneg.core.records import HardNegative, Instance, MinedNegative, Training, fingerprint
from syneg.negatives.grounding import Grades, ground
from syneg.negatives.mining import mine
from syneg.retrieval.dev_set import DevSet, dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import EVALUATED, SplitResult, evaluate_model
from syneg.training.frozen import FrozenLayers, LayerCache, frozen_count
from syneg.training.job import Job, Start, check_trainable, write_job
from syneg.training.sampling import ARMS, Supply, Weighed, confidence, epochs_of, filling_of
from syneg.training.trainer import train

from .arms import READER, mining_of_arm
from .cluster_trials import trained_on
from .mined_rows import read_mined, write_mined
from .readings import Readings
from .teachers import Teachers
from .workspace import Workspace


@dataclass(frozen=True)
class FirstPart:
    """The first part of a training that mines again after it (`train.remine`): its model, the rows that it was trained
    on, by epoch, and what its encoder mined."""

    start: Start
    epochs: Sequence[Sequence[Instance]]
    mined: Mapping[str, Sequence[MinedNegative]]


@dataclass(frozen=True)
class FromLM:
    """What an LM wrote and read for an arm, by query_id.

    `written` are synthetic negatives with their weights. `near` are the doc_ids nearest to written texts, for grounded
    arms, and `grades` those of a reader for them. `read` limits the grades of the reader's lists to these query ids
    (None = all).
    """

    written: Mapping[str, Sequence[Weighed]] = field(default_factory=dict)
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    grades: Grades = field(default_factory=dict)
    read: Container[str] | None = None


class Trials:
    """Trains and evaluates with the collection, encoder and mined negatives of a workspace."""

    def __init__(self, workspace: Workspace, readings: Readings | None = None) -> None:
        """`readings` are needed by arms that use the grades of a reader."""
        self._workspace, self._readings = workspace, readings
        self._states: dict[int, LayerCache] = {}
        self._of_rules: dict[str, Mapping[str, Sequence[MinedNegative]]] = {}
        self._near: dict[str, Mapping[str, Sequence[MinedNegative]]] = {}
        self._said_unfrozen = False
        self.elsewhere: dict[str, dict[str, SplitResult]] = {}

    @cached_property
    def teachers(self) -> Teachers:
        """The teachers that arms may distil from. Needs `readings`."""
        assert self._readings is not None
        return Teachers(self._workspace, self._readings)

    @cached_property
    def _dev(self) -> DevSet:
        workspace = self._workspace
        return dev_set(
            workspace.encoder, workspace.collection, workspace.config.train.dev_passages, workspace.config.seed
        )

    def job(
        self,
        kind: str,
        config: Config,
        by_lm: FromLM,
        seed: int,
        first: FirstPart | None = None,
    ) -> Job:
        """Fill the rows for an arm of `kind` (a key of sampling.ARMS); return them with all that training needs.

        After `first`, the job is to train the epochs that are left.
        """
        workspace, filling = self._workspace, filling_of(kind, config.mix)
        done = len(first.epochs) if first else 0
        relevant = {pair.query_id: workspace.collection.answers(pair.query_id) for pair in workspace.pairs}
        mined = first.mined if first else self._mined(self.mining(kind, config))
        supply, read = Supply(workspace.pairs, mined, by_lm.written, use=config.train.positives), by_lm.read
        if filling.read and self._readings is not None:
            fed = self._readings.fed_of(read)
            supply = replace(supply, mined=fed.mined, extra=fed.extra)
            relevant = {q: (*texts, *fed.masked.get(q, ())) for q, texts in relevant.items()}
        if filling.grounded:
            supply = replace(supply, grounded=self._grounded(by_lm))
        taught: dict[str, dict[str, float]] = {}
        if config.train.distil and self._readings is not None:
            scores = self.teachers.scores(config.train.teacher)
            if config.train.teacher == READER and read is not None:
                scores = {q: own for q, own in scores.items() if q in read}
            if filling.read and scores:
                partial = self._readings.fed_of(read).partial  # masked in the softmax, scored by the teacher
                both = {q: [*negatives, *partial.get(q, ())] for q, negatives in supply.mined.items()}
                supply = replace(supply, mined=both)
            supply = replace(supply, taught=scores)
            passages = workspace.collection.passages
            taught = {q: {passages[d]: score for d, score in own.items()} for q, own in scores.items()}
        train = config.train.model_copy(update={"epochs": config.train.epochs - done})
        epochs = epochs_of(supply, config.mix, arm=kind, seed=seed, count=math.ceil(train.epochs), first=done)
        start = first.start if first else None
        return Job(workspace.config.encoder, epochs, relevant, self._dev, train, seed, taught, start)

    def _grounded(self, by_lm: FromLM) -> Mapping[str, Sequence[MinedNegative]]:
        """Take the real passages nearest to the written texts. Grades, if there are any, decide in place of the
        margin."""
        workspace, key = self._workspace, fingerprint(by_lm.near, by_lm.grades)
        if key not in self._near:
            self._near[key] = ground(
                workspace.collection, workspace.encoder, workspace.pairs, by_lm.near, by_lm.grades, workspace.mining
            )
        return self._near[key]

    def mining(self, kind: str, config: Config) -> MineConfig:
        """The settings of mining for an arm of `kind` with the settings `config`."""
        workspace = self._workspace
        rules = mining_of_arm(config.mine, workspace.config.mine, workspace.mining)
        return rules.model_copy(update={"sources": ARMS[kind].sources or rules.sources})

    def _mined(self, rules: MineConfig) -> Mapping[str, Sequence[MinedNegative]]:
        """Mine by `rules`: query_id → negatives. The list of the run is shared by all arms with its rules.

        A part of that list would not do: a passage that two sources find is listed under the first, and a window or a
        margin leaves out what another one would take.
        """
        workspace = self._workspace
        changed = {key: value for key, value in rules if value != getattr(workspace.mining, key)}
        if not changed:
            return workspace.mined
        key = fingerprint(changed)
        if key not in self._of_rules:
            of = "by " + ", ".join(f"{name}={value}" for name, value in changed.items())
            name = f"mined-{'-'.join(rules.sources) if [*changed] == ['sources'] else key[:8]}"
            weights = workspace.encoder.fingerprint
            self._of_rules[key] = self._mined_by(lambda: workspace.encoder, weights, rules, name, of)
        return self._of_rules[key]

    def mined_again(self, start: Start, config: Config, name: str) -> Mapping[str, Sequence[MinedNegative]]:
        """Mine with the model of `start`, by the rules of its arm: query_id → negatives. `name` names the file."""
        return self._mined_by(
            lambda: self.load(Path(start.folder), config), start.key, self.mining("mined", config), f"mined-{name}",
            "by the encoder as trained so far",
        )  # fmt: skip

    def _mined_by(
        self, load: Callable[[], Encoder], weights: str, config: MineConfig, name: str, of: str
    ) -> Mapping[str, Sequence[MinedNegative]]:
        """Mine for the train pairs with the encoder that `load` gives, into NAME.jsonl; reuse that file if `weights`,
        the key of the encoder, and all else are the same. `of` says in the progress line what is special."""
        workspace, path = self._workspace, self._workspace.folder / f"{name}.jsonl"
        key = fingerprint(
            workspace.collection.fingerprint, weights, workspace.encoder.prompts, config.model_dump(),
            [pair.query_id for pair in workspace.pairs],
        )  # fmt: skip

        def work() -> None:
            with workspace.progress.stage("mine", "passages") as line:
                encoder = load()
                mining = mine(workspace.collection, workspace.pairs, encoder, config, line)
                if encoder is not workspace.encoder:
                    encoder.forget()  # the embeddings of a trained model are not used again
                line.note = f"{counted(write_mined(path, mining.negatives), 'negative')} {of}"

        workspace.manifest.make(name, key, path, work)
        return read_mined(path)

    def train(self, job: Job, folder: Path, name: str) -> Training:
        """Train `job`, write the model into `folder` and return the record; the progress line shows `name`.

        With `train.processes = 0` it only writes the job to disk and raises BackendError, which says how to launch it.
        """
        if job.config.processes == 0:
            write_job(job, folder)
            raise BackendError(
                f"the training of {name} is to be launched by hand", where=str(folder / "job.json"),
                todo=f"run `torchrun --nproc_per_node N -m syneg.training {folder}`, then this command again",
            )  # fmt: skip
        self._workspace.close_lms()  # frees memory for the training
        with self._workspace.progress.stage("train", f"steps of {name}") as line:
            done = train(
                job, folder, encoder=self._workspace.encoder, states=self._states_of(job.config), progress=line
            )
            line.note = f"{name}: {counted(done.steps, 'step')}, {done.synthetic_share:.0%} of negatives synthetic"
        return done

    def train_elsewhere(self, begun: Mapping[str, tuple[Job, Path]]) -> None:
        """Train and evaluate on the run's cluster the jobs whose folders hold no model: name → (job, folder).

        Puts the evaluations into `elsewhere`. Does nothing if a training takes several processes.
        """
        workspace, cluster = self._workspace, self._workspace.cluster
        jobs = {name: of for name, of in begun.items() if not (of[1] / "training.json").exists()}
        if cluster is None or not jobs or any(job.config.processes != 1 for job, _ in jobs.values()):
            return
        depth, fingerprint = workspace.config.evaluate.depth, workspace.encoder.fingerprint
        with workspace.progress.stage("train", "models") as line:
            line(0, len(jobs))
            plain = {name: job for name, (job, _) in jobs.items()}
            for name, model in trained_on(cluster, plain, workspace.collection, depth, fingerprint):
                self.elsewhere[name] = dict(model.results)
                model.write(jobs[name][1])
                line(len(self.elsewhere), len(jobs))
            line.note = f"{counted(len(jobs), 'model')} on {counted(cluster.workers, 'worker')}"

    def load(self, folder: Path, config: Config) -> Encoder:
        """Load the trained encoder of `folder`, with the cached output of its frozen layers."""
        encoder, states = Encoder.load(self._workspace.config.encoder, folder), self._states_of(config.train)
        if states is not None:
            FrozenLayers(encoder.model, config.train.frozen_layers, states).attach(encoder.model)
        return encoder

    def check(self, config: TrainConfig) -> None:
        """Raise ConfigError if training with these settings would fail. Called before any LM call is paid for."""
        model = self._workspace.encoder.model
        check_trainable(model, config)
        if config.frozen_layers and not frozen_count(model, config.frozen_layers) and not self._said_unfrozen:
            self._workspace.progress.say("  this encoder has no layers that can be frozen: all of it is trained")
            self._said_unfrozen = True

    def evaluate(
        self, encoder: Encoder, splits: Sequence[str] = EVALUATED, progress: Tick | None = None
    ) -> dict[str, SplitResult]:
        """Rank the whole corpus for the queries of `splits`; return split → rankings and metrics."""
        results = evaluate_model(
            encoder, self._workspace.collection, self._workspace.config.evaluate.depth, progress, splits
        )
        encoder.forget()  # the embeddings of a trained model are not used again
        return results

    def _states_of(self, train: TrainConfig) -> LayerCache | None:
        """The cache of frozen layers, shared by trainings that freeze the same number; None if none is frozen."""
        count = frozen_count(self._workspace.encoder.model, train.frozen_layers)
        return self._states.setdefault(count, LayerCache()) if count else None


def weighed(negatives: Mapping[str, Sequence[tuple[HardNegative, float]]], mix: MixConfig) -> dict[str, list[Weighed]]:
    """Give each synthetic negative its weight in the softmax: `mix.weight`, times its confidence if that is on.

    `negatives[query_id]` are pairs of a negative and its score divided by the positive's score. With `mix.confidence`,
    the weight falls as that share approaches 1.
    """
    return {
        query_id: [(n, mix.weight * (confidence(share) if mix.confidence else 1.0)) for n, share in rows]
        for query_id, rows in negatives.items()
    }
