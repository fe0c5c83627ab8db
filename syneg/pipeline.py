"""The one path: collection, split guard, mine, compile, generate, gates, mix, train, evaluate, verdict, report.

    Run(Path("runs/python-docs"), config, Progress()).until("verdict") → the data of verdict.json

Each stage has a key, a hash of all that its result depends on. A result in the run folder is used when its key is the
same, and made again when not; so a second run does nothing twice, and a changed input never meets an old result. What
is on disk after a crash is whole (`storage`), and inside generation and training work goes on where it stopped.
"""

from __future__ import annotations

import importlib.metadata
import platform
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collection import Collection, load_collection
from .config import Config, to_toml
from .errors import DataError
from .progress import Progress
from .records import HardNegative, Instance, MinedNegative, Pair, fingerprint
from .storage import RunLock, read_json, read_rows, write_json, write_rows, write_text
from .tasks import task_for

if TYPE_CHECKING:
    import dspy

    from .encoder import Encoder
    from .evaluation import SplitResult
    from .roles import Roles

STAGES = ("mine", "calibrate", "generate", "train", "evaluate", "verdict")
# docs/lab_notes.md has the tables that these two are chosen by
STRONG_PROGRAM, SMALL_PROGRAM = "multi_attribute", "neighbour_rewrite"
_PACKAGES = (
    "syneg-dspy",
    "dspy",
    "litellm",
    "sentence-transformers",
    "torch",
    "faiss-cpu",
    "ir-datasets",
    "ranx",
)


