"""Score a model on a dev set while it is trained.

    DevScore(dev, encoder)(model) → {"dev_ndcg@10": .683}

This module loads sentence-transformers; `dev_set` does not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import SentenceEvaluator

from .dev_set import DevSet
from .encoder import Encoder
from .indexes import DenseIndex
from .metrics import MAIN_METRIC, evaluate, mean, without_own

_DEPTH = 10  # ranks that nDCG@10 reads
DEV_METRIC = f"dev_{MAIN_METRIC}"


class DevScore(SentenceEvaluator):
    """Mean nDCG@10 of a model on a `DevSet`, in the form that sentence-transformers' trainer calls."""

    def __init__(
        self,
        dev: DevSet,
        encoder: Encoder,
        around: Callable[[SentenceTransformer], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`around(model)` is open while the model embeds; a training opens its cache of frozen layers with it."""
        super().__init__()
        self.primary_metric = MAIN_METRIC
        self._dev, self._encoder, self._around = dev, encoder, around
        self.best: dict[str, float] = {}  # query_id → nDCG@10 of the best model so far, the first of equal ones

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The mean nDCG@10 of `model`, by the name that the trainer looks for."""
        values = self.values(model)
        if not self.best or mean(values) > mean(self.best):
            self.best = values
        return {DEV_METRIC: mean(values)}

    def values(self, model: SentenceTransformer) -> dict[str, float]:
        """query_id → nDCG@10. Queries and passages are embedded with the prompts and precision of the encoder."""
        with self._around(model):
            queries = self._encoder.forward(list(self._dev.queries.values()), "query", model)
            passages = self._encoder.forward(list(self._dev.passages.values()), "passage", model)
        hits = DenseIndex(list(self._dev.passages), passages).search(queries, _DEPTH + 1)
        ranking = without_own(dict(zip(self._dev.queries, hits, strict=True)), self._dev.qrels, _DEPTH)
        return dict(evaluate(self._dev.qrels, ranking, [MAIN_METRIC])[MAIN_METRIC])
