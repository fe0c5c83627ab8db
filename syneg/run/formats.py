"""Define the formats of other trainers: one row of FORMATS for each. The source of each schema stands under it.

    sentence-transformers  {"anchor": …, "positive": …, "negative_1": …, …}    the order of columns tells their roles
                           sbert.net/docs/sentence_transformer/training_overview.html, "Dataset Format"
    hf-dataset             the same, with a card, in a folder that datasets.load_dataset reads
    pylate                 {"query": …, "positive": …, "negative": …}          one negative a row
                           github.com/lightonai/pylate, docs/documentation/datasets.md, "Contrastive Dataset"
    flagembedding          {"query": …, "pos": […], "neg": […]}                one row a query; JSON only
                           github.com/FlagOpen/FlagEmbedding, FlagEmbedding/abc/finetune/embedder/AbsDataset.py
    tevatron               {"query_id": …, "query": …, "positive_passages": [{"docid", "title", "text"}],
                            "negative_passages": […]}
                           github.com/texttron/tevatron, src/tevatron/retriever/dataset.py, the format of texts
    beir                   corpus.jsonl, queries.jsonl, qrels/train.tsv with 1 for positives and 0 for negatives
                           github.com/beir-cellar/beir/wiki/Load-your-custom-dataset

Formats with columns need the same number of negatives in every row: a row with fewer repeats its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from syneg.core.counts import counted, part_of
from syneg.core.records import Instance
from syneg.core.storage import JsonObject
from syneg.data.cells import made_id
from syneg.training.sampling import PADDING, SYNTHETIC

Shape = Literal["rows", "triplets", "queries"]
Table = list[JsonObject]


@dataclass(frozen=True)
class Origins:
    """Where negatives come from, as the run folder records it: `mined[query_id, doc_id]`, `written[query_id, text]`."""

    mined: Mapping[tuple[str, str], Mapping[str, Any]]
    written: Mapping[tuple[str, str], Mapping[str, Any]]

    def of(self, row: Instance, place: int) -> JsonObject:
        """Return source, weight and origin of the negative at `place` (from 0) of a training row."""
        source, doc_id = row.sources[place], row.doc_ids[place]
        if source == SYNTHETIC:
            origin = self.written.get((row.pair.query_id, row.negatives[place]), {})
        else:
            origin = self.mined.get((row.pair.query_id, doc_id or ""), {})
        return {"source": source, "weight": row.weights[place], **origin}


@dataclass(frozen=True)
class Passage:
    """A text with its id and its origin. The origin of a positive is {}: it comes from the collection."""

    id: str
    text: str
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A row of an export, before `Format.tables` gives it the columns of a format."""

    query_id: str
    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...]

    def provenance(self, number: int) -> JsonObject:
        """Return the row's line of provenance.ndjson. `number` is its place in the export, from 0."""
        return {
            "row": number, "query_id": self.query_id, "positives": [{"id": passage.id} for passage in self.positives],
            "negatives": [{"id": passage.id, **passage.origin} for passage in self.negatives],
        }  # fmt: skip


@dataclass(frozen=True)
class Format:
    """How an export looks.

    `shape` says what a line is: "rows" a training row, "triplets" a row with one of its negatives, "queries" a query
    with every passage that it was trained with. `tables` turns lines into file name → rows. `parquet` says that the
    format may be written as Parquet, `card` that it comes with a README.md.
    """

    shape: Shape
    tables: Callable[[Sequence[Line]], dict[str, Table]]
    parquet: bool = True
    card: bool = False


def lines_of(rows: Iterable[Instance], shape: Shape, origins: Origins) -> tuple[list[Line], list[str]]:
    """Turn training rows into lines of `shape` without repeats; return them, and remarks on rows with few negatives."""
    lines: dict[Any, Line] = {}
    for row in rows:
        line = _line(row, origins)
        parts = [line]
        if shape == "triplets":
            parts = [Line(line.query_id, line.query, line.positives, (negative,)) for negative in line.negatives]
        for part in parts:
            key = (part.query_id, *(() if shape == "queries" else (_texts(part.positives), _texts(part.negatives))))
            lines[key] = _joined(lines[key], part) if key in lines else part
    kept = list(lines.values())
    if shape == "rows":
        return _evened(kept)
    without = sum(not line.negatives for line in kept)
    if without and shape == "queries":
        kept = [line for line in kept if line.negatives] or kept
    left_out = len(kept) != len(lines)
    return kept, [f"no negative, so left out: {counted(without, 'query')}"] if left_out else []


def _line(row: Instance, origins: Origins) -> Line:
    negatives = [
        Passage(row.doc_ids[place] or made_id("s", text), text, origins.of(row, place))
        for place, text in enumerate(row.negatives)
        if row.sources[place] != PADDING
    ]
    positive = Passage(row.pair.doc_id or made_id("p", row.pair.positive), row.pair.positive)
    return Line(row.pair.query_id, row.pair.query, (positive,), tuple(negatives))


