"""Make a collection from a corpus without queries. An LM writes the queries; queries.jsonl keeps them.

    corpus_collection(workspace) → Collection("docs", passages: 960, queries: 131 (train: 79, dev: 20, test: 32))

Human pairs (`queries.examples` with a column of positives) fill test first, then dev, and are never trained on. With
four or more human pairs, dev and test hold human queries only, and all written queries are train queries. With fewer,
written queries are divided into train, dev and test, and the human queries join test. The verdict says how many of its
test queries are synthetic. Ids of written queries start with "w-".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syneg.core.errors import DataError
from syneg.core.records import SPLITS, fingerprint
from syneg.core.storage import read_rows, write_rows
from syneg.data.collection import Collection
from syneg.data.columns import PAIRS, ColumnNames
from syneg.data.pairs import PairsReader
from syneg.data.read_log import ReadLog
from syneg.data.splits import MIN_QUERIES, TELLING, divide, groups_by_hash
from syneg.data.tables import read_table
from syneg.data.tasks import task_for
from syneg.negatives.queries import WrittenQuery, ask_for_queries, gated, one_per_cluster, written
from syneg.programs import load_query_program

from .keys import source_of, stage_key
from .workplace import Unasked

FEWEST_HUMAN = MIN_QUERIES["dev"] + MIN_QUERIES["test"]


@dataclass(frozen=True)
class _Human:
    """Queries of the user. `examples` are all of them; `queries` and `qrels` only hold queries with a positive."""

    examples: tuple[str, ...] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    qrels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def corpus_collection(workspace: Unasked) -> Collection:
    """Read the corpus, write queries for it unless that is done, and divide them into splits.

    Raises DataError if the corpus has no passage or if too few queries pass the gates.
    """
    config = workspace.config
    reader, human = _read(workspace)
    passages = dict(reader.passages())
    reader.log.check(config.collection.max_bad_rows)
    if not passages:
        raise DataError("the corpus has no passage", where=config.collection.corpus, todo="check the file")
    rows = _rows(workspace, passages, human)
    kept = {row["query_id"]: row for row in rows if row["accepted"]}
    queries = {query_id: row["text"] for query_id, row in kept.items()}
    qrels: dict[str, dict[str, float]] = {query_id: {row["doc_id"]: 1} for query_id, row in kept.items()}
    collection = config.collection
    shares = {"dev": collection.dev, "confirm": collection.confirm, "test": collection.test}
    if config.compile.optimizer == "none":
        shares["confirm"] = 0.0
    by_human = len(human.queries) >= FEWEST_HUMAN
    if by_human:
        splits = {**_human_splits(human.queries, config.seed), "train": sorted(queries)}
    else:
        splits = divide(list(queries), queries, shares, config.seed)
        splits["test"] = [*human.queries, *splits["test"]]
    queries |= dict(human.queries)
    qrels |= {query_id: dict(docs) for query_id, docs in human.qrels.items()}
    short = [split for split, least in MIN_QUERIES.items() if len(splits.get(split, ())) < least]
    if short:
        reasons = Counter(row["reason"] for row in rows if row["reason"])
        raise DataError(
            f"{len(kept)} of {len(rows)} written queries pass the gates "
            f"({', '.join(f'{r} {n}' for r, n in reasons.most_common())}), "
            f"too few for {' and '.join(short)}", where=str(workspace.folder.queries),
            todo="read the file; raise --write-queries, or try another --lm",
        )  # fmt: skip
    _note(workspace, rows, splits, human, by_human=by_human)
    return Collection(
        reader.name, passages, queries, qrels, {split: tuple(splits.get(split, ())) for split in SPLITS},
        tuple(reader.log.problems), (), tuple(reader.log.notes),
        drawn=frozenset(() if human.queries else ("dev", "test", "confirm")), seed=config.seed,
    )  # fmt: skip


def _human_splits(queries: Mapping[str, str], seed: int) -> dict[str, list[str]]:
    """Divide human queries into test and dev: 80 % to test up to 50 test queries, 60 % once that is more than 50.

    >>> [len(_human_splits({str(n): str(n) for n in range(count)}, 0)["test"]) for count in (4, 10, 60, 200)]
    [2, 8, 48, 120]
    """
    groups = groups_by_hash(list(queries), queries, seed)
    total = len(groups)
    tested = min(max(min(round(0.8 * total), TELLING["test"]), round(0.6 * total)), total - MIN_QUERIES["dev"])
    cut = {"test": groups[:tested], "dev": groups[tested:]}
    return {split: sorted(query_id for group in part for query_id in group) for split, part in cut.items()}


def _read(workspace: Unasked) -> tuple[PairsReader, _Human]:
    config = workspace.config
    corpus, examples = Path(config.collection.corpus or "").expanduser(), config.queries.examples
    columns, encoding, log = ColumnNames(config.collection.columns), config.collection.encoding, ReadLog()
    name = corpus.name.split(".")[0]
    passages = read_table(corpus, log, encoding)
    if not examples:
        return PairsReader(name, None, passages, columns, log), _Human()
    rows = list(read_table(Path(examples).expanduser(), log, encoding))
    names = [columns.of(row, PAIRS) for _, row in rows]
    texts = tuple(str(row[roles["query"][0]]) for (_, row), roles in zip(rows, names, strict=True) if "query" in roles)
    if not texts:
        raise DataError("no column 'query'", where=examples, todo="name it: --columns query=NAME")
    pairs = [row for row, roles in zip(rows, names, strict=True) if roles.keys() & {"positive", "doc_id"}]
    reader = PairsReader(name, pairs or None, passages, columns, log)
    qrels: dict[str, dict[str, float]] = {}
    for row in reader.qrels():
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    queries = dict(reader.queries())
    judged = {query_id: docs for query_id, docs in qrels.items() if max(docs.values()) > 0}
    return reader, _Human(texts, {query_id: queries[query_id] for query_id in judged}, judged)


def _rows(workspace: Unasked, passages: dict[str, str], human: _Human) -> list[dict[str, Any]]:
    """Return the rows of queries.jsonl; write the queries first if the manifest has no matching key."""
    config, path = workspace.config, workspace.folder.queries
    encoder, writer = workspace.bare_encoder, workspace.roles.writer
    program = load_query_program(config.queries.program)
    task = task_for(config).definition
    key = stage_key(
        "queries", config, fingerprint(passages), encoder.fingerprint, encoder.prompts, writer.identity, task,
        program.dump_state(), source_of(config.queries.program), human.examples, human.queries,
    )  # fmt: skip

    def work() -> None:
        with workspace.progress.stage("queries", "passages") as line:
            doc_ids = one_per_cluster(passages, encoder, config.queries.passages, config.seed)
            asked = ask_for_queries(passages, doc_ids, human.examples, config.generate.passage_words)
            queries = gated(
                written(asked, program, writer, task, line), passages, encoder, config.queries, human.examples
            )
            write_rows(path, [_row(query) for query in queries])
            line.note = f"{sum(query.accepted for query in queries)} of {len(queries)} written queries pass the gates"

    workspace.manifest.make("queries", key, path, work)
    return list(read_rows(path))


def _row(query: WrittenQuery) -> dict[str, Any]:
    return {**asdict(query), "accepted": query.accepted}


def _note(
    workspace: Unasked, rows: list[dict[str, Any]], splits: Mapping[str, Any], human: _Human, *, by_human: bool
) -> None:
    """Print the sizes of the splits, and note the counts of written queries in the manifest."""
    kinds = dict(Counter(row["kind"] for row in rows if row["accepted"]))
    sizes = ", ".join(f"{split} {len(splits.get(split, ()))}" for split in SPLITS if splits.get(split))
    tested = sum(query_id not in human.queries for query_id in splits["test"])
    workspace.manifest.note(
        written_queries={
            "program": workspace.config.queries.program, "lm": workspace.roles.writer.identity, "written": len(rows),
            "accepted": sum(row["accepted"] for row in rows), "kinds": kinds, "tested": tested,
        }
    )  # fmt: skip
    whose = "yours" if by_human else "synthetic"
    workspace.progress.say(f"  queries: {sizes}; those of dev and test are {whose}")
    if human.queries and not by_human:
        workspace.progress.say(
            f"  beside your {len(human.queries)} in test: {FEWEST_HUMAN} pairs or more would be all of dev and test"
        )
