"""A cross-encoder as the reader, in place of an LM. It scores a query and a passage together.

    reader = CrossReader.load("cross-encoder/ms-marco-MiniLM-L6-v2", device="cpu")
    fitted = reader.fitted(lists, passages)      → Thresholds(answers=4.1, in_part=1.3, near=-6.2)
    reader.read(lists, passages, fitted)         → Answers([Reading("3", "d9", grade=1, lm="cross-encoder …"), …])

Three thresholds, fitted on train queries, turn scores into grades:
- 3 from a score that 75 % of the known positives reach, and at most 1 % of the known negatives;
- 2 from a score that 90 % of the positives reach, and at most 5 % of the negatives;
- 1 from the median of the passages that nobody judged. They are all near the query, because search found them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syneg.core.errors import ConfigError, one_line
from syneg.core.progress import Tick
from syneg.retrieval.loading import local_only, not_cached

from .reading import ANSWERS, IN_PART, NEAR, OTHER, Answers, Reading, ToRead

_CHUNK = 32  # lists scored between two ticks of progress


@dataclass(frozen=True)
class Thresholds:
    """The lowest scores that give a 3 (`answers`), a 2 (`in_part`) and a 1 (`near`); below them is 0."""

    answers: float
    in_part: float
    near: float

    def grade(self, score: float) -> int:
        """The grade of a score.

        >>> [Thresholds(2.0, 1.0, 0.0).grade(score) for score in (2.5, 1.0, 0.3, -1.0)]
        [3, 2, 1, 0]
        """
        limits = ((self.answers, ANSWERS), (self.in_part, IN_PART), (self.near, NEAR))
        return next((grade for limit, grade in limits if score >= limit), OTHER)


class CrossReader:
    """A reader that needs no LM. `identity` names the model and a hash of its weights.

    `model` is a sentence-transformers CrossEncoder with one score.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self.identity = f"cross-encoder {name}@{_weights(model)}"

    @classmethod
    def load(cls, name: str, device: str) -> CrossReader:
        """Load a model of the Hugging Face hub or a folder, from safetensors only.

        Raises ConfigError if it cannot be loaded or gives more than one score, and BackendError if it is not on the
        hub, or if the hub cannot be reached.
        """
        from sentence_transformers import CrossEncoder

        here = local_only(name)
        try:
            model = CrossEncoder(
                name,
                device=None if device == "auto" else device,
                local_files_only=here,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError) as error:
            if here and not Path(name).is_dir():
                raise not_cached(name) from error
            raise ConfigError(f"reader.cross_encoder {name!r} cannot be loaded: {one_line(error)}") from error
        if model.num_labels != 1:
            raise ConfigError(
                f"reader.cross_encoder {name!r} gives {model.num_labels} scores", todo="name a model that gives one"
            )
        return cls(model, name)

    def scores(
        self, lists: Sequence[ToRead], passages: Mapping[str, str], progress: Tick | None = None
    ) -> list[np.ndarray]:
        """For each list, the scores (passages,) in the order of its passages."""
        from torch.nn import Identity

        groups: list[np.ndarray] = []
        for start in range(0, len(lists), _CHUNK):
            part = lists[start : start + _CHUNK]
            texts = [(asked.query, passages[doc_id]) for asked in part for doc_id in asked.doc_ids]
            # raw scores: a sigmoid would round all high scores to 1
            flat = np.asarray(self._model.predict(texts, activation_fn=Identity(), show_progress_bar=False), np.float32)
            ends = np.cumsum([len(asked.doc_ids) for asked in part])[:-1]
            groups += np.split(flat, ends)
            if progress:
                progress(len(groups), len(lists))
        return groups

    def fitted(self, lists: Sequence[ToRead], passages: Mapping[str, str], progress: Tick | None = None) -> Thresholds:
        """Fit the thresholds on lists of train queries that contain known positives and negatives."""
        positives, checks, rest = list[float](), list[float](), list[float]()
        for asked, scores in zip(lists, self.scores(lists, passages, progress), strict=True):
            for doc_id, score in zip(asked.doc_ids, scores.tolist(), strict=True):
                kind = positives if doc_id in asked.positives else checks if doc_id in asked.checks else rest
                kind.append(score)
        return fit(positives, checks, rest)

    def read(
        self, lists: Sequence[ToRead], passages: Mapping[str, str], fitted: Thresholds, progress: Tick | None = None
    ) -> Answers:
        """Grade every passage of every list."""
        return Answers([
            Reading(asked.query_id, doc_id, fitted.grade(score), lm=self.identity)
            for asked, scores in zip(lists, self.scores(lists, passages, progress), strict=True)
            for doc_id, score in zip(asked.doc_ids, scores.tolist(), strict=True)
        ])  # fmt: skip


def fit(positives: Sequence[float], checks: Sequence[float], rest: Sequence[float]) -> Thresholds:
    """Thresholds from the scores of known positives, known negatives (`checks`) and unjudged passages (`rest`).

    Without known negatives the unjudged passages take their part.

    >>> fit([4.0, 5.0, 6.0, 7.0], [0.0, 0.0], [1.0, 2.0, 3.0])
    Thresholds(answers=4.75, in_part=4.3, near=2.0)
    """
    known = checks or rest or [min(positives)]
    answers = max(float(np.quantile(positives, 0.25)), float(np.quantile(known, 0.99)))
    in_part = min(answers, max(float(np.quantile(positives, 0.1)), float(np.quantile(known, 0.95))))
    near = min(in_part, float(np.median(rest or known)))
    return Thresholds(answers, in_part, near)


def _weights(model: Any) -> str:
    """A hash of the weights: other weights under the same name make another reader."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
