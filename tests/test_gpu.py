"""What a GPU machine has to show: `pytest -m gpu`. Skipped without a CUDA device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_encoder import build

from syneg.core.config import CollectionConfig, EncoderConfig, ProbeConfig, TrainConfig
from syneg.core.records import Instance
from syneg.data.collection import load_collection
from syneg.optimizers.probe import Probe
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.training.job import Job
from syneg.training.trainer import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def load(path: str, device: str, precision: str = "fp32") -> Encoder:
    return Encoder.load(EncoderConfig(model=path, device=device, precision=precision))  # type: ignore[arg-type]


def test_embeddings_are_those_of_the_cpu(tmp_path: Path) -> None:
    path = build(tmp_path)
    texts = ["close the socket", "open the file again and again"]
    expected = load(path, "cpu").forward(texts, "passage")
    assert load(path, "cuda").forward(texts, "passage") == pytest.approx(expected, abs=1e-4)
    half = load(path, "cuda", "bf16").forward(texts, "passage")
    assert float((half * expected).sum(1).min()) > 0.99


def test_a_probe_and_a_training_run_on_the_device(tmp_path: Path, beir: Path) -> None:
    collection = load_collection(CollectionConfig(dataset=str(beir)))
    encoder = load(build(tmp_path), "cuda")
    pairs = collection.pairs("train")
    texts = list(collection.passages.values())
    rows = [Instance(pair, (texts[(7 * i) % 96],), ("dense",), (1.0,), (None,)) for i, pair in enumerate(pairs)]
    relevant = {pair.query_id: [pair.positive] for pair in pairs}
    dev = dev_set(encoder, collection, 40, 0)
    probe = Probe(encoder, dev, relevant, TrainConfig(), ProbeConfig(layers=1, steps=4))
    assert np.isfinite(list(probe.values(rows, seed=0)["likelihood"].values())).all()
    config = TrainConfig(epochs=1, batch_size=16, evals=1, frozen_layers="half")
    assert train(Job(encoder.config, [rows], relevant, dev, config, 0), tmp_path / "tuned", encoder=encoder).steps > 0
