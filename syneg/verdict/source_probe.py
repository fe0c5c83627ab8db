"""Can a linear model tell which negatives an LM wrote? If it can, the encoder may learn that instead of relevance.

source_probe(["Shut down one half …", …], ["Return the socket …", …], encoder, seed=0)
  → {"length": .61, "ngrams": .83, "embedding": .79}      AUC, .5 = cannot be told, 1 = always told

Three views: the number of words, TF-IDF of words and word pairs, and the embedding under the base encoder. Logistic
regression (scikit-learn), scored on held-out folds. Each text counts once in its group, and one that is in both groups
stays in one fold: a repeated text would be recognised by itself, not by who wrote it. The two groups are cut to one
size by seed. Design: the source shortcut of CausalNeg (arXiv 2606.01304).
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
    """Return AUCs over `min(len)` distinct texts of each group by 5-fold cross-validation; {} for fewer than 10 of
    each."""
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
    # a length is telling when it is unlike the other's, on either side: so its square too
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
    """One text of those that are the same once normalised."""
    return list({normalise(text): text for text in reversed(texts)}.values())[::-1]
