"""Wrap a sentence-transformers model with its prompts, the precision of the machine, and cached embeddings.

    encoder = Encoder.load(EncoderConfig(model="local/minilm"))
    encoder.encode(["close a socket"], "query") → (1, 384) float32

The inner product of two rows is always the score that the model was trained for: rows of a cosine encoder have length
1, rows of a dot-product encoder keep their length. Queries go through `encode_query` and passages through
`encode_document`, with the prompts of the module `prompts`. These prompts are written into the model, so that a saved
model scores as it did here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads slow shared cores 10-100 times

import numpy as np

from syneg.core.config import EncoderConfig
from syneg.core.errors import BackendError
from syneg.core.fetch import asset_named, fetch
from syneg.core.progress import Tick

from .embedding_cache import cache_folder, describe, prune, remove
from .embeddings import EmbeddingStore, Gathered, MissingEmbeddings, keys_of
from .indexes import DenseIndex
from .loading import Loaded, length_limit, load_model
from .passes import ahead, numbers, precision_for, texts_a_pass, threads_for
from .prompts import Prompts, Role, prompts_of, write_prompts
from .vectors import looked_up, scaled

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TASKS: dict[Role, str] = {"query": "query", "passage": "document"}  # the names of encode_query and encode_document
_CHUNK = 512
_TRIES = 3
_PRUNE_AFTER = 256 * 10**6  # bytes of new embeddings
_SAMPLE = 400  # texts that are tokenised to see how many are too long; the share is then right to 5 %


class Embedders(Protocol):
    """Embeds chunks of texts on other machines (implemented by `syneg.run.cluster.Cluster`)."""

    def embedded(
        self, chunks: Iterable[list[str]], role: Role, encoder: Encoder
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yield each chunk with its embeddings (n, dim) float32, in any order."""
        ...


@dataclass(frozen=True)
class _CorpusIndex:
    """The index of a corpus, and the size that the corpus had then."""

    passages: Mapping[str, str]
    size: int
    index: DenseIndex


