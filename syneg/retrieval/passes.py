"""Choose the precision of forward passes, size them by tokens, and tokenise the next texts while a GPU computes.

    texts_a_pass(encoder.features(["a text of 32 tokens"], "passage"), limit=256, batch_size=64) → 512
    list(ahead(len, ["one", "three"], threads=2)) → [3, 5]

`encoder.batch_size` counts texts of the longest length that the model reads. A GPU takes more of shorter texts, so
that each pass holds about as many tokens. A CPU gains nothing from it and keeps the number of texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from syneg.core.errors import BackendError

Item = TypeVar("Item")
Result = TypeVar("Result")


def numbers(vectors: np.ndarray, texts: Sequence[str], model: str) -> np.ndarray:
    """The embeddings (n, dim) of n texts as they are. Raises BackendError if one of them holds NaN or infinity."""
    if bad := [text for text, good in zip(texts, np.isfinite(vectors).all(-1), strict=True) if not good]:
        raise BackendError(
            f"{model} gives no numbers for {len(bad)} of {len(texts)} texts, such as {bad[0][:60]!r}",
            todo="set encoder.precision=fp32, or take another encoder",
        )
    return vectors


def precision_for(wanted: str, device: str) -> str:
    """Resolve "auto": bf16 if the hardware computes in it, else fp32, because emulated bf16 is slower."""
    if wanted != "auto":
        return wanted
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device == "cpu" and has() else "fp32"


def threads_for(device: str) -> int:
    """How many threads embed side by side: two on a GPU, where one tokenises while the other's pass runs."""
    return 2 if device == "cuda" else 1


def texts_a_pass(longest: Mapping[str, Any], limit: int | None, batch_size: int) -> int:
    """How many texts hold as many tokens as `batch_size` texts of `limit` tokens.

    `longest` is the tokenised input (1, length) of the longest of them. Without a limit or token ids, `batch_size`.
    """
    tokens = longest.get("input_ids")
    if limit is None or tokens is None:
        return batch_size
    return max(batch_size, batch_size * limit // max(1, tokens.shape[-1]))


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `work(item)` of each item, in order. `threads` work side by side; at most one result more waits.

    `items` are taken in the thread of the caller. Raises what `work` raises; items that wait are then left.
    """
    if threads < 2:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
