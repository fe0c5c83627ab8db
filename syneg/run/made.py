"""Make the result of each stage as plain data, for `--json` and for `show`. Earlier stages run first if needed.

    mined(run) → {"queries": 34, "negatives": {"dense": 201, "bm25": 175}, "skipped": {…}, "file": "runs/x/mined.jsonl"}

Each function is the `make` of a row of `STAGES` (`syneg.run.pipeline`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from syneg.core.errors import BudgetError, ConfigError, DeferredError
from syneg.core.records import fingerprint
from syneg.core.storage import JsonObject, read_json, write_json, write_text

from .targets import TARGETS

# `--help` imports this module, so modules that load dspy or torch are imported inside functions.
if TYPE_CHECKING:
    from .parts import Parts

Result = JsonObject


def queries(run: Parts) -> Result:
    """Count the written queries. Raises ConfigError if the collection has queries of its own."""
    if not run.config.writes_queries:
        raise ConfigError("there are queries already", todo="give --corpus without --dataset")
    collection = run.workspace.collection
    written = run.workspace.manifest.facts["written_queries"]
    return {
        **written, "yours": len(collection.queries) - written["accepted"],
        "splits": {split: len(ids) for split, ids in collection.splits.items()}, "file": str(run.folder.queries),
    }  # fmt: skip


def mined(run: Parts) -> Result:
    """Count the mined negatives by source and the skipped passages by reason; name the file."""
    sources = Counter(n.source for negatives in run.workspace.mined.values() for n in negatives)
    skipped, path = run.workspace.manifest.facts["mine"]["skipped"], run.folder.mined
    return {"queries": len(run.workspace.mined), "negatives": dict(sources), "skipped": skipped, "file": str(path)}


def calibrated(run: Parts) -> Result:
    """Return the judge's agreement with the labels, and a table of it."""
    from .judge import calibration

    measured = calibration(run.workspace)
    return {**asdict(measured), "table": measured.table()}


def compiled(run: Parts) -> Result:
    """Compile `compile.target`; return its candidates and the winner. Raises ConfigError without an optimizer."""
    from syneg.optimizers import RECIPES
    from syneg.verdict.compilation import compilation_page

    if run.config.compile.optimizer == "none" and run.config.compile.target != "sampler":
        raise ConfigError(
            "no optimizer is named", todo=f"give --optimizer: {', '.join(name for name in RECIPES if name != 'none')}"
        )
    target = TARGETS[run.config.compile.target]
    target.compile(run)
    outcome = dict(read_json(run.folder.compiled(target.prefix)))
    write_text(run.folder.compiled_page(target.prefix), compilation_page(outcome))
    return outcome


def generated(run: Parts) -> Result:
    """Count the negatives of `generate.program`; with a batch, the requests that wait."""
    return _by_batch(run, lambda: asdict(run.negatives.of(run.config.generate.program).facts))


def read(run: Parts) -> Result:
    """Return the reader's agreement and counts of its grades; with a batch, the requests that wait."""
    return _by_batch(run, run.readings.result)


def _by_batch(run: Parts, work: Callable[[], Result]) -> Result:
    """Return the result of `work`, or, with batch files, the requests whose answers are missing.

    Answers in `run.batch.answers` are imported first. Raises BudgetError if the budget allows no further request.
    """
    if run.batch is None or run.pending is None:
        return work()
    imported = run.pending.load(run.batch.answers, run.workspace.roles.ledger) if run.batch.answers else None
    taken = {"imported": list(imported.lines())} if imported else {}
    try:
        return {**work(), **taken}
    except (DeferredError, BudgetError) as error:
        spent = str(error) if isinstance(error, BudgetError) else ""
        if spent and not len(run.pending):
            raise
        path = run.batch.requests or run.folder.requests
        return {**taken, **asdict(run.pending.export(path)), "file": str(path), "spent": spent}


def trained(run: Parts) -> Result:
    """Return ARM-SEED → the record of its training."""
    _ = run.experiment.generation
    return {
        arm.file_name(seed): asdict(run.experiment.trained(arm, seed)[1])
        for arm in run.experiment.arms
        for seed in arm.config.train.seeds
    }


def evaluated(run: Parts) -> Result:
    """Return arm → one entry per seed → split → metric → mean over queries."""
    from syneg.retrieval.metrics import mean

    run.experiment.say_ceiling()
    return {
        arm: [{split: {m: mean(v) for m, v in r.values.items()} for split, r in result.items()} for result in results]
        for arm, results in run.experiment.results.items()
    }


def verdict(run: Parts) -> Result:
    """Write verdict.json, report.html and the data card, and log to MLflow if set; return the data of verdict.json."""
    from syneg.verdict.card import data_card
    from syneg.verdict.page import html_report
    from syneg.verdict.tracking import track

    from .current import note_verdict
    from .evidence import evidence_of

    progress, config = run.workspace.progress, run.config.model_dump()
    result = run.experiment.verdict()
    write_json(run.folder.verdict, result.to_json())
    note_verdict(run.folder, run.workspace.manifest)
    rows = [draft.row() for draft in run.experiment.negatives]
    write_text(run.folder.report, html_report(result, evidence_of(run.workspace, rows)))
    names = [str(path.relative_to(run.folder.path)) for path in run.folder.path.rglob("*.json*")]
    write_text(run.folder.card, data_card(result, config, names))
    if run.config.track.mlflow:
        experiment, key = run.config.track.mlflow, fingerprint(config, result.to_json())

        def log() -> None:
            progress.say(f"mlflow run {track(experiment, run.folder.path, config, result)}")

        run.workspace.manifest.make("track", key, run.folder.verdict, log)  # an unchanged verdict is logged once
    return result.to_json()
