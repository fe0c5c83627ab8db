"""Frozen records that stages hand to each other.

A pair on its way through the pipeline:

    Pair(query_id="bisect.insort", query="Insert item x in list a, and keep it sorted.",
         doc_id="bisect.insort_right", positive="If x is already in a, insert it to the right …")
      → MinedNegative(doc_id="heapq.heappush", text="…", source="dense", rank=4, score=.41)
      → HardNegative(text="The list is sorted in place …", program="multi_attribute", attributes={…})
      → GateVerdict(reason="", …): accepted; else a reason with a figure and its threshold

Field names follow ir_measures and TREC: query_id, doc_id, relevance, score, rank.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .storage import JsonObject

Number = TypeVar("Number", bound=Any)  # a float, an array or a tensor
SPLITS = ("train", "dev", "confirm", "test")
MARGIN_RULE = 0.95  # of NV-Retriever: the margin for `auto`, if none was chosen (`syneg.run.windows`)
NO_MARGIN = 1e9  # the margin that accepts every score
READ, RELATED, PARTIAL = "read", "related", "partial"  # sources of passages that a reader graded 0, 1 and 2


def margin_limit(positive: Number, margin: float) -> Number:
    """The highest allowed score of a negative: `margin` (say 0.95) times the score of the positive.

    For a positive score under zero the limit lies below it by the same distance; 95 % of -0.2 would lie above it.

    >>> round(margin_limit(0.5, 0.95), 3), round(margin_limit(-0.2, 0.95), 3), margin_limit(-0.2, 1.0)
    (0.475, -0.21, -0.2)
    """
    return positive - (1 - margin) * abs(positive)


def margin_share(score: float, positive: float) -> float:
    """The smallest margin that accepts `score`: 0.9 for a score of .45 and a positive of .5. Inverse of `margin_limit`.

    >>> round(margin_share(0.45, 0.5), 3), round(margin_share(-0.22, -0.2), 3), round(margin_share(-0.1, -0.2), 3)
    (0.9, 0.9, 1.5)
    """
    return 1 + (score - positive) / max(abs(positive), 1e-6)


def fingerprint(*parts: Any) -> str:
    """SHA-256 (first 16 hex digits) of the canonical JSON of `parts`. A dataclass counts as a dict of its fields.

    Raises TypeError for a value that JSON cannot hold.
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"cannot fingerprint {type(value).__name__}")

    data = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=plain, separators=(",", ":"))
    return hashlib.sha256(data.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and its positives: the passages that are judged relevant to it.

    `doc_id` and `positive` belong to the best positive (highest grade, then lowest id). `positives` holds the texts of
    all positives, the best first; it is empty if only the best one is known.
    """

    query_id: str
    query: str
    doc_id: str
    positive: str
    positives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MinedNegative:
    """A passage of the corpus that ranks high for a query and is not judged relevant to it.

    `source` is `dense`, `bm25`, `given` for a negative that the data names, or READ or RELATED for one that a reader
    graded 0 or 1. `rank` counts from 1 in the list of that
    source. `score` is the score of the base encoder for every source, so that one margin applies to dense and BM25.
    """

    doc_id: str
    text: str
    source: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Call:
    """One LM call. `key` finds its row in the ledger; `prompt` is a hash of the request.

    `usd` is None if the price is unknown. `replayed` says that the ledger gave the answer, so that nothing was paid.
    """

    key: str
    model: str
    prompt: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class HardNegative:
    """A passage that a program wrote for a pair. The program sets the fields to `parent_doc_id`, generation the rest.

    `parent_doc_id` names the passage that was rewritten. `calls` are keys of the ledger. `prompt` is the hash of the
    request of the last call.
    """

    text: str
    program: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    reasoning: str = ""
    parent_doc_id: str | None = None
    lm: str = ""
    calls: tuple[str, ...] = ()
    prompt: str = ""
    finish_reason: str = ""
    attempt: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> HardNegative:
        """Read a row of negatives.jsonl."""
        return cls(**{key: row[key] for key in cls.__dataclass_fields__ if key in row})


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The decision of the gates on one negative.

    `reason` is "" for an accepted negative; for another one `figure` missed `threshold`. `figures` are all measured
    values by name. `evidence` is the judge's quotation.
    """

    reason: str
    figure: float | None = None
    threshold: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    evidence: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Draft:
    """One attempt for a pair: the negative (its text is "" if the attempt failed) and the decision of the gates."""

    pair: Pair
    negative: HardNegative
    verdict: GateVerdict

    @property
    def accepted(self) -> bool:
        return self.verdict.accepted

    def row(self) -> JsonObject:
        """Write as a row of negatives.jsonl."""
        return {
            "query_id": self.pair.query_id, "query": self.pair.query, "doc_id": self.pair.doc_id,
            "accepted": self.accepted, **dataclasses.asdict(self.verdict), **dataclasses.asdict(self.negative),
        }  # fmt: skip

    @classmethod
    def of(cls, row: Mapping[str, Any], pair: Pair) -> Draft:
        """Read a row of negatives.jsonl that was written for `pair`."""
        verdict = {key: row[key] for key in GateVerdict.__dataclass_fields__ if key in row}
        return cls(pair, HardNegative.of(row), GateVerdict(**verdict))


@dataclass(frozen=True, slots=True)
class Instance:
    """A training row: a pair and its negatives. The four tuples have one entry per negative, in the same order.

    `weights` multiply a negative in the softmax; a weight of 0 marks padding. `doc_ids` are None for written texts.
    """

    pair: Pair
    negatives: tuple[str, ...]
    sources: tuple[str, ...]
    weights: tuple[float, ...]
    doc_ids: tuple[str | None, ...]


@dataclass(frozen=True)
class Training:
    """The record of one training, as training.json holds it.

    `dev` has (step, nDCG@10) of each evaluation. `losses` has (step, mean loss since the last entry). `alphas` has
    (share of the tuned weights, nDCG@10) of each mixture that was tried. `optimism` is nDCG@10 on dev of the best one
    less that of one chosen on other queries. `shares` has, for each third of the training, the share of the gradient on
    negatives by source.
    """

    steps: int
    seconds: float
    rows: int = 0
    processes: int = 1
    dev: tuple[tuple[int, float], ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    alphas: tuple[tuple[float, float], ...] = ()
    optimism: float = 0.0
    shares: tuple[Mapping[str, float], ...] = ()
    synthetic_share: float = 0.0
    resumed: bool = False

    def after(self, first: Training) -> Training:
        """The record of both trainings, of which this one went on with the weights of `first`.

        Its alphas, shares of the gradient and share of synthetic negatives are those of the second part.
        """
        return replace(
            self, steps=first.steps + self.steps, seconds=round(first.seconds + self.seconds, 2),
            dev=(*first.dev, *((first.steps + step, score) for step, score in self.dev)),
            losses=(*first.losses, *((first.steps + step, loss) for step, loss in self.losses)),
            resumed=first.resumed or self.resumed,
        )  # fmt: skip

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Training:
        """Read the data of training.json."""
        pairs = {
            name: tuple((place, value) for place, value in row.get(name, ())) for name in ("dev", "losses", "alphas")
        }
        return cls(**{**row, **pairs, "shares": tuple(row.get("shares", ()))})
