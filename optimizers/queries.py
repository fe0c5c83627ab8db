"""The target `queries`: a program that writes queries for passages.

    target = QueriesTarget(WriteQueries(), asked, downstream, definition, writer)
    target.judge("d17", prediction)
      → QueryWorth(value=.70, feedback="The query <data>…</data> finds its passage at rank 2. …", rank=2)

The value of a query is nDCG@10 of its round trip (as in Promptagator, arXiv 2209.11755): its own passage is the one
relevant passage, and the better rank of the encoder and of BM25 counts. A query that copies half of its 4-grams from
the passage finds it without asking anything, and is worth .1, as one that is too short or too long.

The score of a program is the mean round trip. What its queries do to retrieval (`downstream`) ranks programs with it,
and is a condition: nDCG@10 of real dev queries after a short training must not fall by more than its error under that
of the first program. Without such queries the round trip decides alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from syneg.core.text import grams, word_count
from syneg.llm.calls import CallPurpose, attempted
from syneg.llm.lms import LanguageModel
from syneg.negatives.queries import LONGEST, SHORTEST, Asked, first_query
from syneg.programs import fenced
from syneg.retrieval.indexes import LexicalIndex
from syneg.retrieval.metrics import mean, mean_and_error

from .downstream import Downstream
from .target import Score, Worth

_DEPTH = 10
_REJECTED, _LEAST = 0.1, 0.2
DOWNSTREAM = "nDCG@10 of dev queries over untuned"
_MUCH = 0.02  # gain in nDCG@10 of dev queries from which tanh flattens
_COPIED, _GRAM = 0.5, 4  # share of 4-grams from which a query counts as copied
IDEAS = (
    "answer what the critic complains of most",
    "say how to find what is special to the passage, so that few other passages answer the query",
    "write as somebody would who has not seen the passage, in other words than its own",
    "ask for one thing only, the most important one",
    "half as long, only what matters",
)


@dataclass(frozen=True)
class QueryWorth(Worth):
    """What one query is worth. `rank` is that of its passage, None if it is not among the first ten; `sound` says that
    the query is neither copied nor of a wrong length. `query` is its text."""

    rank: int | None = None
    sound: bool = False
    query: str = ""

    @property
    def counts(self) -> tuple[int, int]:
        """One query, sound or not."""
        return (1, 0) if self.sound else (0, 1)


@dataclass(frozen=True)
class QueriesScore(Score):
    """The score of a program that writes queries. `downstream` maps each held-out query to its gain in nDCG@10 over the
    untuned encoder; {} where there are no such queries."""

    downstream: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The mean of the round trip and of the gain in retrieval, which is bounded by tanh."""
        if not self.downstream:
            return self.gain
        return (self.gain + math.tanh(mean(self.downstream) / _MUCH)) / 2

    def refusal(self, first: Score) -> str:
        """Retrieval after training on the queries falls by more than its error; "" if it does not."""
        theirs = first.downstream if isinstance(first, QueriesScore) else {}
        falls, error = mean_and_error([value - theirs[q] for q, value in self.downstream.items() if q in theirs])
        return f"nDCG@10 after training on its queries falls by {-falls:.4f} ± {error:.4f}" if falls < -error else ""


