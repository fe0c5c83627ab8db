"""Can a linear model tell which negatives an LM wrote? If it can, the encoder may learn that instead of relevance.

source_probe(["Shut down one half …", …], ["Return the socket …", …], encoder, seed=0)
  → {"length": .61, "ngrams": .83, "embedding": .79}      AUC, .5 = cannot be told, 1 = always told

Three views: the number of words, TF-IDF of words and word pairs, and the embedding under the base encoder. Logistic
regression (scikit-learn), scored on held-out folds; the two groups are cut to one size by seed. Design: the source
shortcut of CausalNeg (arXiv 2606.01304).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from syneg.core.text import word_count, words
from syneg.retrieval.encoder import Encoder

_FOLDS = 5


def source_probe(synthetic: Sequence[str], mined: Sequence[str], encoder: Encoder, *, seed: int) -> dict[str, float]:
    """AUC over `min(len)` texts of each group by 5-fold cross-validation; {} where there are fewer than 10 of each."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n = min(len(synthetic), len(mined))
    if n < 2 * _FOLDS:
        return {}
    draw = random.Random(seed)
    texts = [*draw.sample(list(synthetic), n), *draw.sample(list(mined), n)]
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
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    return {
        view: round(
            float(roc_auc_score(labels, cross_val_predict(model, x, labels, cv=folds, method="predict_proba")[:, 1])), 3
        )
        for view, (x, model) in views.items()
    }