class Run:
    """One run folder. Stages are properties: asking for a later one makes the earlier ones first."""

    def __init__(self, folder: Path, config: Config, progress: Progress) -> None:
        self.folder, self.config, self.progress = folder, config, progress
        self._manifest: dict[str, Any] = {}

    def until(self, stage: str) -> dict[str, Any]:
        """Run every stage up to `stage` (one of STAGES) and return what that one found, as plain data."""
        with RunLock(self.folder):
            self._manifest = read_json(self.folder / "manifest.json") or {}
            self._manifest.setdefault("stages", {})
            self._note(
                versions={name: _version(name) for name in _PACKAGES},
                python=platform.python_version(),
                seed=self.config.seed,
            )
            write_text(self.folder / "config.toml", to_toml(self.config))
            try:
                return getattr(self, f"_show_{stage}")()
            finally:
                self._close_lms()

    # ---- what each command prints ------------------------------------------------------------------------------

    def _show_mine(self) -> dict[str, Any]:
        sources = Counter(n.source for found in self.mined.values() for n in found)
        return {
            "queries": len(self.mined),
            "negatives": dict(sources),
            "skipped": self._manifest["mine"]["skipped"],
        }

    def _show_generate(self) -> dict[str, Any]:
        _ = self.synthetic
        return self._manifest["generation"]

    def _show_calibrate(self) -> dict[str, Any]:
        from dataclasses import asdict

        found = self.roles.calibration(self.collection, self.encoder)
        return {**asdict(found), "table": found.table()}

    def _show_train(self) -> dict[str, Any]:
        _ = self.generation
        return {
            self._name(arm, seed): self._trained(arm, seed)[1]
            for arm in self.config.train.arms
            for seed in self.config.train.seeds
        }

    def _show_evaluate(self) -> dict[str, Any]:
        from .metrics import mean

        return {
            arm: [{split: {m: mean(v) for m, v in r.values.items()} for split, r in run.items()} for run in runs]
            for arm, runs in self.results.items()
        }

    def _show_verdict(self) -> dict[str, Any]:
        from .report import data_card, html_report
        from .verdict import verdict

        found = verdict(self.results, self.collection, self.config.evaluate.alpha)
        found["generation"] = self.generation
        for arm, values in found["arms"].items():
            if arm != "base":
                values["training"] = [self._trained(arm, seed)[1] for seed in self.config.train.seeds]
        self._save_best(found)
        write_json(self.folder / "verdict.json", found)
        rows = list(read_rows(self.folder / "negatives.jsonl"))
        write_text(self.folder / "report.html", html_report(found, self.generation, rows, self.progress.shares()))
        write_text(self.folder / "README.md", data_card(found, self.generation, self.config.model_dump()))
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
        self._note(collection=collection.fingerprint)
        return collection

    @cached_property
    def encoder(self) -> Encoder:
        from .fetch import fetch_with_progress

        fetch_with_progress(self.config.encoder.model, self.progress)
        with self.progress.stage("encoder") as line:
            from .encoder import Encoder

            encoder = Encoder.load(self.config.encoder)
            line.note = f"{encoder.name}, {encoder.precision} on {encoder.model.device}"
        self._note(encoder=encoder.fingerprint)
        return encoder

    @cached_property
    def pairs(self) -> list[Pair]:
        """The train pairs in use, in the order of a shuffle by seed."""
        pairs = self.collection.pairs("train")
        random.Random(self.config.seed).shuffle(pairs)
        return pairs[: self.config.train.pairs or None]

    @cached_property
    def mined(self) -> dict[str, list[MinedNegative]]:
        path = self.folder / "mined.jsonl"
        key = fingerprint(self.collection.fingerprint, self.encoder.fingerprint, self.encoder.prompts,
                          self.config.mine.model_dump(), [pair.query_id for pair in self.pairs])  # fmt: skip
        if not self._is_done("mine", key, path):
            with self.progress.stage("mine", "passages") as line:
                from .mining import mine

                mined = mine(self.collection, self.pairs, self.encoder, self.config.mine, line)
                write_rows(
                    path,
                    [{"query_id": q, **_plain(n)} for q, found in mined.negatives.items() for n in found],
                )
                self._note(mine={"skipped": dict(mined.skipped), "short": mined.short})
                self._done("mine", key)
                line.note = f"{sum(map(len, mined.negatives.values()))} negatives for {len(self.pairs)} queries"
        found: dict[str, list[MinedNegative]] = {}
        for row in read_rows(path):
            found.setdefault(row.pop("query_id"), []).append(MinedNegative(**row))
        if not found:
            raise DataError("mining found no negatives", where=str(path), todo="raise mine.last_rank or mine.margin")
        return found

    @cached_property
    def roles(self) -> Roles:
        from .roles import Roles

        return Roles(self.folder, self.config, self.progress)

    def _close_lms(self) -> None:
        if "roles" in self.__dict__:
            self.roles.close()

    @cached_property
    def program(self) -> tuple[str, dspy.Module]:
        """The program's name and the compiled program; its state and its prompts are written down."""
        from .lms import adapter_for
        from .optimizers import OPTIMIZERS
        from .programs import load_program, program_markdown, state_of

        name = self.config.generate.program
        if name == "auto":
            name = STRONG_PROGRAM if self.roles.strength.strong else SMALL_PROGRAM
        program = OPTIMIZERS["none"](load_program(name))
        write_json(self.folder / "program.json", state_of(program, name, adapter_for(self.config.lm)))
        write_text(self.folder / "program.md", program_markdown(program, name))
        return name, program

    @cached_property
    def synthetic(self) -> dict[str, list[HardNegative]]:
        path = self.folder / "negatives.jsonl"
        _ = self.mined
        try:
            if self.config.generate.given:
                self._take_given(path, Path(self.config.generate.given))
            else:
                self._generate(path)
        finally:
            self._close_lms()
        found: dict[str, list[HardNegative]] = {}
        names = set(HardNegative.__dataclass_fields__)
        for row in read_rows(path):
            if row["accepted"]:
                found.setdefault(row["query_id"], []).append(
                    HardNegative(**{k: v for k, v in row.items() if k in names})
                )
        return found

    def _generate(self, path: Path) -> None:
        from .report import generation_line
        from .writing import Sources, plan_domains, summary, write_negatives

        name, program = self.program
        task = task_for(self.config)
        pairs = self.pairs[: self.config.generate.pairs or None]
        sources = Sources(pairs, self.collection, self.encoder, self.mined, task, program, name)
        if self.config.generate.plan and not self.config.generate.domains:
            with self.progress.stage("plan") as line:
                sources = replace(sources, task=plan_domains(sources, self.roles.writer, self.config.seed))
                line.note = ", ".join(sources.task.domains)
        judge = self.roles.judge(self.collection, self.encoder)
        writer = self.roles.writer
        lm = {k: v for k, v in self.config.lm.model_dump().items() if k not in ("concurrency", "timeout_s", "retries")}
        key = fingerprint(self.collection.fingerprint, self.encoder.fingerprint, [pair.query_id for pair in pairs],
                          sources.task, name, program.dump_state(), writer.identity, lm, self.config.seed,
                          self.config.generate.model_dump(), self.config.gates.model_dump(), self._manifest["stages"]["mine"],
                          judge and (judge[0].identity, judge[1].confusion), _version("syneg-dspy"))  # fmt: skip
        if self._is_done("generate", key, path):
            return
        drafts = write_negatives(sources, self.config, writer, judge, self.progress)
        write_rows(path, [draft.row() for draft in drafts])
        found = summary(sources, self.config, drafts, writer.identity, self.roles.ledger)
        self._note(generation={**found, "judged": judge is not None})
        self._done("generate", key)
        self.progress.say(f"  {generation_line(found)}")

    def _take_given(self, path: Path, given: Path) -> None:
        from .fetch import sha256_of
        from .given import given_negatives
        from .report import generation_line
        from .writing import Sources, summary

        if not given.is_file():
            raise DataError("no such file of negatives", where=str(given), todo="check --given")
        pairs = self.pairs[: self.config.generate.pairs or None]
        key = fingerprint(self.collection.fingerprint, self.encoder.fingerprint, [pair.query_id for pair in pairs],
                          sha256_of(given), self.config.generate.model_dump(), self.config.gates.model_dump(),
                          _version("syneg-dspy"))  # fmt: skip
        if self._is_done("generate", key, path):
            return
        with self.progress.stage("given", "negatives") as line:
            sources = Sources(pairs, self.collection, self.encoder, self.mined, task_for(self.config), None, given.name)
            drafts, problems = given_negatives(given, sources, self.config)
            write_rows(path, [draft.row() for draft in drafts])
            self._note(
                generation={**summary(sources, self.config, drafts, "given", self.roles.ledger), "judged": False}
            )
            self._done("generate", key)
            line.note = generation_line(self._manifest["generation"])
        if problems:
            self.progress.say(f"  {len(problems)} rows skipped, such as: {problems[0]}")

    @property
    def generation(self) -> dict[str, Any] | None:
        """Counts of the generate stage; None when no arm uses synthetic negatives."""
        from .sampling import ARMS

        if not any(ARMS[arm].synthetic for arm in self.config.train.arms):
            return None
        _ = self.synthetic
        return self._manifest["generation"]

    def _instances(self, arm: str, seed: int) -> list[Instance]:
        from .sampling import ARMS, mix

        wanted = ARMS[arm].synthetic and self.config.mix.ratio > 0
        if wanted and not self.synthetic:
            reasons = ", ".join(f"{reason} {n}" for reason, n in self._manifest["generation"]["reasons"].items())
            raise DataError(
                f"the gates accepted no synthetic negative ({reasons})", where=str(self.folder / "negatives.jsonl"),
                todo="read the file; try another --lm or --program, more --pairs, or other gates",
            )  # fmt: skip
        return mix(
            self.pairs, self.mined, self.synthetic if wanted else {}, arm=arm, negatives=self.config.mix.negatives,
            ratio=self.config.mix.ratio, seed=seed, weight=self.config.mix.weight,
        )  # fmt: skip

    @cached_property
    def _dev(self) -> Any:
        from .training import DevSet

        return DevSet(self.encoder, self.collection, self.config.train.dev_passages, self.config.seed)

    def _trained(self, arm: str, seed: int) -> tuple[Path, dict[str, Any]]:
        """The folder of a trained arm and what its training.json says."""
        folder = self.folder / "models" / self._name(arm, seed)
        instances = self._instances(arm, seed)
        settings = self.config.train.model_dump(exclude={"arms", "seeds", "pairs"})
        key = fingerprint(self.collection.fingerprint, self.encoder.fingerprint, instances, settings, seed)
        if self._stage_key(f"train {self._name(arm, seed)}") != key:
            shutil.rmtree(folder, ignore_errors=True)
            self._done(f"train {self._name(arm, seed)}", key)
        if not (folder / "training.json").exists():
            with self.progress.stage("train", f"steps of {self._name(arm, seed)}") as line:
                from .training import train

                relevant = {
                    pair.query_id: [self.collection.passages[d] for d in self.collection.relevant(pair.query_id)]
                    for pair in self.pairs
                }
                done = train(
                    self.encoder,
                    instances,
                    relevant,
                    self._dev,
                    self.config.train,
                    seed=seed,
                    folder=folder,
                    progress=line,
                )
                sources = Counter(source for row in instances for source in row.sources)
                share = sources["synthetic"] / max(1, sources.total() - sources["padding"])
                write_json(folder / "training.json", {**done, "synthetic_share": share})
                line.note = f"{self._name(arm, seed)}: {done['steps']} steps, {share:.0%} of negatives synthetic"
        return folder, read_json(folder / "training.json")

    @cached_property
    def results(self) -> dict[str, list[dict[str, SplitResult]]]:
        """arm → one result per seed; the base has one."""
        _ = self.generation  # before any training: what can fail for want of an LM should fail early
        results = {"base": [self._evaluated("base", None, None)]}
        for arm in self.config.train.arms:
            results[arm] = []
            for seed in self.config.train.seeds:
                folder, _ = self._trained(arm, seed)
                results[arm].append(self._evaluated(arm, seed, folder))
        return results

    def _evaluated(self, arm: str, seed: int | None, model: Path | None) -> dict[str, SplitResult]:
        from .evaluation import SplitResult, evaluate_model
        from .metrics import write_trec

        name = self._name(arm, seed)
        path = self.folder / "evaluation" / f"{name}.json"
        weights = self.encoder.fingerprint if seed is None else self._stage_key(f"train {name}")
        key = fingerprint(self.collection.fingerprint, weights, self.encoder.prompts, self.config.evaluate.depth)
        if not self._is_done(f"evaluate {name}", key, path):
            with self.progress.stage("evaluate", f"passages by {name}") as line:
                from .encoder import Encoder

                encoder = self.encoder if model is None else Encoder.load(self.config.encoder, model)
                found = evaluate_model(encoder, self.collection, self.config.evaluate.depth, line)
                for split, result in found.items():
                    write_trec(self.folder / "runs" / f"{name}.{split}.trec", result.ranking, f"syneg-{name}")
                write_json(path, {split: {"ranking": r.ranking, "values": r.values} for split, r in found.items()})
                self._done(f"evaluate {name}", key)
                line.note = name
        return {split: SplitResult(**data) for split, data in read_json(path).items()}

    def _save_best(self, found: dict[str, Any]) -> None:
        """Copy the best arm's best seed on dev to model/, in one step."""
        best = found["best"]
        draft, target = self.folder / ".model.tmp", self.folder / "model"
        shutil.rmtree(draft, ignore_errors=True)
        if best == "base":
            self.encoder.model.save(str(draft), create_model_card=False)
        else:
            scores: Sequence[float] = found["arms"][best]["dev_by_seed"]
            seed = self.config.train.seeds[max(range(len(scores)), key=lambda i: scores[i])]
            shutil.copytree(self.folder / "models" / self._name(best, seed), draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)

    # ---- keys --------------------------------------------------------------------------------------------------

    @staticmethod
    def _name(arm: str, seed: int | None) -> str:
        return arm if seed is None else f"{arm}-{seed}"

    def _stage_key(self, stage: str) -> str | None:
        return self._manifest["stages"].get(stage)

    def _is_done(self, stage: str, key: str, path: Path) -> bool:
        return self._stage_key(stage) == key and path.exists()

    def _done(self, stage: str, key: str) -> None:
        self._manifest["stages"][stage] = key
        write_json(self.folder / "manifest.json", self._manifest)

    def _note(self, **facts: Any) -> None:
        self._manifest.update(facts)
        write_json(self.folder / "manifest.json", self._manifest)


def _plain(negative: MinedNegative) -> dict[str, Any]:
    return {name: getattr(negative, name) for name in MinedNegative.__dataclass_fields__}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
