"""Scale vectors to length 1, and look embeddings up in a table of word vectors.

    unit(np.array([[3.0, 4.0]])) → [[.6, .8]]
    looked_up(model, ["close a socket"], "", normalised=True) → (1, dim) float32; None for a transformer

A table of word vectors (`StaticEmbedding`, model2vec) costs next to nothing, so that the tokenizer takes most of the
time. Here it leaves out the offsets of tokens, and a whole chunk of texts is one pass. The embeddings stay the same.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ROWS = 512  # rows that fit into the processor's cache


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, dim) scaled to length 1."""
    result: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return result


def scaled(vectors: np.ndarray) -> np.ndarray:
    """`unit` in place: `vectors` (n, dim) are changed and returned."""
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        rows /= np.maximum(np.sqrt(np.add.reduce(rows * rows, axis=-1, keepdims=True)), 1e-12)
    return vectors


def looked_up(model: SentenceTransformer, texts: list[str], prompt: str, *, normalised: bool) -> np.ndarray | None:
    """Embeddings (n, dim) float32 of n texts, as `encode` of the model gives them; None if it has no table of words."""
    import torch
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from sentence_transformers.util import batch_to_device

    if type(model[0]) is not StaticEmbedding or model.truncate_dim is not None or not texts:
        return None
    found = model[0].tokenizer.encode_batch_fast([prompt + text for text in texts], add_special_tokens=False)
    ids = [encoding.ids for encoding in found]
    flat = np.fromiter(chain.from_iterable(ids), np.int64)
    starts = np.cumsum([0, *map(len, ids[:-1])])
    features = batch_to_device({"input_ids": torch.from_numpy(flat), "offsets": torch.from_numpy(starts)}, model.device)
    model.eval()
    with torch.inference_mode():
        vectors = model(features)["sentence_embedding"]
        if normalised:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return np.asarray(vectors.cpu().numpy(), np.float32)
