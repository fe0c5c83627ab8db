"""The one path: collection, split guard, mine, compile, generate, gates, mix, train, evaluate, verdict, report.

    Run(Path("runs/python-docs"), config, Progress()).until("verdict") → the data of verdict.json

Each stage has a key, a hash of all that its result depends on (`manifest`). A result in the run folder is used when its key
is the same, and made again when not; so a second run does nothing twice, and a changed input never meets an old result.
What is on disk after a crash is whole (`storage`), and inside generation and training work goes on where it stopped.
"""

from __future__ import annotations

import platform
import random
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syneg.core.config import Config
from syneg.core.errors import ConfigError, DataError
from syneg.core.progress import Progress
from syneg.core.records import MinedNegative, Pair, fingerprint
from syneg.core.settings import to_toml
from syneg.core.storage import read_json, read_rows, write_json, write_rows, write_text
from syneg.data.collection import Collection, load_collection

from .folder import Manifest, RunLock, version

if TYPE_CHECKING:
    import dspy

    from syneg.llm.roles import Roles
    from syneg.retrieval.encoder import Encoder

    from .cluster import Cluster
    from .experiment import Experiment
    from .negative_sets import Negatives

STAGES = ("estimate", "mine", "calibrate", "compile", "batch", "generate", "train", "evaluate", "verdict")
_PACKAGES = ("syneg-dspy", "dspy", "litellm", "sentence-transformers", "torch", "faiss-cpu", "ir-datasets", "ranx")


