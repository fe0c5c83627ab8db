"""Embeddings and losses that are no numbers: they end a run in one line, and never become a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from syneg.core.config import CollectionConfig, EncoderConfig
from syneg.core.errors import BackendError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.data.collection import load_collection
from syneg.retrieval.encoder import Encoder
from syneg.run.pipeline import Run

Settings = Callable[..., list[str]]


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_training_that_diverges_is_no_result(epochs: int, tmp_path: Path, settings: Settings) -> None:
    more = {"train.arms": "in-batch", "train.epochs": epochs, "train.evals": 1}

    def run(rate: str) -> Run:
        chosen = settings("http://127.0.0.1:9/v1", **more, **{"train.learning_rate": rate})
        return Run(tmp_path / "run", load_config(None, chosen), Progress(quiet=True))

    said = r"the loss is no number by step \d+ of \d+ \(in-batch-0\); lower train.learning_rate, now 1e\+38$"
    for _ in range(2):  # the same command again
        with pytest.raises(BackendError, match=said):
            run("1e38").until("train")
        assert not list((tmp_path / "run" / "models").rglob("*.safetensors"))
    assert run("0.05").until("verdict")["arms"]["in-batch"]["test"]["recall@100"] == 1


def test_an_encoder_that_gives_no_numbers_is_refused(tmp_path: Path, encoder_path: str, beir: Path) -> None:
    model = SentenceTransformer(encoder_path, device="cpu")
    with torch.no_grad():
        model[0].embedding.weight[model.tokenizer.token_to_id("socket")] = float("nan")
    model.save(str(tmp_path / "broken"), create_model_card=False)
    encoder = Encoder.load(EncoderConfig(model=str(tmp_path / "broken"), precision="fp32", device="cpu"))
    texts = list(load_collection(CollectionConfig(dataset=str(beir))).passages.values())
    said = r"broken gives no numbers for 8 of 96 texts, such as 'to \w+ the socket it is .*'; "
    with pytest.raises(BackendError, match=said + "set encoder.precision=fp32, or take another encoder"):
        encoder.encode(texts, "passage")
    assert encoder.encode(texts[8:], "passage").shape == (88, 32)