class QueriesTarget:
    """A program that writes queries, for the passages of `asked`."""

    name = "queries"
    does = "writes a search query for a passage, which that passage answers and few others do"
    ideas: Sequence[str] = IDEAS
    measure = "nDCG@10"
    baseline = "a query that finds nothing"
    second = "sound queries"
    answers = 1
    enough = 0
    sets_from = 0
    others: Sequence[LanguageModel] = ()
    threshold: float = 0.9  # nDCG@10

    def __init__(
        self,
        program: dspy.Module,
        asked: Sequence[Asked],
        downstream: Downstream,
        definition: str,
        lm: LanguageModel,
    ) -> None:
        self.program, self.lm = program, lm
        self._passages, self._encoder, self.downstream = dict(downstream.passages), downstream.encoder, downstream
        self._lexical, self._lock = LexicalIndex(self._passages), threading.Lock()
        self.asks: Mapping[str, Mapping[str, Any]] = {
            one.doc_id: {"passage": one.passage, "task": definition, "kind": one.kind, "examples": one.examples}
            for one in asked
        }
        self.texts: Sequence[str] = [text for one in asked for text in (one.passage, *one.examples)]

    def answer(self, program: dspy.Module, ask: Mapping[str, Any], current: CallPurpose) -> dspy.Prediction:
        """`query`, the first one that the program writes."""
        prediction, failed = attempted(program, ask)
        query = first_query(prediction)
        return dspy.Prediction(query=query, failed=failed or ("" if query else "the program returned no query"))

    def judge(self, example_id: str, prediction: dspy.Prediction) -> QueryWorth:
        """nDCG@10 of the round trip, and in words where the passage ranks and which one stands above it."""
        query, passage = str(prediction.query), self._passages[example_id]
        if not query:
            return QueryWorth(0.0, f"no query could be read: {fenced(prediction.failed)}")
        shown = f"The query {fenced(query)} for the passage {fenced(passage)}"
        if not SHORTEST <= word_count(query) <= LONGEST:
            return QueryWorth(_REJECTED, f"{shown} has {word_count(query)} words; {SHORTEST} to {LONGEST} are wanted.")
        own = list(grams(query, _GRAM))
        copied = len(set(own) & set(grams(passage, _GRAM))) / len(own) if own else 0.0
        if copied >= _COPIED:
            return QueryWorth(_REJECTED, f"{shown} copies {copied:.0%} of its words in a row from the passage.")
        rank, above = self._trip(query, example_id)
        if rank is None:
            words = f"{shown} does not find it among the first {_DEPTH}."
        else:
            words = f"{shown} finds it at rank {rank}."
        if rank != 1 and above:
            words += f" Above it stands {fenced(self._passages[above])}"
        gain = 1 / math.log2(1 + rank) if rank else 0.0
        return QueryWorth(_LEAST + (1 - _LEAST) * gain, words, rank, sound=True, query=query)

    def _trip(self, query: str, doc_id: str) -> tuple[int | None, str]:
        """The better rank of the passage under the encoder and BM25, and the first passage under the encoder."""
        with self._lock:
            vectors = self._encoder.encode([query], "query")  # (1, dim)
            dense = [hit for hit, _ in self._encoder.index(self._passages).search(vectors, _DEPTH)[0]]
            lexical = [hit for hit, _ in self._lexical.search([query], _DEPTH)[0]]
        ranks = [hits.index(doc_id) + 1 for hits in (dense, lexical) if doc_id in hits]
        return min(ranks, default=None), next((hit for hit in dense if hit != doc_id), "")

    def shown(self, example_id: str, worth: Worth) -> str:
        """What the critic says, which quotes query and passage."""
        return worth.feedback

    def score(self, worths: Mapping[str, QueryWorth]) -> QueriesScore:
        """Mean nDCG@10 of the round trips; the share of sound queries, of those that stand first, and what the sound
        ones do to retrieval."""
        gains = {doc_id: round_trip(worth) for doc_id, worth in worths.items()}
        rows, after = list(worths.values()), self.downstream.gains(sound(worths))
        figures = {DOWNSTREAM: mean_and_error(list(after.values()))} if after else {}
        return QueriesScore(
            *mean_and_error(list(gains.values())), queries=gains,
            figures={
                "sound queries": mean_and_error([float(worth.sound) for worth in rows]),
                "passage at rank 1": mean_and_error([float(worth.rank == 1) for worth in rows]), **figures,
            },
            downstream=after,
        )  # fmt: skip

    def demos(self) -> Sequence[Mapping[str, Sequence[dspy.Example]]]:
        """None beside those that the program brings."""
        return []


def sound(worths: Mapping[str, QueryWorth]) -> dict[str, str]:
    """doc_id → the query, where it is sound."""
    return {doc_id: worth.query for doc_id, worth in worths.items() if worth.sound}


def round_trip(worth: QueryWorth) -> float:
    """nDCG@10 of a query's round trip; 0 for a query that is not sound."""
    return 1 / math.log2(1 + worth.rank) if worth.sound and worth.rank else 0.0
