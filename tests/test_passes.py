"""Forward passes are sized by tokens, and run ahead where a GPU computes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_encoder import build

import syneg.retrieval.encoder as encoders
from syneg.core.config import EncoderConfig
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.passes import ahead, texts_a_pass


def tokenised(length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.ones(1, length, dtype=torch.long)}


@pytest.mark.parametrize("length, texts", [(256, 64), (128, 128), (32, 512), (300, 64), (1, 64 * 256)])
def test_a_pass_of_shorter_texts_has_as_many_tokens(length: int, texts: int) -> None:
    assert texts_a_pass(tokenised(length), 256, 64) == texts


def test_a_model_without_a_limit_or_without_token_ids_keeps_the_number_of_texts() -> None:
    assert texts_a_pass(tokenised(8), None, 64) == 64
    assert texts_a_pass({"sentence": ["a"]}, 256, 64) == 64


def test_two_items_are_worked_on_side_by_side_and_come_in_order() -> None:
    both = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        both.wait()
        return item * item

    assert list(ahead(work, range(4), threads=2)) == [0, 1, 4, 9]


def test_items_are_taken_only_a_little_ahead() -> None:
    taken: list[int] = []

    def items() -> object:
        for item in range(100):
            taken.append(item)
            yield item

    results = ahead(str, items(), threads=2)  # type: ignore[arg-type]
    assert next(results) == "0"
    assert len(taken) == 3


def test_an_error_ends_the_rest() -> None:
    def work(item: int) -> int:
        if item == 1:
            raise OSError("gone")
        return item

    with pytest.raises(OSError, match="gone"):
        list(ahead(work, range(50), threads=2))


def test_embeddings_made_ahead_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(EncoderConfig(model=build(tmp_path), device="cpu"))
    texts = [f"open file {i} and close socket {i}" for i in range(40)]
    expected = encoder.forward(texts, "passage")
    monkeypatch.setattr(encoders, "threads_for", lambda device: 2)
    monkeypatch.setattr(encoders, "_CHUNK", 8)
    assert encoder.encode(texts, "passage") == pytest.approx(expected, abs=1e-3)


def test_a_gpu_takes_as_many_tokens_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(EncoderConfig(model=build(tmp_path), device="cpu", batch_size=2))
    sizes: list[int] = []

    class Card:
        """The model as if it were on a GPU: it notes the size of a pass."""

        device = SimpleNamespace(type="cuda")
        max_seq_length = 32

        def __getitem__(self, place: int) -> None:
            """No table of word vectors."""

        def encode_document(self, texts: list[str], **options: object) -> np.ndarray:
            sizes.append(options["batch_size"])  # type: ignore[arg-type]
            return np.zeros((len(texts), 4), np.float32)

    monkeypatch.setattr(encoder, "features", lambda texts, role, model: tokenised(8))
    monkeypatch.setattr(encoders, "length_limit", lambda model: 32)
    encoder.forward(["a", "bb"], "passage", Card())  # type: ignore[arg-type]
    assert sizes == [8]