class Encoder:
    """One model with its settings.

    `fingerprint` identifies everything that decides an embedding: weights, prompts, length, precision, similarity.
    `notes` are messages for the user on assumptions about the model.
    """

    def __init__(
        self,
        loaded: Loaded,
        config: EncoderConfig,
        embedders: Embedders | None = None,
        *,
        index: str = "auto",
        trained: bool = False,
    ) -> None:
        self._embedders, self._trained, self._added = embedders, trained, 0
        self.model, self.config, self.name, self.notes = loaded.model, config, config.model, list(loaded.notes)
        self.prompts: Prompts = prompts_of(config, loaded.model, loaded.names)
        write_prompts(loaded.model, self.prompts)
        self.similarity: Literal["cosine", "dot"] = "dot" if loaded.model.similarity_fn_name == "dot" else "cosine"
        self.precision = precision_for(config.precision, str(loaded.model.device))
        self._weights = self._weights_digest()
        self.fingerprint = self._hash(self.prompts.query, self.prompts.passage)[:16]
        self._stores: dict[Role, EmbeddingStore] = {}
        self._factory = index
        self._index: _CorpusIndex | None = None

    @classmethod
    def load(
        cls,
        config: EncoderConfig,
        path: Path | None = None,
        embedders: Embedders | None = None,
        *,
        index: str = "auto",
    ) -> Encoder:
        """Load `config.model`, or the model trained from it at `path`, with the same settings.

        `embedders` run the forward passes of more than 512 texts; None runs all of them here. `index` is the factory
        string for the index of a corpus (`DenseIndex`). Raises BackendError if the model cannot be found or read.
        """
        source = str(path) if path else config.model
        if source.startswith("local/"):
            if asset_named(source).kind != "encoder":
                raise BackendError(f"{source!r} is an LM, not an encoder", todo="use local/minilm")
            source = str(fetch(source))
        if path is not None:
            config = config.model_copy(update={"revision": None})
        return cls(load_model(config, source), config, embedders, index=index, trained=path is not None)

    def encode(self, texts: Sequence[str], role: Role, progress: Tick | None = None) -> np.ndarray:
        """Embeddings (n, dim) float32 of n texts. Texts that the cache lacks are embedded and added to it.

        `progress` counts the new texts. Raises BackendError if embeddings vanish from the cache three times.
        """
        store, keys = self._store(role), keys_of(texts)
        for _ in range(_TRIES):
            self._fill(store, (texts, keys), role, progress)
            try:
                vectors = store.take(keys)
            except MissingEmbeddings:  # another process removed the folder
                continue
            return scaled(vectors) if self.similarity == "cosine" and len(texts) else vectors
        raise BackendError(
            "embeddings vanish from the cache while they are used", where=str(store.folder),
            todo="find out which program removes files there, or set SYNEG_HOME to another folder",
        )  # fmt: skip

    @property
    def stored_type(self) -> type[np.floating[Any]]:
        """Number format of cached embeddings. float16 changes a cosine by .0005 at most, a dot product by more."""
        return np.float16 if self.similarity == "cosine" else np.float32

    def forget(self) -> None:
        """Close the cache. Remove this model's embeddings from it if a run trained the model."""
        stores, self._stores = self._stores, {}
        for store in stores.values():
            store.close()
            if self._trained:
                remove(store.folder)

    def index(self, passages: Mapping[str, str], progress: Tick | None = None) -> DenseIndex:
        """The index of a corpus, built once for all stages that search it. `passages` must not change afterwards."""
        kept = self._index
        if kept is None or kept.passages is not passages or kept.size != len(passages):
            self._index = None  # free the memory of the old index before the new one is built
            made = DenseIndex.of(passages, self, self._factory, progress)
            self._index = kept = _CorpusIndex(passages, len(passages), made)
        return kept.index

    def vectors_held(self, passages: Mapping[str, str]) -> DenseIndex | None:
        """The index of a corpus if it was built and holds all embeddings in memory."""
        kept = self._index
        is_it = kept is not None and kept.passages is passages and kept.size == len(passages)
        return kept.index if kept is not None and is_it and kept.index.holds_vectors else None

    def autocast(self) -> AbstractContextManager[Any]:
        """A context for forward passes: bfloat16 if `precision` is bf16, else no change."""
        import torch

        return torch.autocast(self.model.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def forward(self, texts: list[str], role: Role, model: SentenceTransformer | None = None) -> np.ndarray:
        """Embeddings (n, dim) float32 without the cache. `model` may be a trained copy; None is the wrapped model."""
        model = self.model if model is None else model
        encode = model.encode_query if role == "query" else model.encode_document
        size = self.config.batch_size
        if model.device.type == "cuda" and texts:
            size = texts_a_pass(self.features([max(texts, key=len)], role, model), length_limit(model), size)
        with self.autocast():
            vectors = looked_up(model, texts, self.prompts.of(role), normalised=self.similarity == "cosine")
            if vectors is None:
                vectors = encode(
                    texts, prompt=self.prompts.of(role), batch_size=size,
                    normalize_embeddings=self.similarity == "cosine", convert_to_numpy=True, show_progress_bar=False,
                )  # fmt: skip
        return numbers(np.asarray(vectors, dtype=np.float32), texts, self.name)

    def features(self, texts: Sequence[str], role: Role, model: SentenceTransformer | None = None) -> dict[str, Any]:
        """Tokenised input of the model for `texts`, on its device, with the same prompts as `forward`."""
        from sentence_transformers.util import batch_to_device

        model = self.model if model is None else model
        task = TASKS[role]
        features: dict[str, Any] = model.preprocess(list(texts), prompt=self.prompts.of(role), task=task)
        return dict(batch_to_device(features, model.device))

    def longer_than_limit(self, texts: Collection[str]) -> tuple[int, bool]:
        """Return how many passages have more tokens than the model reads, and whether that count is exact.

        Of many long passages about 400 are tokenised, and the count is an estimate. The texts are read twice.
        """
        limit, tokenizer = length_limit(self.model), getattr(self.model[0], "tokenizer", None)
        if limit is None or not callable(tokenizer):
            return 0, True
        places = [i for i, text in enumerate(texts) if len(text.encode("utf-8", "replace")) + 2 > limit]
        step = max(1, -(-len(places) // _SAMPLE))
        chosen = {*places[::step]}
        sample = [self.prompts.passage + text for i, text in enumerate(texts) if i in chosen]
        if not sample:
            return 0, True
        lengths = [len(ids) for ids in tokenizer(sample, truncation=False, padding=False, verbose=False)["input_ids"]]
        share = sum(length > limit for length in lengths) / len(sample)
        return round(share * len(places)), step == 1

    def describe(self) -> str:
        """One line: model, precision and device, similarity, length limit, prompts.

        `BAAI/bge-base-en-v1.5, fp32 on cpu, cosine, texts of up to 512 tokens, prompts of the family bge-: query "…"`
        """
        limit = length_limit(self.model)
        prompts = " and ".join(f"{role} {text!r}" for role in ("query", "passage") if (text := self.prompts.of(role)))
        length = f"texts of up to {limit} tokens" if limit else "texts of any length"
        return (
            f"{self.name}, {self.precision} on {self.model.device}, {self.similarity}, {length}, "
            f"{f'prompts of {self.prompts.source}: {prompts}' if prompts else f'no prompts ({self.prompts.source})'}"
        )

    def save(self, folder: Path) -> None:
        """Save the model: `encode_query` and `encode_document` of `SentenceTransformer(folder)` score as here."""
        self.model.save(str(folder), create_model_card=False)

    def _fill(
        self, store: EmbeddingStore, wanted: tuple[Sequence[str], np.ndarray], role: Role, progress: Tick | None
    ) -> None:
        """Embed the texts that the cache lacks, the longest first. `wanted` are the texts and their keys."""
        texts, keys = wanted
        missing = sorted(store.missing(keys), key=lambda place: -len(texts[place]))
        given: dict[str, np.ndarray] = {}  # first text of a chunk that is being embedded → keys of the chunk
        gathered, done, added = Gathered(store), 0, 0

        def chunks() -> Iterator[list[str]]:
            nonlocal done
            for start in range(0, len(missing), _CHUNK):
                chunk = np.array(missing[start : start + _CHUNK])
                lacking = chunk[store.missing(keys[chunk])]  # another process may have embedded some meanwhile
                done += len(chunk) - len(lacking)
                if len(lacking):
                    given[texts[lacking[0]]] = keys[lacking]
                    yield [texts[place] for place in lacking]

        try:
            for chunk, vectors in self._forwarded(chunks(), role, len(missing)):
                added += gathered.add(given.pop(chunk[0]), vectors)
                done += len(chunk)
                if progress:
                    progress(done, len(missing))
        finally:
            added += gathered.flush()
            if added or (texts and not missing):  # without missing ones, its making was broken off
                describe(store.folder, self.name, role, trained=self._trained)
        self._prune(added)

    def _prune(self, added: int) -> None:
        """Prune the cache after 256 MB of new embeddings."""
        self._added += added
        if self._added > _PRUNE_AFTER and self.config.cache_gb:
            self._added = 0
            prune(self.config.cache_gb * 1e9)

    def _forwarded(self, chunks: Iterable[list[str]], role: Role, count: int) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yield chunks with their embeddings, in any order. `count` is the number of all texts."""
        # fewer texts are embedded here sooner than a worker has loaded the model
        if self._embedders is not None and count > _CHUNK:
            yield from self._embedders.embedded(chunks, role, self)
        else:
            threads = threads_for(self.model.device.type)
            if threads > 1:
                self.features(["a"], role)  # sets the tokenizer's limits, which fails while another thread uses it
            yield from ahead(lambda chunk: (chunk, self.forward(chunk, role)), chunks, threads)

    def _store(self, role: Role) -> EmbeddingStore:
        """The cached embeddings for one role, which has a prompt of its own."""
        if role not in self._stores:
            space = self._hash(role, self.prompts.of(role))[:24]
            self._stores[role] = EmbeddingStore(cache_folder() / space, self.stored_type)
        return self._stores[role]

    def _hash(self, *more: str) -> str:
        """A hash of everything that decides an embedding, and of `more`."""
        facts = [self._weights, self.model.max_seq_length, self.precision, self.similarity, *more]
        return hashlib.sha256("|".join(map(repr, facts)).encode()).hexdigest()

    def _weights_digest(self) -> str:
        """A hash of the modules and their weights."""
        import torch

        digest = hashlib.sha256(f"{self.model}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
