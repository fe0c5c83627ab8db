"""Test an LM on passages with known labels, before it may judge anything.

    calibrate(labelled_passages(collection, …), Judge(), judge_lm, JudgeConfig())
      → Calibration(lm="openai/gpt-4o-mini@default", accuracy=.95, kappa=.9, p_value=1e-8, trusted=True,
                    confusion={"positive": {"yes": 19, "no": 1, "unreadable": 0}, "near": …, "far": …})

Half of the passages are positives of train queries. The other half is not relevant: a passage judged not relevant
("judged not") if the query has one, otherwise in turn the passage at rank 100 of the query's own ranking ("near") and
one drawn at random from the corpus ("far").
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import dspy
import scipy  # loads scipy.stats when it is first used

from syneg.core.config import GatesConfig, JudgeConfig
from syneg.core.progress import Tick
from syneg.core.records import Draft
from syneg.core.text import cut
from syneg.data.collection import Collection
from syneg.llm.lms import LanguageModel
from syneg.programs import Judge
from syneg.retrieval.encoder import Encoder

from .judging import ask_all, ask_judge

_WORDS = 300  # the judge reads the first 300 words of a passage
_NEAR_RANK = 100
_LEVEL = 0.05  # of significance


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query and a passage whose relevance is known.

    `kind` tells where the label comes from: "positive", "judged not", "near" or "far".
    """

    query_id: str
    query: str
    passage: str
    task: str
    relevant: bool
    kind: str


@dataclass(frozen=True)
class Calibration:
    """How well an LM judged labelled passages; an unreadable answer counts as a wrong one.

    `accuracy` and Cohen's `kappa` are over all `asked` passages. `p_value` is that of a one-sided binomial test against
    a judge that always gives the more frequent label. `confusion[kind]` counts the answers yes, no and unreadable.
    """

    lm: str
    asked: int
    accuracy: float
    kappa: float
    p_value: float
    trusted: bool
    confusion: dict[str, dict[str, int]]

    def table(self) -> str:
        """Text of at most 80 columns: the answers by kind of passage, then accuracy, kappa and p."""
        lines = [f"{'passages':<14}{'said yes':>10}{'said no':>10}{'unreadable':>12}"]
        lines += [f"{kind:<14}{n['yes']:>10}{n['no']:>10}{n['unreadable']:>12}" for kind, n in self.confusion.items()]
        trust = "trusted" if self.trusted else "NOT trusted"
        lines.append(
            f"accuracy {self.accuracy:.2f}, kappa {self.kappa:.2f}, p {self.p_value:.2g} over {self.asked}: {trust}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class TrustedJudge:
    """An LM that may decide whether a text answers its query, with the calibration that it passed."""

    lm: LanguageModel
    calibration: Calibration
    name: str = "judge"

    def decide(
        self, drafts: Sequence[Draft], definition: str, gates: GatesConfig, progress: Tick | None = None
    ) -> list[Draft]:
        """The drafts, in the same order, after the judge has read the accepted ones. Raises BackendError when the LM
        keeps failing."""
        return ask_judge(drafts, Judge(), self.lm, definition, gates, progress)

    @property
    def key(self) -> tuple[str, dict[str, dict[str, int]]]:
        """The part of a stage's key that names this judge: its identity and its confusion."""
        return self.lm.identity, self.calibration.confusion


def calibrate(
    questions: Sequence[Labelled],
    judge: dspy.Module,
    judge_lm: LanguageModel,
    config: JudgeConfig,
    progress: Tick | None = None,
) -> Calibration:
    """Let the judge answer all questions, and compare its answers with the labels.

    It is trusted if kappa reaches `judge.min_kappa` and p is under .05. Raises BackendError when the LM keeps failing.
    """
    from sklearn.metrics import cohen_kappa_score

    asked = [(f"judge:{q.query_id}", q.query, q.passage) for q in questions]
    answers = ask_all(asked, judge, judge_lm, [q.task for q in questions], progress)
    confusion = {q.kind: {"yes": 0, "no": 0, "unreadable": 0} for q in questions}
    for question, answer in zip(questions, answers, strict=True):
        confusion[question.kind]["unreadable" if answer is None else "yes" if answer[0] else "no"] += 1
    labels = [question.relevant for question in questions]
    taken = [not label if answer is None else answer[0] for label, answer in zip(labels, answers, strict=True)]
    right = sum(label == answer for label, answer in zip(labels, taken, strict=True))
    n, yes = len(labels), sum(labels)
    # kappa is undefined if all labels are equal: such a test says nothing, so the judge is not trusted
    kappa = float(cohen_kappa_score(labels, taken)) if 0 < yes < n else 0.0
    p_value = (
        float(scipy.stats.binomtest(right, n, max(yes, n - yes) / n, alternative="greater").pvalue)
        if 0 < yes < n
        else 1.0
    )
    return Calibration(
        judge_lm.identity,
        n,
        right / max(1, n),
        kappa,
        p_value,
        kappa >= config.min_kappa and p_value < _LEVEL,
        confusion,
    )


def labelled_passages(
    collection: Collection, encoder: Encoder, config: JudgeConfig, task: str, seed: int
) -> list[Labelled]:
    """Choose `judge.sample` passages of train queries, half of them positives; the same for the same seed."""
    pairs = collection.pairs("train")
    random.Random(f"{seed}:judge").shuffle(pairs)
    half = min(config.sample // 2, len(pairs))
    labelled = [Labelled(p.query_id, p.query, _shown(p.positive), task, True, "positive") for p in pairs[:half]]
    doc_ids = list(collection.passages)
    queries = encoder.encode([pair.query for pair in pairs[:half]], "query")
    ranking = encoder.index(collection.passages).search(queries, min(len(doc_ids), 2 * _NEAR_RANK))
    for number, (pair, hits) in enumerate(zip(pairs, ranking, strict=False)):
        grades = collection.qrels[pair.query_id]
        judged = sorted(grades.keys() - collection.relevant(pair.query_id))
        unjudged = [doc_id for doc_id, _ in hits if doc_id not in grades]
        if judged:
            kind, doc_id = "judged not", random.Random(f"{seed}:{pair.query_id}").choice(judged)
        elif number % 2 and unjudged:
            kind, doc_id = "near", unjudged[min(_NEAR_RANK, len(unjudged)) - 1]
        else:
            rest = [doc_id for doc_id in doc_ids if doc_id not in grades]
            if not rest:
                continue
            kind, doc_id = "far", random.Random(f"{seed}:{pair.query_id}").choice(rest)
        labelled.append(Labelled(pair.query_id, pair.query, _shown(collection.passages[doc_id]), task, False, kind))
    return labelled


def _shown(text: str) -> str:
    """The first words of a passage: what the judge sees of it."""
    return cut(text, _WORDS, mark="")
