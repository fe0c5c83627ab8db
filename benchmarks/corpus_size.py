"""How large a corpus one machine can hold: seconds and peak memory of each part of mining, with random embeddings.

    python benchmarks/corpus_size.py --passages 1000000,5000000          the last one needs 12 GB of disk
    python benchmarks/corpus_size.py --quick

A made collection (made.py, passages of 60 words) is written to a file. Then the product's own parts read it, make its
fingerprint, index it and mine negatives for `--pairs` queries, each in the way that `syneg-dspy mine` does. Embeddings
are drawn from a hash of the text, because an encoder would take most of the time. What an encoder adds: its weights,
and 24 bytes a passage for the cache of embeddings.

For each part there are seconds, CPU seconds, and the peak of memory in MB: `mb` is all of it, `own_mb` without the
pages of mapped files, which the system takes back when it needs them. The own part is looked at ten times a second.
Both are 0 where there is no /proc, and `rss_mb` is then the peak of the whole process.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before faiss

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from zlib import adler32, crc32

import click
import numpy as np
from made import beir
from turns import Figures, columns, in_turn, save, sizes

from syneg.core.progress import Tick
from syneg.retrieval.indexes import DenseIndex

WORDS = 60
_STATUS = Path("/proc/self/status")
_LOOK_S = 0.1


class Drawn:
    """Stands in for an encoder: embeddings (n, dim) of length 1, drawn from a hash of each text."""

    def __init__(self, dim: int) -> None:
        numbers = np.random.default_rng(0).standard_normal(2**20 + dim, np.float32)
        self._rows = np.lib.stride_tricks.sliding_window_view(numbers, dim)
        self._index: DenseIndex | None = None

    def encode(self, texts: Sequence[str], role: str, progress: Tick | None = None) -> np.ndarray:
        data = [text.encode() for text in texts]
        vectors = sum(self._rows[np.array([mix(each) % 2**20 for each in data])] for mix in (crc32, adler32))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def index(self, passages: Mapping[str, str], progress: Tick | None = None) -> DenseIndex:
        self._index = self._index or DenseIndex.of(passages, self)
        return self._index

    def vectors_held(self, passages: Mapping[str, str]) -> DenseIndex | None:
        return self._index if self._index is not None and self._index.holds_vectors else None


def memory_mb() -> dict[str, float]:
    """Memory of this process by its names in /proc: VmHWM (peak of all), RssAnon (without mapped files)."""
    lines = (line.split() for line in _STATUS.read_text().splitlines()) if _STATUS.exists() else ()
    return {line[0].rstrip(":"): int(line[1]) / 1e3 for line in lines if line[0] in ("VmHWM:", "RssAnon:")}


@contextmanager
def part(name: str, figures: Figures) -> Iterator[None]:
    """Add seconds and peak memory of what is inside to `figures`."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    own, ended = [memory_mb().get("RssAnon", 0.0)], threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            own.append(memory_mb().get("RssAnon", 0.0))

    looking = threading.Thread(target=look)
    looking.start()
    start, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        figures[f"{name}_s"], figures[f"{name}_cpu_s"] = time.perf_counter() - start, time.process_time() - cpu
        ended.set()
        looking.join()
    figures[f"{name}_mb"], figures[f"{name}_own_mb"] = memory_mb().get("VmHWM", 0.0), max(own)


def measure(folder: str, passages: int, pairs: int, dim: int) -> Figures:
    """Seconds and memory of each part on a corpus of so many passages."""
    from configured import configured

    from syneg.data.collection import load_collection
    from syneg.negatives.mining import mine

    os.environ["SYNEG_HOME"] = f"{folder}/home"
    figures, encoder = Figures(), Drawn(dim)
    with tempfile.TemporaryDirectory(dir=folder) as data:
        beir(Path(data) / "made", passages, pairs, WORDS)
        config = configured((f"collection.dataset={data}/made",), {"mine.margin": 10.0})
        with part("collection", figures):
            collection = load_collection(config.collection)
    asked = [pair for split in collection.splits for pair in collection.pairs(split)]
    with part("fingerprint", figures):
        figures["fingerprint"] = collection.fingerprint
    with part("dense_index", figures):
        encoder.index(collection.passages)
    for source in ("dense", "bm25"):
        with part(f"mine_{source}", figures):
            only = config.mine.model_copy(update={"sources": (source,)})
            mined = mine(collection, asked, encoder, only)  # type: ignore[arg-type]
        figures[f"{source}_negatives"] = sum(map(len, mined.negatives.values()))
    if peaks := [value for name, value in figures.items() if name.endswith("_mb")]:
        figures |= {"rss_mb": max(peaks)} if max(peaks) else {}
    return figures


@click.command()
@click.option("--passages", default="100000,1000000", show_default=True, callback=sizes)
@click.option("--pairs", default=100, show_default=True, help="queries that are mined for")
@click.option("--dim", default=384, show_default=True, help="of the embeddings")
@click.option("--turns", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="2,000 passages")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(passages: list[int], pairs: int, dim: int, turns: int, quick: bool, path: Path | None) -> None:
    if quick:
        passages, dim, turns = [2_000], 32, 1
    with tempfile.TemporaryDirectory() as folder:
        measured = in_turn({f"{size:,}": partial(measure, folder, size, pairs, dim) for size in passages}, turns)
    print(columns(measured, "passages"))
    save(path, "corpus_size", {"passages": passages, "pairs": pairs, "dim": dim, "words": WORDS}, measured)


if __name__ == "__main__":
    main()
