"""A sentence-transformers encoder with its prompts, a precision that suits the machine, and cached embeddings.

    encoder = Encoder.load(EncoderConfig(model="local/minilm"))
    encoder.encode(["close a socket"], "query") → (1, 384) float32, rows of length 1

Prompts are taken from the config, else from the model (`model.prompts`), else from what its family was trained with
(E5: "query: " and "passage: "; BGE: an instruction for queries; per their model cards).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads slow shared cores 10-100 times

import numpy as np

from syneg.core.config import EncoderConfig
from syneg.core.errors import BackendError
from syneg.core.fetch import asset_named, fetch
from syneg.core.progress import Tick
from syneg.core.storage import cache_home

from .embeddings import EmbeddingStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Role = Literal["query", "passage"]

_CHUNK = 512
_FAMILY_PROMPTS: tuple[tuple[str, dict[Role, str]], ...] = (
    (
        "e5-mistral",
        {"query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "},
    ),
    ("e5", {"query": "query: ", "passage": "passage: "}),
    ("bge-m3", {}),
    ("bge-", {"query": "Represent this sentence for searching relevant passages: "}),
    ("snowflake-arctic-embed", {"query": "Represent this sentence for searching relevant passages: "}),
)


class Embedders(Protocol):
    """Workers that embed chunks of texts elsewhere (`syneg.run.cluster.Cluster`)."""

    def embedded(
        self, chunks: Iterable[list[str]], role: Role, encoder: Encoder
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Each chunk with its embeddings (n, dim) float32, in the order in which they are done."""
        ...


class Encoder:
    """Wraps one model; `fingerprint` identifies weights and everything else that decides an embedding."""

    def __init__(
        self, model: SentenceTransformer, config: EncoderConfig, name: str, embedders: Embedders | None = None
    ) -> None:
        self.model, self.config, self.name, self._embedders = model, config, name, embedders
        self.prompts: dict[Role, str] = {
            role: prompt_for(role, config, model.prompts, name) for role in ("query", "passage")
        }
        limit = model.max_seq_length
        if isinstance(limit, int):  # static embeddings have no limit and take none
            model.max_seq_length = min(config.max_tokens, limit)
        self.precision = precision_for(config.precision, str(model.device))
        self.fingerprint = self._fingerprint()
        self._stores: dict[Role, EmbeddingStore] = {}

    @classmethod
    def load(cls, config: EncoderConfig, path: Path | None = None, embedders: Embedders | None = None) -> Encoder:
        """Load `config.model`, or the trained model at `path` with the same settings.

        `embedders` take the forward passes of large inputs in place of this process.

        Raises BackendError when the model cannot be found or read.
        """
        import transformers
        from sentence_transformers import SentenceTransformer

        transformers.utils.logging.disable_progress_bar()
        source = str(path) if path else config.model
        if source.startswith("local/"):
            if asset_named(source).kind != "encoder":
                raise BackendError(f"{source!r} is an LM, not an encoder", todo="use local/minilm")
            source = str(fetch(source))
        try:
            model = SentenceTransformer(source, trust_remote_code=False, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError, KeyError) as error:
            raise BackendError(
                f"cannot load the encoder {source!r}: {str(error).splitlines()[0][:200]}",
                todo="give a sentence-transformers model on disk or on the hub, or local/minilm",
            ) from error
        return cls(model, config, config.model, embedders)

    def encode(self, texts: Sequence[str], role: Role, progress: Tick | None = None) -> np.ndarray:
        """Embeddings (n, dim) float32 with rows of length 1, from the cache where it has them."""
        store = self._store(role)
        missing = store.missing(texts)
        missing.sort(key=lambda place: -len(texts[place]))
        spread = (
            self._embedders is not None and len(missing) > _CHUNK
        )  # a smaller batch is done here before a worker has even loaded the model
        chunks = (
            [texts[place] for place in missing[start : start + _CHUNK]] for start in range(0, len(missing), _CHUNK)
        )
        done = 0
        for chunk, vectors in self._forwarded(chunks, role, spread):
            store.add(chunk, vectors)
            done += len(chunk)
            if progress:
                progress(done, len(missing))
        vectors = store.take(texts)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) if len(texts) else vectors

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where `precision` says so, else nothing."""
        import torch

        return torch.autocast(self.model.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _forwarded(
        self, chunks: Iterable[list[str]], role: Role, spread: bool
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Chunks with their embeddings, as they come."""
        if self._embedders is not None and spread:
            yield from self._embedders.embedded(chunks, role, self)
        else:
            for chunk in chunks:
                yield chunk, self.forward(chunk, role)

    def forward(self, texts: list[str], role: Role) -> np.ndarray:
        with self.autocast():
            return self.model.encode(
                texts, prompt=self.prompts[role] or None, batch_size=self.config.batch_size,
                normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False,
            ).astype(np.float32)  # fmt: skip

    def _store(self, role: Role) -> EmbeddingStore:
        if role not in self._stores:
            space = hashlib.sha256(f"{self.fingerprint}|{self.prompts[role]}".encode()).hexdigest()[:24]
            self._stores[role] = EmbeddingStore(cache_home() / "embeddings" / space)
        return self._stores[role]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.model}|{self.model.max_seq_length}|{self.precision}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(_bytes()).numpy().data)
        return digest.hexdigest()[:16]


def _bytes() -> Any:
    import torch

    return torch.uint8


def prompt_for(role: Role, config: EncoderConfig, prompts: Mapping[str, str | None] | None, name: str) -> str:
    """The text put before a query or a passage: config, model, family, in this order; "" for none."""
    given = config.query_prompt if role == "query" else config.passage_prompt
    if given is not None:
        return given
    own = prompts or {}
    for key in ("query",) if role == "query" else ("passage", "document", "corpus"):
        found = own.get(key)
        if found:
            return found
    base = name.rsplit("/", 1)[-1].lower()
    family = next((known for part, known in _FAMILY_PROMPTS if base.startswith(part) or f"-{part}" in base), {})
    return family.get(role, "")


def precision_for(wanted: str, device: str) -> str:
    """`auto` is bf16 where the hardware computes in it, fp32 elsewhere (emulated bf16 is slower)."""
    if wanted != "auto":
        return wanted
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device == "cpu" and has() else "fp32"
