"""Run the second half of the path: from negatives to the verdict.

    Experiment(workspace, negatives, readings).verdict() → Verdict, the data of verdict.json

Results that the run folder holds for the same inputs are reused.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from syneg.core.records import Draft
from syneg.core.storage import read_json, write_json
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import SplitResult
from syneg.retrieval.metrics import PerQuery
from syneg.verdict.boundary import Scores, boundary_scores, boundary_values
from syneg.verdict.records import BASE, NearMisses, Verdict, WrittenQueries
from syneg.verdict.source_probe import source_probe
from syneg.verdict.verdict import ArmRuns, Cost, Facts, verdict

from .arms import Arm
from .best import save_best
from .costs import part_of, sum_of
from .folds import cross_fit
from .keys import stage_key
from .trained import TrainedArms


class Experiment(TrainedArms):
    """The arms of a run, with their boundary test and their verdict."""

    def _encoder(self, model: Path | None) -> Encoder:
        return self._workspace.encoder if model is None else Encoder.load(self._workspace.config.encoder, model)

    @cached_property
    def boundary(self) -> dict[str, list[PerQuery]]:
        """Values of the boundary test: arm → one entry per seed → metric → query_id → value. {} without near-misses."""
        if self.near_misses is None:
            return {}
        evaluated = {BASE: [self._at_boundary(BASE, self._workspace.encoder.fingerprint, None, self.results[BASE][0])]}
        for arm in self.arms:
            evaluated[arm.name] = []
            for seed, result in zip(arm.config.train.seeds, self.results[arm.name], strict=True):
                name = arm.file_name(seed)
                key = self._workspace.manifest.key(f"train {name}") or ""
                evaluated[arm.name].append(self._at_boundary(name, key, self._workspace.folder.model(name), result))
        return evaluated

    def _at_boundary(self, name: str, weights: str, model: Path | None, result: dict[str, SplitResult]) -> PerQuery:
        workspace = self._workspace
        assert self.near_misses is not None
        near = {q: [draft.negative.text for draft in drafts] for q, drafts in self.near_misses.accepted.items()}
        path = workspace.folder.boundary(name)
        key = stage_key(
            "boundary", workspace.config, workspace.collection.fingerprint, weights, workspace.encoder.prompts, near
        )
        workspace.manifest.make(
            f"boundary {name}", key, path,
            lambda: write_json(path, asdict(boundary_scores(self._encoder(model), workspace.collection, near))),
            "boundary test",
        )  # fmt: skip
        ranking = {q: scores for split in result.values() for q, scores in split.ranking.items() if q in near}
        return boundary_values(Scores(**read_json(path)), ranking, workspace.collection.qrels)

    @property
    def negatives(self) -> list[Draft]:
        """Every synthetic negative, accepted or not, of the first planned arm that uses some; [] if none does."""
        arm = next((arm for arm in self.planned if arm.wants_synthetic), None)
        return self._written(arm).drafts if arm else []

    def probe(self) -> dict[str, float]:
        """Train a linear probe to tell synthetic from mined negatives of the same queries; return metric → AUC.

        Returns {} if there are too few negatives.
        """
        accepted = [draft for draft in self.negatives if draft.accepted]
        texts = [draft.negative.text for draft in accepted]
        mined = [
            n.text
            for query_id in dict.fromkeys(draft.pair.query_id for draft in accepted)
            for n in self._workspace.mined.get(query_id, ())
        ]
        return source_probe(texts, mined, self._workspace.encoder, seed=self._workspace.config.seed)

    def verdict(self) -> Verdict:
        """Compare all arms on test, by cross-fitting if that split is small. Saves the best model on dev in best/."""
        workspace, near = self._workspace, self.near_misses
        self.say_ceiling()  # after the first LM calls: a wrong key is found before the corpus is embedded
        wrote = workspace.manifest.facts.get("written_queries") if workspace.config.writes_queries else None
        counts = near.facts if near else None
        facts = Facts(
            generation=self.generation, source_probe=self.probe(),
            near_misses=NearMisses(counts.program, counts.lm, counts.accepted, counts.covered) if counts else None,
            no_boundary="" if near else workspace.manifest.facts.get("no_boundary", ""), left_out=tuple(self.left_out),
            written_queries=WrittenQueries(**wrote) if wrote else None,
        )  # fmt: skip
        runs = {BASE: self._runs(None), **{arm.name: self._runs(arm) for arm in self.arms}}
        collection = workspace.collection
        crossed = cross_fit(
            workspace,
            self._sets,
            self.arms,
            self._readings,
            lambda fold, sets, read: Experiment(fold, sets, read, self.arms).results,
        )
        if crossed is not None:
            runs = {name: replace(evaluated, results=crossed.results[name]) for name, evaluated in runs.items()}
            collection, facts = crossed.collection, replace(facts, folds=crossed.folds)
            if facts.written_queries:  # human queries would prevent folds: all tested queries were written
                tested = len(collection.splits["test"])
                facts = replace(facts, written_queries=replace(facts.written_queries, tested=tested))
        compared = verdict(runs, collection, workspace.config.evaluate.alpha, facts)
        save_best(workspace, compared, self.arms)
        return compared

    def _runs(self, arm: Arm | None) -> ArmRuns:
        """Collect the evaluations, trainings and cost of an arm. None stands for the untuned base."""
        name = arm.name if arm else BASE
        near = sum(map(len, self.near_misses.accepted.values())) if self.near_misses else 0
        if arm is None:
            return ArmRuns(self.results[name], boundary=self.boundary.get(name, ()), near_misses=near)
        return ArmRuns(
            self.results[name], arm.config.train.seeds, self.boundary.get(name, ()),
            [self.trained(arm, seed)[1] for seed in arm.config.train.seeds], self._cost(arm), near,
        )  # fmt: skip

    def _cost(self, arm: Arm) -> Cost | None:
        """Add up what an arm's LM calls cost, for writing and reading. None for an arm without an LM."""
        costs = self._reading_costs(arm) if self._readings.reader.uses_lm else []
        if arm.wants_synthetic:
            facts = self._written(arm).facts
            costs.append(Cost(facts.calls, facts.input_tokens, facts.output_tokens, facts.usd))
        if not costs:
            return None
        allowed, whole = self._allowed(arm), sum_of(costs)
        return whole if allowed is None else part_of(whole, sum(self._calls(arm)[q] for q in allowed))

    def _reading_costs(self, arm: Arm) -> list[Cost]:
        """What measuring the reader, its lists and the passages near written texts cost, as far as an arm uses them."""
        readings = self._readings
        costs = [readings.cost] if readings.serve(arm) else []
        near = self._near(arm) if arm.grounds else None
        if near is not None and near.readings:
            tested = not costs and self._workspace.config.reader.use != "on"
            costs += [readings.reader.measured.cost, near.cost] if tested else [near.cost]
        return costs
