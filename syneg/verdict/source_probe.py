"""Test whether a linear model can tell which negatives an LM wrote. If so, the encoder may learn that, not relevance.

    source_probe(["Shut down one half …", …], ["Return the socket …", …], encoder, seed=0)
      → {"length": .61, "ngrams": .83, "embedding": .79}      AUC: .5 is chance, 1 is always right

A logistic regression (scikit-learn) sees one of three views: the number of words, TF-IDF of words and word pairs, or
the embedding under the base encoder. It is scored on held-out folds. Each distinct text counts once in its group, and a
text of both groups stays in one fold, so that no text is recognised as itself. The larger group is sampled down to the
size of the smaller one. The design follows the source shortcut of CausalNeg (arXiv 2606.01304).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from syneg.core.text import normalise, word_count, words
from syneg.retrieval.encoder import Encoder

_FOLDS = 5


def source_probe(synthetic: Sequence[str], mined: Sequence[str], encoder: Encoder, *, seed: int) -> dict[str, float]:
    """Return view → AUC, by 5-fold cross-validation over equally many distinct texts of each group.

    Returns {} if a group has fewer than 10 distinct texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    synthetic, mined = _distinct(synthetic), _distinct(mined)
    n = min(len(synthetic), len(mined))
    if n < 2 * _FOLDS:
        return {}
    draw = random.Random(seed)
    texts = [*draw.sample(synthetic, n), *draw.sample(mined, n)]
    labels = np.repeat([1, 0], n)
    lengths = np.log1p([[word_count(text)] for text in texts])
    by_words = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
    # the square lets a linear model separate lengths that are both longer and shorter than the other group's
    views: dict[str, tuple[Any, Any]] = {
        "length": (np.hstack([lengths, lengths**2]), make_pipeline(StandardScaler(), LogisticRegression())),
        "ngrams": (
            texts,
            make_pipeline(by_words, LogisticRegression(C=10)),
        ),
        "embedding": (encoder.encode(texts, "passage"), make_pipeline(StandardScaler(), LogisticRegression(C=0.01))),
    }
    splits = list(
        StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed).split(texts, labels, [*map(normalise, texts)])
    )
    return {
        view: round(
            float(roc_auc_score(labels, cross_val_predict(model, x, labels, cv=splits, method="predict_proba")[:, 1])),
            3,
        )
        for view, (x, model) in views.items()
    }


def _distinct(texts: Sequence[str]) -> list[str]:
    """The texts without repetitions: of texts with equal normalised forms, the first."""
    return list({normalise(text): text for text in reversed(texts)}.values())[::-1]
