"""Most users know one positive for each query. What does it gain to let a reader find the others?

    python benchmarks/sparse_labels.py --dataset path/to/cranfield --oracle --seeds 5 --out runs/sparse-cranfield
    python benchmarks/sparse_labels.py --dataset vaswani --set reader.model=openai/gpt-4o-mini --out runs/sparse-vaswani

The reader reads one list for each query, once, before the folds (OUT/readings.jsonl), so every fold has the same
grades.

All judged positives but one are hidden for each train and dev query. Training, mining and the reader's test know one;
evaluation knows all. Arms: untuned (base), in-batch, mined, and verified, which has the reader's extra positives;
`--set train.arms=…` names others. Arms with written negatives take those of OUT/writing, which are written once, too.
Without a test split each query is tested once, in 5 folds. The paired t-test is over queries, on each query's mean over
the seeds, Holm-corrected over the comparisons with `--against`.

`--oracle` reads with the hidden judgements: 3 for a relevant passage, 1 for any other, 0 for the known negative. It is
an upper bound and a check of the code, not a result. Without it the reader is that of the settings (`--set reader.…`).
Existing results in --out are used. With `--queries FILE` (one id a line) the table is of these test queries alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from configured import configured
from options import filled
from scipy.stats import ttest_1samp
from turns import Figures, save

from syneg.core.config import Config
from syneg.core.errors import DataError, OnlyTestError
from syneg.core.progress import Progress
from syneg.core.storage import write_rows, write_text
from syneg.data.collection import Collection, load_collection
from syneg.negatives.reader_agreement import agreement
from syneg.negatives.reading import ANSWERS, IN_PART, NEAR, OTHER, Answers, Reading, ToRead, lists_to_read
from syneg.retrieval.metrics import MAIN_METRIC, holm
from syneg.run.arms import arm as arm_of
from syneg.run.pipeline import Run
from syneg.verdict.statistics import paired_interval

ARMS = ("in-batch", "mined", "verified")
_ORACLE_COUNT = 20
Values = dict[str, dict[str, float]]  # arm → query_id → nDCG@10, mean over seeds


def whole_collection(config: Config, out: Path) -> Collection:
    """Load the collection with all judgements.

    A published set that has only test queries is first written to OUT/collection, as a folder of one's own may be
    divided.
    """
    with suppress(OnlyTestError):
        return load_collection(config.collection, config.seed)
    import ir_datasets

    folder, data = out / "collection", ir_datasets.load(config.collection.dataset)
    write_rows(
        folder / "corpus.jsonl", [{"_id": d.doc_id, "title": "", "text": d.default_text()} for d in data.docs_iter()]
    )
    write_rows(folder / "queries.jsonl", [{"_id": q.query_id, "text": q.default_text()} for q in data.queries_iter()])
    rows = [f"{row.query_id}\t{row.doc_id}\t{row.relevance}\n" for row in data.qrels_iter()]
    write_text(folder / "qrels" / "test.tsv", "".join(["query-id\tcorpus-id\tscore\n", *rows]))
    return load_collection(
        config.collection.model_copy(update={"dataset": str(folder), "divide_test": True}), config.seed
    )


def folds_of(collection: Collection, number: int) -> tuple[Collection, ...]:
    """The folds: every query is tested once; or only the collection's own test split."""
    return collection.folds(number) if "test" in collection.drawn else (collection,)


def with_one_positive(collection: Collection, seed: int) -> Collection:
    """Leave train and dev queries one judged positive, drawn by seed, and all passages judged not relevant."""
    qrels = dict(collection.qrels)
    for query_id in (*collection.splits["train"], *collection.splits["dev"]):
        kept = random.Random(f"{seed}:kept:{query_id}").choice(sorted(collection.relevant(query_id)))
        qrels[query_id] = {d: grade for d, grade in qrels[query_id].items() if grade <= 0 or d == kept}
    return replace(collection, qrels=qrels)


def oracle(run: Run, whole: Collection) -> Iterator[Reading]:
    """Grades from the hidden judgements."""
    sparse, encoder = run.workspace.collection, run.workspace.encoder
    pairs = [*run.workspace.pairs, *sparse.pairs("dev")]
    for asked in lists_to_read(sparse, encoder, pairs, _ORACLE_COUNT, run.config.seed):
        relevant = whole.relevant(asked.query_id)
        for doc_id in asked.doc_ids:
            grade = ANSWERS if doc_id in relevant else OTHER if doc_id in asked.checks else NEAR
            yield Reading(asked.query_id, doc_id, grade, lm="oracle")


def known_once(whole: Collection, config: Config) -> Collection:
    """The collection with one known positive a query, and every query a train query."""
    every = tuple(query_id for split in ("train", "dev", "test") for query_id in whole.splits[split])
    return with_one_positive(replace(whole, splits={**whole.splits, "train": every}), config.seed)


