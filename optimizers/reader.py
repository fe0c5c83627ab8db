"""The target `reader`: a program that grades the passages of a query.

    target = ReaderTarget(GradeList(), lists, shown, collection, definition, reader_lm)
    target.judge("q1", prediction)
      → ListWorth(value=.63, feedback="Passage <data>…</data> is relevant and was graded 1; it should have had 3. …")
    target.score(worths) → Score(gain=.041, error=.012, figures={"recall of hidden positives": (.88, .03), …})

The value of an answer is nDCG@10 (ranx) of the list in the reader's order: by grade, ties in the encoder's order.
Unjudged passages count as not relevant. An answer that cannot be read has value 0. The gain is over the encoder's order
of the same lists. Nothing is trained, so a hundred lists take a hundred calls and no more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from syneg.core.errors import ConfigError
from syneg.core.text import cut
from syneg.data.collection import Collection
from syneg.llm.calls import CallPurpose, attempted
from syneg.llm.lms import LanguageModel
from syneg.negatives.reader_agreement import by_grade, ndcg_of_lists
from syneg.negatives.reading import ANSWERS, IN_PART, ToRead
from syneg.programs import GradeList, fenced, labelled_demo
from syneg.retrieval.metrics import mean_and_error

from .target import Score, Worth

_WRONG = 3  # passages that the feedback names
_DEMO_WORDS = 40  # of each passage: two demos of three passages fit the context of an embedded LM
IDEAS = (
    "answer what the critic complains of most",
    "say what the task means by relevant, so that passages that only share words with the query are told apart",
    "say in steps how to read one passage: what is asked, what it says, whether that settles it",
    "say what tells a 3 from a 2, and a 1 from a 0",
    "use all four grades, so that the best passages stand over the good ones",
    "half as long, only what matters",
)


@dataclass(frozen=True)
class ListWorth(Worth):
    """The worth of one graded list.

    `order` is nDCG@10 of the reader's order, `encoder_order` that of the encoder's. `recalled` of the `positives` were
    graded 2 or 3, and `false` of the `others`, which are all other passages.
    """

    order: float = 0.0
    encoder_order: float = 0.0
    positives: int = 0
    recalled: int = 0
    others: int = 0
    false: int = 0
    readable: bool = False

    @property
    def counts(self) -> tuple[int, int]:
        """One list, readable or not."""
        return (1, 0) if self.readable else (0, 1)


class ReaderTarget:
    """A program that grades, tried on labelled lists. Demos are made from other lists (`shown`)."""

    name = "reader"
    does = (
        "grades the passages of a list for a query, from 3 (answers it) to 0 (another matter), so that in the order of "
        "its grades the relevant passages stand first"
    )
    ideas: Sequence[str] = IDEAS
    measure = "nDCG@10"
    baseline = "the encoder's order"
    second = "recall of hidden positives"
    answers = 1
    enough = 0
    sets_from = 0
    others: Sequence[LanguageModel] = ()
    threshold: float = 0.9  # nDCG@10

    def __init__(
        self,
        program: dspy.Module,
        lists: Sequence[ToRead],
        shown: Sequence[ToRead],
        collection: Collection,
        definition: str,
        lm: LanguageModel,
    ) -> None:
        self.program, self.lm = program, lm
        self._collection, self._definition = collection, definition
        self._shown = list(shown)
        self._lists = {asked.query_id: asked for asked in lists}
        self.asks: Mapping[str, Mapping[str, Any]] = {asked.query_id: self.ask(asked) for asked in lists}
        read = [*lists, *shown]
        passages = dict.fromkeys(doc_id for asked in read for doc_id in asked.doc_ids)
        self.texts: Sequence[str] = [*(asked.query for asked in read), *(collection.passages[d] for d in passages)]

    def ask(self, asked: ToRead) -> dict[str, Any]:
        """The inputs of the program for a list."""
        texts = [self._collection.passages[doc_id] for doc_id in asked.doc_ids]
        return {"query": asked.query, "passages": texts, "task": self._definition}

    def answer(self, program: dspy.Module, ask: Mapping[str, Any], current: CallPurpose) -> dspy.Prediction:
        """A prediction with `grades` and `spans`. Raises ConfigError for a program that returns anything else."""
        prediction, failed = attempted(program, ask)
        if failed:
            return dspy.Prediction(grades=[], spans=[], failed=failed)
        grades, spans = getattr(prediction, "grades", None), getattr(prediction, "spans", None)
        sizes = {len(part) if isinstance(part, list) else -1 for part in (grades, spans)}
        if sizes != {len(ask["passages"])}:
            raise ConfigError(
                f"the program {type(program).__name__} returned {' '.join(repr(prediction).split())[:120]}",
                todo="return dspy.Prediction(grades=[3, 0, …], spans=['…', '', …]), one of each for each passage",
            )
        return dspy.Prediction(grades=grades, spans=spans, failed="")

    def judge(self, example_id: str, prediction: dspy.Prediction) -> ListWorth:
        """The worth of an answer, with feedback on the passages that have a wrong grade."""
        asked = self._lists[example_id]
        encoder_order = self._ndcg(asked, asked.doc_ids)
        positives, others = len(asked.positives), len(asked.doc_ids) - len(asked.positives)
        if prediction.failed:
            return ListWorth(
                0.0, f"the grades could not be read: {fenced(prediction.failed)}", 0.0, encoder_order,
                positives=positives, others=others,
            )  # fmt: skip
        grades = dict(zip(asked.doc_ids, prediction.grades, strict=True))
        spans = dict(zip(asked.doc_ids, prediction.spans, strict=True))
        order = self._ndcg(asked, by_grade(asked, grades))
        high = {doc_id for doc_id, grade in grades.items() if grade >= IN_PART}
        feedback = f"nDCG@10 of the order {order:.2f}, of the search engine's own order {encoder_order:.2f}. "
        feedback += " ".join(self._wrong(asked, grades, spans)[:_WRONG]) or (
            "Every relevant passage has the grade that it should have, and none stands above it."
        )
        return ListWorth(
            order, feedback, order, encoder_order, positives, len(high & asked.positives), others,
            len(high - asked.positives), readable=True,
        )  # fmt: skip

    def _ndcg(self, asked: ToRead, order: Sequence[str]) -> float:
        return ndcg_of_lists([asked], {asked.query_id: order}, self._collection.qrels)[asked.query_id]

    def _wrong(self, asked: ToRead, grades: Mapping[str, int], spans: Mapping[str, str]) -> list[str]:
        """One sentence for each wrong grade: relevant passages graded too low, then others graded as high as them."""
        labels = self._collection.qrels[asked.query_id]
        best = max((labels[doc_id] for doc_id in asked.positives), default=0)
        due = {doc_id: ANSWERS if labels[doc_id] == best else IN_PART for doc_id in asked.positives}
        listed = [doc_id for doc_id in asked.doc_ids if doc_id in asked.positives]
        passages, sentences = self._collection.passages, []
        for doc_id in sorted(listed, key=lambda d: grades[d] - due[d]):
            if grades[doc_id] < due[doc_id]:
                sentences.append(
                    f"Passage {fenced(passages[doc_id])} is relevant and was graded {grades[doc_id]}; it should have "
                    f"had {due[doc_id]}."
                )
        least = min((grades[doc_id] for doc_id in asked.positives), default=ANSWERS)
        others = [d for d in asked.doc_ids if d not in asked.positives and grades[d] >= max(least, IN_PART)]
        for doc_id in sorted(others, key=lambda d: (d not in asked.checks, -grades[d])):
            known = "is known not to be relevant" if doc_id in asked.checks else "is not among the relevant passages"
            words = f" for the words {fenced(spans[doc_id])}" if spans[doc_id] else ""
            sentences.append(
                f"Passage {fenced(passages[doc_id])} {known} and was graded {grades[doc_id]}{words}, not lower than a "
                "relevant one; it should have had 1 or 0."
            )
        return sentences

    def shown(self, example_id: str, worth: Worth) -> str:
        """The query and the feedback on its list."""
        return f"query {fenced(self._lists[example_id].query)}: {worth.feedback}"

    def score(self, worths: Mapping[str, ListWorth]) -> Score:
        """The mean gain over the encoder's order.

        Other figures: recall of hidden positives, the share of other passages graded 2 or 3, and of readable answers.
        """
        gains = {query_id: worth.order - worth.encoder_order for query_id, worth in worths.items()}
        rows = list(worths.values())
        return Score(
            *mean_and_error(list(gains.values())), queries=gains,
            figures={
                "recall of hidden positives": mean_and_error([w.recalled / w.positives for w in rows if w.positives]),
                "others graded 2 or 3": mean_and_error([w.false / w.others for w in rows if w.others]),
                "lists read": mean_and_error([float(w.readable) for w in rows]),
            },
        )  # fmt: skip

    def demos(self) -> Sequence[Mapping[str, Sequence[dspy.Example]]]:
        """Two sets of demos: one and two short lists, graded by their labels; [] for a user's own program."""
        if not isinstance(self.program, GradeList):
            return []
        made = [demo for asked in self._shown if (demo := self._demo(asked)) is not None]
        return [{"grade": made[:count]} for count in (1, 2) if len(made) >= count]

    def _demo(self, asked: ToRead) -> dspy.Example | None:
        """A demo with a relevant passage, the last other passage of the list, and a known negative.

        None without a relevant passage, or with that alone.
        """
        passages = self._collection.passages
        last = [d for d in asked.doc_ids if d not in asked.positives and d not in asked.checks][-1:]
        rows = [(d, ANSWERS) for d in sorted(asked.positives)[:1]]
        rows += [(d, 1) for d in last] + [(d, 0) for d in sorted(asked.checks)[:1]]
        if len(rows) < 2 or rows[0][1] != ANSWERS:
            return None
        random.Random(asked.query_id).shuffle(rows)
        shown = [(cut(passages[doc_id], _DEMO_WORDS), grade) for doc_id, grade in rows]
        return labelled_demo(self._definition, asked.query, shown)
