"""The frozen records that pass between the stages.

One instance on its way through the pipeline:

    Pair(query_id="bisect.insort", query="Insert item x in list a, and keep it sorted.",
         doc_id="bisect.insort_right", positive="If x is already in a, insert it to the right …")
      → MinedNegative(doc_id="heapq.heappush", text="…", source="dense", rank=4, score=.41)
      → HardNegative(text="The list is sorted in place …", program="multi_attribute", attributes={…})
      → Verdict of the gates: accepted, or a reason with a figure and its threshold

Field names are the community's: query_id, doc_id, relevance, score, rank (ir_measures, TREC).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .storage import JsonObject

Number = TypeVar("Number", bound=Any)  # a float, an array or a tensor
SPLITS = ("train", "dev", "confirm", "test")


def margin_limit(positive: Number, margin: float) -> Number:
    """The highest score that a negative may have beside the positive's, for a margin of, say, 95 %.

    A positive under zero leaves the same distance: 95 % of -0.2 would be over it.

    >>> round(margin_limit(0.5, 0.95), 3), round(margin_limit(-0.2, 0.95), 3), margin_limit(-0.2, 1.0)
    (0.475, -0.21, -0.2)
    """
    return positive - (1 - margin) * abs(positive)


def margin_share(score: float, positive: float) -> float:
    """The smallest margin that `score` keeps beside the positive's: 0.9 for .45 beside .5.

    >>> round(margin_share(0.45, 0.5), 3), round(margin_share(-0.22, -0.2), 3), round(margin_share(-0.1, -0.2), 3)
    (0.9, 0.9, 1.5)
    """
    return 1 + (score - positive) / max(abs(positive), 1e-6)


def fingerprint(*parts: Any) -> str:
    """SHA-256 (first 16 hex digits) over the canonical JSON of `parts`; dataclasses are taken as dicts."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"cannot fingerprint {type(value).__name__}")

    data = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=plain, separators=(",", ":"))
    return hashlib.sha256(data.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the passages that are judged relevant to it, before it has negatives.

    `doc_id` and `positive` are those of the best passage (highest grade, then first by id). `positives` holds the texts
    of all of them, the best first; it is empty where only the best one is known.
    """

    query_id: str
    query: str
    doc_id: str
    positive: str
    positives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MinedNegative:
    """A corpus passage near the query that is not judged relevant.

    `source` is `dense` or `bm25`, `rank` starts at 1 in that source's list, `score` is the cosine under the base
    encoder (also for BM25 finds, so that the 95 % rule applies to both).
    """

    doc_id: str
    text: str
    source: str
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an LM: what the ledger keeps of it and a program's result refers to.

    `usd` is None when the price is not known, which is not the same as zero.
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
    """A passage that a program wrote for a pair: programs fill the fields up to `parent_doc_id`, generation the rest.

    `prompt` is the hash of what was sent in the last of its `calls` (keys of the ledger).
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
        """A row of negatives.jsonl as the record that it was."""
        return cls(**{key: row[key] for key in cls.__dataclass_fields__ if key in row})


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gates say of one negative: the reason is empty when it is accepted; `evidence` is what a judge
    quotes."""

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
    """One try: the negative (an empty text where there is none) and what the gates say of it so far."""

    pair: Pair
    negative: HardNegative
    verdict: GateVerdict

    @property
    def accepted(self) -> bool:
        return self.verdict.accepted

    def row(self) -> JsonObject:
        """As a line of negatives.jsonl."""
        return {
            "query_id": self.pair.query_id, "query": self.pair.query, "doc_id": self.pair.doc_id,
            "accepted": self.accepted, **dataclasses.asdict(self.verdict), **dataclasses.asdict(self.negative),
        }  # fmt: skip

    @classmethod
    def of(cls, row: Mapping[str, Any], pair: Pair) -> Draft:
        """A row of negatives.jsonl, written for `pair`, as the record that it was."""
        verdict = {key: row[key] for key in GateVerdict.__dataclass_fields__ if key in row}
        return cls(pair, HardNegative.of(row), GateVerdict(**verdict))


@dataclass(frozen=True, slots=True)
class Instance:
    """A training row: the pair, its negatives in order, where each is from and what it weighs (0 = padding)."""

    pair: Pair
    negatives: tuple[str, ...]
    sources: tuple[str, ...]
    weights: tuple[float, ...]
    doc_ids: tuple[str | None, ...]


@dataclass(frozen=True)
class Training:
    """What a training came to, as training.json has it.

    `dev` holds (step, nDCG@10) of each evaluation, `losses` (step, mean loss since the one before), `alphas` (share of
    the tuned weights, nDCG@10) of each that was tried, `shares` the part of the gradient on negatives that each source
    had in the first, second and last third.
    """

    steps: int
    seconds: float
    rows: int = 0
    processes: int = 1
    dev: tuple[tuple[int, float], ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    alphas: tuple[tuple[float, float], ...] = ()
    shares: tuple[Mapping[str, float], ...] = ()
    synthetic_share: float = 0.0
    resumed: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Training:
        """The data of training.json as the record that it was."""
        pairs = {
            name: tuple((place, value) for place, value in row.get(name, ())) for name in ("dev", "losses", "alphas")
        }
        return cls(**{**row, **pairs, "shares": tuple(row.get("shares", ()))})