def write_once(whole: Collection, config: Config, out: Path) -> Path:
    """Negatives for every query, by the settings' program and LM. Kept in `out`."""
    every = {
        "generate": config.generate.model_copy(update={"pairs": 0}),
        "train": config.train.model_copy(update={"pairs": 0}),
    }
    run = Run(out / "writing", config.model_copy(update=every), Progress(), collection=known_once(whole, config))
    run.until("generate")
    run.workspace.close()
    return run.folder.negatives()


def read_once(whole: Collection, config: Config, out: Path) -> Path:
    """Grades of the settings' reader, one list for each query with one known positive in it. Kept in `out`, with a
    table of how the grades agree with the hidden judgements."""
    path = out / "readings.jsonl"
    if not path.exists():
        known = known_once(whole, config)
        run = Run(out / "reading", config, Progress(), collection=known)
        lists = run.readings.reader.lists(known.pairs("train"))
        with run.workspace.progress.stage("read", "lists") as line:
            answers = run.readings.reader.answers(lists, None, line)
        run.workspace.close()
        write_text(out / "readings.md", agreement_table(whole, known, lists, answers))
        write_rows(path, [asdict(reading) for reading in answers.readings])
    return path


def agreement_table(whole: Collection, known: Collection, lists: Sequence[ToRead], answers: Answers) -> str:
    """How the grades agree with the judgements that the reader's run did not know."""
    grades = answers.by_query()
    read = [(asked.query_id, d) for asked in lists if asked.query_id in grades for d in asked.doc_ids]
    unknown = [(q, d) for q, d in read if d not in known.relevant(q)]
    relevant = [grades[q][d] for q, d in unknown if d in whole.relevant(q)]
    others = [grades[q][d] for q, d in unknown if d not in whole.relevant(q)]
    answering = [d in whole.relevant(q) for q, d in unknown if grades[q][d] == ANSWERS]
    agreed = agreement(lists, grades, whole.qrels)
    interval = paired_interval(agreed.gains) or (0.0, 0.0)
    rows = [f"| lists; without a readable answer | {len(lists)}; {answers.unreadable} |", "|---|---|"]
    for about, own in (("hidden positives", relevant), ("passages not judged relevant", others)):
        share = [np.mean([grade >= least for grade in own] or [0]) for least in (ANSWERS, IN_PART)]
        rows.append(f"| {about}; graded 3; 2 or 3 | {len(own)}; {share[0]:.1%}; {share[1]:.1%} |")
    rows.append(f"| graded 3, the known positive aside; of them judged relevant | {len(answering)}; "
                f"{np.mean(answering or [0]):.0%} |")  # fmt: skip
    ours, theirs = agreed.ndcg
    rows.append(f"| nDCG@10 of the list, the encoder's order | {theirs:.4f} |")
    rows.append(f"| by grade, then as the encoder has it | {ours:.4f} |")
    rows.append(f"| gain, 95 % interval over queries | {ours - theirs:+.4f} [{interval[0]:+.4f}, {interval[1]:+.4f}] |")
    return "\n".join(rows) + "\n"


def one_fold(whole: Collection, config: Config, out: Path, *, by_oracle: bool) -> tuple[Values, str]:
    """Test values of every arm, and a line on the reader."""
    sparse = with_one_positive(whole, config.seed)
    if by_oracle:
        first = Run(out, config, Progress(), collection=sparse)
        write_rows(out / "oracle.jsonl", [asdict(reading) for reading in oracle(first, whole)])
        first.workspace.close()
        reader = config.reader.model_copy(update={"given": str(out / "oracle.jsonl"), "use": "on"})
        config = config.model_copy(update={"reader": reader})
    run = Run(out, config, Progress(), collection=sparse)
    run.until("verdict")
    results = run.experiment.results
    values = {
        arm: {
            q: float(np.mean([seed["test"].values[MAIN_METRIC][q] for seed in seeds])) for q in seeds[0]["test"].ranking
        }
        for arm, seeds in results.items()
    }
    hidden = {p.query_id: whole.relevant(p.query_id) - sparse.relevant(p.query_id) for p in run.workspace.pairs}
    mined = [n.doc_id in hidden[q] for q, found in run.workspace.mined.items() if q in hidden for n in found]
    line = f"{np.mean(mined):.1%} of the mined negatives are hidden positives"
    if "verified" in results:
        grades = run.readings.grades
        read = [grades[q][d] for q, doc_ids in hidden.items() for d in doc_ids if d in grades.get(q, {})]
        said = f"{np.mean([g == ANSWERS for g in read]):.0%} got a 3" if read else "none was read"
        line += f"; hidden positives read: {len(read)}, {said}"
    run.workspace.close()
    return values, line


def p_value(differences: Sequence[float]) -> float:
    """The p-value of a paired t-test over queries; 1 if all differences are equal."""
    return float(ttest_1samp(differences, 0.0).pvalue) if np.ptp(differences) else 1.0