class Run:
    """One run folder. Stages are properties: asking for a later one makes the earlier ones first."""

    def __init__(self, folder: Path, config: Config, progress: Progress) -> None:
        self.folder, self.config, self.progress = folder, config, progress
        self.batch_import: Path | None = None
        self.batch_export: Path | None = None

    def until(self, stage: str) -> dict[str, Any]:
        """Run every stage up to `stage` (one of STAGES) and return what that one found, as plain data."""
        from .arms import arms

        arms(self.config)  # before anything is made: names may be wrong
        if self.config.generate.given and self.config.compile.optimizer != "none":
            raise ConfigError(
                "there is nothing to compile: the negatives are given", todo="leave out --given or --optimizer"
            )
        with RunLock(self.folder), self.progress.kept(self.folder / "events.jsonl"):
            self.manifest = Manifest(self.folder)
            versions = {name: version(name) for name in _PACKAGES}
            self.manifest.note(versions=versions, python=platform.python_version(), seed=self.config.seed)
            write_text(self.folder / "config.toml", to_toml(self.config))
            try:
                return getattr(self, f"_show_{stage}")()
            finally:
                self.close_lms()
                if cluster := self.__dict__.get("cluster"):
                    cluster.close()

    # ---- what each command prints ------------------------------------------------------------------------------

    def _show_mine(self) -> dict[str, Any]:
        sources = Counter(n.source for found in self.mined.values() for n in found)
        skipped = self.manifest.facts["mine"]["skipped"]
        return {"queries": len(self.mined), "negatives": dict(sources), "skipped": skipped}

    def _show_estimate(self) -> dict[str, Any]:
        from dataclasses import asdict

        from .dry_run import estimate, table

        parts = estimate(self)
        return {"parts": [asdict(part) for part in parts], "table": table(parts)}

    def _show_compile(self) -> dict[str, Any]:
        if self.config.compile.optimizer == "none":
            raise ConfigError(
                "no optimizer is named", todo="give --optimizer search, gepa, mipro, simba, copro or bootstrap"
            )
        self.load_program(self.negatives.default_program)
        return dict(read_json(self.folder / "compiled.json"))

    def _show_batch(self) -> dict[str, Any]:
        """Take the answers of `batch_import`, if any, and write what is asked then to `batch_export`."""
        from syneg.core.errors import DeferredError
        from syneg.llm.batch_files import Pending

        pending = self.roles.deferred = Pending(self.folder)
        said = list(pending.load(self.batch_import, self.roles.ledger).lines()) if self.batch_import else []
        try:
            return {"said": said, "generated": self._show_generate()}
        except DeferredError:
            path = self.batch_export or self.folder / "requests.jsonl"
            return {"said": said, "requests": pending.export(path), "file": str(path)}

    def _show_generate(self) -> dict[str, Any]:
        return self.negatives.of(self.config.generate.program).facts

    def _show_calibrate(self) -> dict[str, Any]:
        from dataclasses import asdict

        found = self.roles.calibration(self.collection, self.encoder)
        return {**asdict(found), "table": found.table()}

    def _show_train(self) -> dict[str, Any]:
        _ = self.experiment.generation
        return {
            arm.file_name(seed): self.experiment.trained(arm, seed)[1]
            for arm in self.experiment.arms
            for seed in arm.config.train.seeds
        }

    def _show_evaluate(self) -> dict[str, Any]:
        from syneg.retrieval.metrics import mean

        return {
            arm: [{split: {m: mean(v) for m, v in r.values.items()} for split, r in run.items()} for run in runs]
            for arm, runs in self.experiment.results.items()
        }

    def _show_verdict(self) -> dict[str, Any]:
        from syneg.verdict.report import data_card, html_report

        found = self.experiment.verdict()
        write_json(self.folder / "verdict.json", found)
        rows = self.experiment.negatives
        write_text(
            self.folder / "report.html", html_report(found, self.collection.queries, rows, self.progress.shares())
        )
        write_text(self.folder / "README.md", data_card(found, self.config.model_dump()))
        if self.config.track.mlflow:
            from syneg.verdict.tracking import track

            self.progress.say(
                f"mlflow run {track(self.config.track.mlflow, self.folder, self.config.model_dump(), found)}"
            )
        return found

    # ---- stages ------------------------------------------------------------------------------------------------

    @cached_property
    def collection(self) -> Collection:
        with self.progress.stage("collection") as line:
            collection = load_collection(self.config.collection, self.config.seed)
            splits = ", ".join(f"{split} {len(ids)}" for split, ids in collection.splits.items())
            line.note = f"{collection.name}: {len(collection.passages)} passages; queries: {splits}"
        for kind, found in (
            ("bad rows skipped", collection.problems),
            ("train/test leaks dropped", collection.leaks),
        ):
            if found:
                self.progress.say(f"  {len(found)} {kind}, such as: {found[0]}")
        write_rows(
            self.folder / "bad_rows.jsonl",
            [{"problem": p} for p in (*collection.problems, *collection.leaks)],
        )
        self.manifest.note(collection=collection.fingerprint)
        return collection

    @cached_property
    def encoder(self) -> Encoder:
        from syneg.core.fetch import fetch_with_progress

        fetch_with_progress(self.config.encoder.model, self.progress)
        with self.progress.stage("encoder") as line:
            from syneg.retrieval.encoder import Encoder

            encoder = Encoder.load(self.config.encoder, embedders=self.cluster)
            line.note = f"{encoder.name}, {encoder.precision} on {encoder.model.device}"
        self.manifest.note(encoder=encoder.fingerprint)
        return encoder

    @cached_property
    def pairs(self) -> list[Pair]:
        """The train pairs in use, in the order of a shuffle by seed."""
        pairs = self.collection.pairs("train")
        random.Random(self.config.seed).shuffle(pairs)
        return pairs[: self.config.train.pairs or None]

    @property
    def pairs_to_write(self) -> list[Pair]:
        """Those of them that get synthetic negatives here: `generate.pairs` of them, or the shard's."""
        part, parts = map(int, self.config.generate.shard.split("/"))
        return self.pairs[: self.config.generate.pairs or None][part - 1 :: parts]

    @cached_property
    def mined(self) -> dict[str, list[MinedNegative]]:
        path = self.folder / "mined.jsonl"
        key = fingerprint(self.collection.fingerprint, self.encoder.fingerprint, self.encoder.prompts,
                          self.config.mine.model_dump(), [pair.query_id for pair in self.pairs])  # fmt: skip

        def work() -> None:
            with self.progress.stage("mine", "passages") as line:
                from syneg.negatives.mining import mine

                mined = mine(self.collection, self.pairs, self.encoder, self.config.mine, line)
                write_rows(path, [{"query_id": q, **_plain(n)} for q, found in mined.negatives.items() for n in found])
                self.manifest.note(mine={"skipped": dict(mined.skipped), "short": mined.short})
                line.note = f"{sum(map(len, mined.negatives.values()))} negatives for {len(self.pairs)} queries"

        self.manifest.make("mine", key, path, work)
        found: dict[str, list[MinedNegative]] = {}
        for row in read_rows(path):
            found.setdefault(row.pop("query_id"), []).append(MinedNegative(**row))
        if not found:
            raise DataError("mining found no negatives", where=str(path), todo="raise mine.last_rank or mine.margin")
        return found

    @cached_property
    def roles(self) -> Roles:
        from syneg.llm.roles import Roles

        return Roles(self.folder, self.config, self.progress, self.cluster)

    @cached_property
    def cluster(self) -> Cluster | None:
        """The Ray cluster of the run, where one is asked for."""
        if self.config.executor.use == "threads":
            return None
        from .cluster import Cluster

        return Cluster(self.config.executor)

    def close_lms(self) -> None:
        """End the LMs; they are opened again when asked for again."""
        if "roles" in self.__dict__:
            self.roles.close()

    def load_program(self, name: str, prefix: str = "") -> dspy.Module:
        """The program, compiled if it is that of the run; its state and its prompts are written down as PREFIXprogram.json
        and .md."""
        from syneg.llm.lms import adapter_for
        from syneg.programs import load_program, program_markdown, state_of

        program = load_program(name)
        state, text = {}, ""
        if self.config.compile.optimizer != "none" and not prefix:
            from .compile import compiled, compiled_markdown

            before, program = program, compiled(self, name, program)
            found = read_json(self.folder / "compiled.json")
            state = {"compiled": {key: found[key] for key in ("optimizer", "won", "confirmed", "used", "stopped")}}
            text = compiled_markdown(found, before, program) + "\n"
        saved = state_of(program, name, adapter_for(self.config.lm))
        saved["manifest"] |= state
        write_json(self.folder / f"{prefix}program.json", saved)
        write_text(self.folder / f"{prefix}program.md", text + program_markdown(program, name))
        return program

    @cached_property
    def negatives(self) -> Negatives:
        from .negative_sets import Negatives

        return Negatives(self)

    @cached_property
    def experiment(self) -> Experiment:
        from .experiment import Experiment

        return Experiment(self)


def _plain(negative: MinedNegative) -> dict[str, Any]:
    return {name: getattr(negative, name) for name in MinedNegative.__dataclass_fields__}
