"""Trains and evaluates the arms of a run, for every seed, and makes the verdict; only what is missing is computed.

    Experiment(run).verdict() → the data of verdict.json

A model's key is a hash of its instances, its settings, the encoder and the seed; two arms with the same key are still
trained each, but they share embeddings, the output of frozen layers, mined and synthetic negatives, and the dev set.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syneg.core.errors import DataError
from syneg.core.records import HardNegative, Instance, fingerprint
from syneg.core.storage import read_json, write_json
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import SplitResult, evaluate_model
from syneg.retrieval.metrics import PerQuery, write_trec
from syneg.training.sampling import PADDING, SYNTHETIC, confidence, mix
from syneg.verdict.verdict import BASE, verdict

from .arms import Arm, arms

if TYPE_CHECKING:
    from syneg.training.frozen import States

    from .negative_sets import Written
    from .pipeline import Run


class Experiment:
    """The second half of the path: from negatives to the verdict."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.arms = arms(run.config)
        self._states: dict[int | str, States] = {}

    def _written(self, arm: Arm) -> Written:
        return self._run.negatives.of(arm.config.generate.program)

    @cached_property
    def generation(self) -> dict[str, Any] | None:
        """Counts of the set by the run's program; None when no arm uses synthetic negatives. All sets are made."""
        written = [self._written(arm) for arm in self.arms if arm.wants_synthetic]
        if not written:
            return None
        return self._run.manifest.facts["negatives"].get("negatives", written[0].facts)

    @cached_property
    def near_misses(self) -> Written | None:
        """The near-misses of the boundary test; None where there can be none, or where no arm needs an LM and no
        `boundary.program` is named."""
        programs = [arm.config.generate.program for arm in self.arms if arm.wants_synthetic]
        if not programs and self._run.config.boundary.program == "auto":
            return None
        return self._run.negatives.near_misses(programs)

    def instances(self, arm: Arm, seed: int) -> list[Instance]:
        """The training rows of an arm. Raises DataError when it wants synthetic negatives and there is none."""
        run, settings = self._run, arm.config.mix
        synthetic = {}
        if arm.wants_synthetic:
            written = self._written(arm)
            if not written.accepted:
                reasons = ", ".join(f"{reason} {n}" for reason, n in written.facts["reasons"].items())
                raise DataError(
                    f"the gates accepted no synthetic negative ({reasons})", where=str(run.folder / "negatives.jsonl"),
                    todo="read the file; try another --lm or --program, more --pairs, or other gates",
                )  # fmt: skip
            synthetic = {
                query_id: [
                    (HardNegative.of(row), settings.weight * (confidence(row["figures"].get("margin", 0)) if settings.confidence else 1))
                    for row in rows
                ]
                for query_id, rows in written.accepted.items()
            }  # fmt: skip
        return mix(
            run.pairs, run.mined, synthetic, arm=arm.kind, negatives=settings.negatives, ratio=settings.ratio, seed=seed
        )

    @cached_property
    def _dev(self) -> Any:
        from syneg.retrieval.dev_set import dev_set

        run = self._run
        return dev_set(run.encoder, run.collection, run.config.train.dev_passages, run.config.seed)

    def trained(self, arm: Arm, seed: int) -> tuple[Path, dict[str, Any]]:
        """The folder of a trained model and what its training.json says."""
        run, name = self._run, arm.file_name(seed)
        folder = run.folder / "models" / name
        instances = self.instances(arm, seed)
        settings = arm.config.train.model_dump(exclude={"arms", "seeds", "pairs"})
        key = fingerprint(run.collection.fingerprint, run.encoder.fingerprint, instances, settings, seed)
        if run.manifest.key(f"train {name}") != key:
            shutil.rmtree(folder, ignore_errors=True)
            run.manifest.done(f"train {name}", key)
        if not (folder / "training.json").exists():
            self._train(arm, seed, instances, folder)
        return folder, read_json(folder / "training.json")

    def _train(self, arm: Arm, seed: int, instances: list[Instance], folder: Path) -> None:
        from syneg.training.trainer import Job, train

        run, config = self._run, arm.config.train
        run.close_lms()  # training gets their memory
        relevant = {pair.query_id: run.collection.relevant_texts(pair.query_id) for pair in run.pairs}
        states = self._states_of(arm)
        with run.progress.stage("train", f"steps of {arm.file_name(seed)}") as line:
            job = Job(run.config.encoder, instances, relevant, self._dev, config, seed)
            done = train(job, folder, encoder=run.encoder, states=states, progress=line)
            sources = Counter(source for row in instances for source in row.sources)
            share = sources[SYNTHETIC] / max(1, sources.total() - sources[PADDING])
            write_json(folder / "training.json", {**done, "synthetic_share": share})
            line.note = f"{arm.file_name(seed)}: {done['steps']} steps, {share:.0%} of negatives synthetic"

    def _states_of(self, arm: Arm) -> States | None:
        """The kept output of the layers that the arm does not train; arms that train the same ones share it."""
        from syneg.training.frozen import States

        layers = arm.config.train.frozen_layers
        return self._states.setdefault(layers, States()) if layers else None

    def result(self, arm: Arm, seed: int) -> dict[str, SplitResult]:
        """Of one trained model over the whole corpus."""
        from syneg.training.frozen import FrozenLayers

        folder, _ = self.trained(arm, seed)
        name = arm.file_name(seed)

        def load() -> Encoder:
            encoder, states = self._encoder(folder), self._states_of(arm)
            if states is not None:
                FrozenLayers(encoder.model, arm.config.train.frozen_layers, states).attach(encoder.model)
            return encoder

        return self._evaluated(name, self._run.manifest.key(f"train {name}") or "", load)

    @cached_property
    def results(self) -> dict[str, list[dict[str, SplitResult]]]:
        """Arm → one result per seed; the base has one."""
        _ = self.generation, self.near_misses  # before any training: what can fail for want of an LM should fail early
        base = self._run.encoder
        results = {BASE: [self._evaluated(BASE, base.fingerprint, lambda: base)]}
        return results | {arm.name: [self.result(arm, seed) for seed in arm.config.train.seeds] for arm in self.arms}

    def _evaluated(self, name: str, weights: str, load: Callable[[], Encoder]) -> dict[str, SplitResult]:
        run = self._run
        path = run.folder / "evaluation" / f"{name}.json"
        key = fingerprint(run.collection.fingerprint, weights, run.encoder.prompts, run.config.evaluate.depth)

        def work() -> None:
            with run.progress.stage("evaluate", f"passages by {name}") as line:
                found = evaluate_model(load(), run.collection, run.config.evaluate.depth, line)
                for split, result in found.items():
                    write_trec(run.folder / "runs" / f"{name}.{split}.trec", result.ranking, f"syneg-{name}")
                write_json(path, {split: {"ranking": r.ranking, "values": r.values} for split, r in found.items()})
                line.note = name

        run.manifest.make(f"evaluate {name}", key, path, work)
        return {split: SplitResult(**data) for split, data in read_json(path).items()}

    def _encoder(self, model: Path | None) -> Encoder:
        return self._run.encoder if model is None else Encoder.load(self._run.config.encoder, model)

    @cached_property
    def boundary(self) -> dict[str, list[PerQuery]]:
        """Arm → per seed the values of the boundary test; empty where there are no near-misses."""
        if self.near_misses is None:
            return {}
        found = {BASE: [self._at_boundary(BASE, self._run.encoder.fingerprint, None, self.results[BASE][0])]}
        for arm in self.arms:
            found[arm.name] = []
            for seed, result in zip(arm.config.train.seeds, self.results[arm.name], strict=True):
                name = arm.file_name(seed)
                key = self._run.manifest.key(f"train {name}") or ""
                found[arm.name].append(self._at_boundary(name, key, self._run.folder / "models" / name, result))
        return found

    def _at_boundary(self, name: str, weights: str, model: Path | None, result: dict[str, SplitResult]) -> PerQuery:
        from dataclasses import asdict

        from syneg.verdict.boundary import Scores, boundary_scores, boundary_values

        run = self._run
        assert self.near_misses is not None
        near = {q: [row["text"] for row in rows] for q, rows in self.near_misses.accepted.items()}
        path = run.folder / "boundary" / f"{name}.json"
        key = fingerprint(run.collection.fingerprint, weights, run.encoder.prompts, near)
        run.manifest.make(
            f"boundary {name}", key, path,
            lambda: write_json(path, asdict(boundary_scores(self._encoder(model), run.collection, near))),
        )  # fmt: skip
        ranking = {q: found for split in result.values() for q, found in split.ranking.items() if q in near}
        return boundary_values(Scores(**read_json(path)), ranking, run.collection.qrels)

    @property
    def negatives(self) -> list[dict[str, Any]]:
        """All rows of the first set of synthetic negatives that an arm uses."""
        arm = next((arm for arm in self.arms if arm.wants_synthetic), None)
        return self._written(arm).rows if arm else []

    def probe(self) -> dict[str, float]:
        """AUC of telling the run's synthetic negatives from mined ones of the same queries; {} for too few."""
        from syneg.verdict.source_probe import source_probe

        accepted = [row for row in self.negatives if row["accepted"]]
        texts = [row["text"] for row in accepted]
        mined = [
            n.text
            for query_id in {row["query_id"]: None for row in accepted}
            for n in self._run.mined.get(query_id, ())
        ]
        return source_probe(texts, mined, self._run.encoder, seed=self._run.config.seed)

    def verdict(self) -> dict[str, Any]:
        """All of verdict.json; saves the best model on dev in best/."""
        run = self._run
        found = verdict(self.results, self.boundary, run.collection, run.config.evaluate.alpha)
        found["generation"] = self.generation
        found["source_probe"] = self.probe()
        if self.near_misses is not None:
            found["near_misses"] = {
                key: self.near_misses.facts[key] for key in ("program", "lm", "accepted", "covered")
            }
        elif "no_boundary" in run.manifest.facts:
            found["no_boundary"] = run.manifest.facts["no_boundary"]
        for arm in self.arms:
            row = found["arms"][arm.name]
            row["training"] = [self.trained(arm, seed)[1] for seed in arm.config.train.seeds]
            row["seconds"] = sum(t["seconds"] for t in row["training"]) / len(row["training"])
            facts = (
                self._written(arm).facts if arm.wants_synthetic else {"input_tokens": 0, "output_tokens": 0, "usd": 0.0}
            )
            row |= {key: facts[key] for key in ("input_tokens", "output_tokens", "usd")}
        self._save_best(found)
        return found

    def _save_best(self, found: dict[str, Any]) -> None:
        """Copy the best arm's best seed on dev to best/, in one step."""
        run, best = self._run, found["best"]
        draft, target = run.folder / ".best.tmp", run.folder / "best"
        shutil.rmtree(draft, ignore_errors=True)
        if best == BASE:
            run.encoder.model.save(str(draft), create_model_card=False)
        else:
            scores: list[float] = found["arms"][best]["dev_by_seed"]
            arm = next(arm for arm in self.arms if arm.name == best)
            seed = arm.config.train.seeds[max(range(len(scores)), key=lambda i: scores[i])]
            shutil.copytree(run.folder / "models" / arm.file_name(seed), draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