def compared(values: Values, against: str) -> dict[str, Figures]:
    """arm → its mean, and by how much `against` is over it, paired by query, with p adjusted (Holm)."""
    found: dict[str, Figures] = {arm: {"ndcg": float(np.mean([*own.values()]))} for arm, own in values.items()}
    ours, others = values.get(against), [arm for arm in values if arm != against]
    differences = {arm: [ours[q] - v for q, v in values[arm].items()] for arm in others} if ours else {}
    adjusted = holm({arm: p_value(paired) for arm, paired in differences.items()})
    for arm, paired in differences.items():
        low, high = paired_interval(paired) or (None, None)
        found[arm] |= {"less": float(np.mean(paired)), "low": low, "high": high, "p": adjusted[arm]}
    return found


def table(found: Mapping[str, Figures], against: str) -> str:
    """Means, and `against` against each other arm."""
    lines = [f"| arm | nDCG@10 | {against} less this, 95 % | p (Holm) |", "|---|---|---|---|"]
    for arm, own in found.items():
        cells = ["", ""]
        if "less" in own:
            between = "" if own["low"] is None else f" [{own['low']:+.4f}, {own['high']:+.4f}]"
            cells = [f"{own['less']:+.4f}{between}", f"{own['p']:.4f}"]
        lines.append(f"| {'untuned' if arm == 'base' else arm} | {own['ndcg']:.4f} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def only(values: Values, path: Path) -> Values:
    """The values of the test queries that the file names. Raises DataError for an id that was not tested."""
    wanted = path.read_text(encoding="utf-8").split()
    if unknown := [q for q in wanted if q not in values["base"]]:
        raise DataError(f"no test query {unknown[0]!r}", where=str(path), todo="name ids of test queries, one a line")
    return {arm: {q: own[q] for q in wanted} for arm, own in values.items()}


def pooled(parts: list[Values]) -> Values:
    """The values of all folds together, for the arms that every fold has."""
    arms = [arm for arm in parts[0] if all(arm in part for part in parts)]
    return {arm: {q: v for part in parts for q, v in part[arm].items()} for arm in arms}


@dataclass(frozen=True)
class Options:
    """What the flags say."""

    dataset: str
    by_oracle: bool
    seeds: int
    folds: int
    out: Path
    overrides: tuple[str, ...]
    against: str
    queries: Path | None
    quick: bool
    path: Path | None


def settled(options: Options) -> tuple[Config, Collection]:
    """The settings and the whole collection. What the run needs of an LM is read and written once, for all folds."""
    settings: Mapping[str, object] = {
        "collection.dataset": options.dataset, "collection.confirm": 0.0,
        "collection.divide_test": Path(options.dataset).exists(), "train.arms": ARMS,
        "train.seeds": tuple(range(1 if options.quick else options.seeds)), "boundary.queries": 0,
        "train.pairs": 32 if options.quick else 0, "reader.pairs": 0, "evaluate.folds": 0, "mine.margin": 0.95,
    }  # fmt: skip
    config = configured(options.overrides, settings, fast=options.quick)
    whole = whole_collection(config, options.out)
    if not options.by_oracle and not config.reader.given and not config.reader.cross_encoder:
        reader = config.reader.model_copy(update={"given": str(read_once(whole, config, options.out))})
        config = config.model_copy(update={"reader": reader})
    if any(arm_of(text, config).wants_synthetic for text in config.train.arms) and not config.generate.given:
        generate = config.generate.model_copy(update={"given": str(write_once(whole, config, options.out))})
        config = config.model_copy(update={"generate": generate})
    return config, whole


@click.command()
@click.option(
    "--dataset", required=True, help="a BEIR folder or an ir_datasets id with several judged positives a query"
)
@click.option("--oracle", "by_oracle", is_flag=True, help="grades are the hidden judgements: an upper bound")
@click.option("--seeds", default=5, show_default=True)
@click.option("--folds", default=5, show_default=True, help="where the test split is cut here")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="any other setting")
@click.option("--against", default="verified", show_default=True, help="the arm that all others are compared with")
@click.option(
    "--queries",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ids of the test queries to print the table for",
)
@click.option("--quick", is_flag=True, help="one fold, one seed, 32 train queries, half of the encoder")
@click.option("--json", "path", type=click.Path(path_type=Path))
@filled(Options)
def main(options: Options) -> None:
    config, whole = settled(options)
    parts, lines = [], []
    for number, fold in enumerate(folds_of(whole, options.folds)[: 1 if options.quick else None]):
        values, line = one_fold(fold, config, options.out / f"fold-{number}", by_oracle=options.by_oracle)
        parts.append(values)
        lines.append(f"fold {number}: {line}")
    values = pooled(parts) if options.queries is None else only(pooled(parts), options.queries)
    print(f"{whole.name}: {len(values['base'])} test queries, {len(config.train.seeds)} seeds")
    asked = config.reader.cross_encoder or config.reader.model or config.reader.given or config.lm.model
    print(f"reader: {'oracle (the hidden judgements)' if options.by_oracle else asked}")
    read = options.out / "readings.md"
    found = compared(values, options.against)
    print(table(found, options.against), *lines, *([read.read_text()] if read.exists() else []), sep="\n")
    about = {"dataset": whole.name, "against": options.against, "queries": len(values["base"]), "folds": lines}
    save(options.path, "sparse_labels", about, {arm: [own] for arm, own in found.items()})


if __name__ == "__main__":
    main()