def _texts(passages: Sequence[Passage]) -> tuple[str, ...]:
    return tuple(passage.text for passage in passages)


def _joined(a: Line, b: Line) -> Line:
    """Merge two lines of one query: the passages of both, without repeats."""
    positives = {passage.text: passage for passage in (*b.positives, *a.positives)}
    negatives = {passage.text: passage for passage in (*a.negatives, *b.negatives)}
    ordered = dict.fromkeys((*_texts(a.positives), *_texts(b.positives)))
    return Line(a.query_id, a.query, tuple(positives[text] for text in ordered), tuple(negatives.values()))


def _evened(lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Give all lines the same number of negatives: lines with fewer repeat theirs, lines with none are left out."""
    places = max((len(line.negatives) for line in lines), default=0)
    full, repeated = [], 0
    for line in lines:
        if len(line.negatives) == places:
            full.append(line)
        elif line.negatives:
            repeated += 1
            filled = [line.negatives[place % len(line.negatives)] for place in range(places)]
            full.append(Line(line.query_id, line.query, line.positives, tuple(filled)))
    left = len(lines) - len(full)
    said = part_of(repeated, len(full), "row", "has", "have")
    again = "repeats its own" if repeated == 1 else "repeat their own"
    notes = [f"{said} fewer than {places} negatives and {again}"] if repeated else []
    return full, [*notes, *([f"no negative, so left out: {counted(left, 'row')}"] if left else [])]


# tables of each format


def _columns(lines: Sequence[Line]) -> dict[str, Table]:
    return {
        "train.jsonl": [
            {"anchor": line.query, "positive": line.positives[0].text,
             **{f"negative_{number}": passage.text for number, passage in enumerate(line.negatives, 1)}}
            for line in lines
        ]
    }  # fmt: skip


def _triplets(lines: Sequence[Line]) -> dict[str, Table]:
    return {
        "train.jsonl": [
            {"query": line.query, "positive": line.positives[0].text, "negative": line.negatives[0].text}
            for line in lines
        ]
    }


def _lists(lines: Sequence[Line]) -> dict[str, Table]:
    return {
        "train.jsonl": [
            {"query": line.query, "pos": list(_texts(line.positives)), "neg": list(_texts(line.negatives))}
            for line in lines
        ]
    }


def _passages(lines: Sequence[Line]) -> dict[str, Table]:
    def plain(passages: Sequence[Passage]) -> list[dict[str, str]]:
        return [{"docid": passage.id, "title": "", "text": passage.text} for passage in passages]

    return {
        "train.jsonl": [
            {"query_id": line.query_id, "query": line.query, "positive_passages": plain(line.positives),
             "negative_passages": plain(line.negatives)}
            for line in lines
        ]
    }  # fmt: skip


def _beir(lines: Sequence[Line]) -> dict[str, Table]:
    """The files of BEIR. A carriage return in an id is percent-encoded: readers of TSV make a line break of it."""

    def named(key: str) -> str:
        return key.replace("\r", "%0D")

    texts = {passage.id: passage.text for line in lines for passage in (*line.positives, *line.negatives)}
    grades = [
        {"query-id": named(line.query_id), "corpus-id": named(passage.id), "score": grade}
        for line in lines
        for grade, passages in ((1, line.positives), (0, line.negatives))
        for passage in passages
    ]
    return {
        "corpus.jsonl": [{"_id": named(doc_id), "title": "", "text": text} for doc_id, text in texts.items()],
        "queries.jsonl": [{"_id": named(line.query_id), "text": line.query} for line in lines],
        "qrels/train.tsv": grades,
    }


FORMATS = {
    "sentence-transformers": Format("rows", _columns),
    "flagembedding": Format("queries", _lists, parquet=False),
    "tevatron": Format("queries", _passages),
    "pylate": Format("triplets", _triplets),
    "beir": Format("queries", _beir, parquet=False),
    "hf-dataset": Format("rows", _columns, card=True),
}


def hub_card(collection: str, arm: str, *, parquet: bool) -> str:
    """Return README.md of an hf-dataset; `datasets.load_dataset` reads from its YAML which files to load."""
    return "\n".join(
        [
            "---", "tags:", "- sentence-transformers", "- hard-negatives", "- information-retrieval", "configs:",
            "- config_name: train", f"  data_files: train.{'parquet' if parquet else 'jsonl'}",
            "  default: true", "---",
            "",
            f"# Training rows for {collection}", "",
            f"The rows that the arm `{arm}` of a syneg-dspy run trained on: a query, a positive and hard negatives, "
            "mined or",
            (
                "written by an LM. Facts in written passages are invented: they are for training retrievers, not for "
                "reading."
            ),
            "`provenance.ndjson` says for each row where its passages are from.", "",
        ]
    )  # fmt: skip
