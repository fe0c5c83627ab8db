from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from syneg.cli.doctor import examine
from syneg.cli.main import cli
from syneg.core.config import EncoderConfig
from syneg.retrieval.embedding_cache import LOCK, cache_folder, describe, prune, spaces
from syneg.retrieval.embeddings import EmbeddingStore, MissingEmbeddings
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.prompts import Role


def rows(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), ord(text[0]), 1] for text in texts], np.float32)


def test_what_is_embedded_in_a_second_is_one_shard_and_each_text_is_hashed_once(
    encoder_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, sha256 = list[int](), hashlib.sha256
    monkeypatch.setattr("syneg.retrieval.embeddings.hashlib.sha256", lambda data: [hashed.append(0), sha256(data)][1])
    config = EncoderConfig(model=encoder_path, precision="fp32")
    encoder, texts = Encoder.load(config), [f"close the file {i}" for i in range(1300)]
    for seconds, shards in ((60.0, 1), (0.0, 4)):  # one more, of 1,300 texts; then each chunk of 512
        monkeypatch.setattr("syneg.retrieval.embeddings._TOGETHER_S", seconds)
        del hashed[:]
        wanted = [f"{text} {shards}" for text in texts]
        encoder.encode(wanted, "passage")
        assert len(hashed) < 1310
        assert len(list(encoder._store("passage").folder.glob("*.keys"))) == shards
        assert Encoder.load(config)._store("passage").missing(wanted) == []


def test_few_rows_of_a_shard_are_those_of_all(tmp_path: Path) -> None:
    texts = [f"{i} text" for i in range(40)]
    EmbeddingStore(tmp_path).add(texts, rows(texts))
    store = EmbeddingStore(tmp_path)
    assert store.missing(texts) == []
    for wanted in (texts, texts[::-1], [texts[7], texts[3], texts[7]], [texts[5]] * 40):
        assert store.take(wanted).tolist() == rows(wanted).tolist()
    (shard,) = tmp_path.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:-9])  # cut while it is known
    with pytest.raises(MissingEmbeddings):
        store.take(texts)
    assert store.missing(texts) == [*range(40)]


@pytest.mark.parametrize("many", [1, 20, 1000])
def test_what_is_stored_is_found_again_whatever_the_order(
    many: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syneg.retrieval.embeddings._RECENT", 5)  # so that keys are sorted into the arrays
    monkeypatch.setattr("syneg.retrieval.embeddings._MANY", many)
    store = EmbeddingStore(tmp_path / "space")
    texts = [f"{i} text" for i in range(40)]
    for start in range(0, 40, 7):
        store.add(texts[start : start + 7], rows(texts[start : start + 7]))
    mixed = [texts[i] for i in np.random.default_rng(0).permutation(40)]
    for found in (store, EmbeddingStore(tmp_path / "space")):
        assert found.missing(["new", *mixed, "new", "other"]) == [0, 42]
        assert found.take(mixed) == pytest.approx(rows(mixed))
    with pytest.raises(MissingEmbeddings):
        store.take(["new"])


def _fill(folder: Path, first: int) -> None:
    texts = [f"{(first + i) % 400} text" for i in range(400)]
    store = EmbeddingStore(folder)
    for start in range(0, 400, 8):
        part = texts[start : start + 8]
        if lacking := [part[i] for i in store.missing(part)]:
            store.add(lacking, rows(lacking))
        assert np.allclose(store.take(part), rows(part))
    assert np.allclose(store.take(texts), rows(texts))


def test_processes_share_the_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path / "space", 200 * (i % 2))) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert not list(tmp_path.glob("*/.*.tmp"))


def test_the_encoder_skips_what_another_process_embeds_meanwhile(
    encoder_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(model=encoder_path, precision="fp32")
    texts = [f"close the file {i}" for i in range(1500)]
    other, encoder, chunks = Encoder.load(config), Encoder.load(config), list[int]()

    def forward(chunk: list[str], role: Role) -> np.ndarray:
        other.encode(texts, role)  # at the first chunk, all of them
        chunks.append(len(chunk))
        return other.forward(chunk, role)

    monkeypatch.setattr(encoder, "forward", forward)
    assert encoder.encode(texts, "passage") == pytest.approx(other.encode(texts, "passage"))
    assert chunks == [512]


def test_a_store_finds_what_another_one_has_written_since(tmp_path: Path) -> None:
    first, second = EmbeddingStore(tmp_path / "space"), EmbeddingStore(tmp_path / "space")
    assert first.missing(["a", "b"]) == second.missing(["a", "b"]) == [0, 1]
    first.add(["a"], rows(["a"]))
    assert second.missing(["a", "b"]) == [1]
    assert second.take(["a"]) == pytest.approx(rows(["a"]))


def test_the_cache_is_pruned_but_for_what_is_in_use() -> None:
    stores = {}
    for name, trained in (("held", False), ("old", False), ("tuned", True), ("new", False)):
        stores[name] = EmbeddingStore(cache_folder() / name)
        stores[name].add(["a", "b"], np.zeros((2, 100)))
        describe(stores[name].folder, f"model-{name}", "passage", trained=trained)
        if name != "held":
            stores[name].close()
    for age, name in enumerate(("new", "tuned", "old", "held")):
        os.utime(cache_folder() / name / LOCK, (1e9 - age, 1e9 - age))
    assert [space.model for space in spaces()] == ["model-tuned", "model-held", "model-old", "model-new"]
    size = sum(space.size for space in spaces())
    assert prune(size) == []
    assert [space.model for space in prune(size - 1)] == ["model-tuned"]
    assert [space.model for space in prune(0)] == ["model-old", "model-new"]
    assert stores["held"].missing(["a", "b"]) == []


def test_a_folder_that_vanishes_is_made_again(encoder_path: str) -> None:
    import shutil

    encoder = Encoder.load(EncoderConfig(model=encoder_path, precision="fp32"))
    first = encoder.encode(["close a socket"], "passage")
    shutil.rmtree(cache_folder())
    assert encoder.encode(["close a socket"], "passage") == pytest.approx(first)


def test_new_embeddings_prune_old_ones(encoder_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syneg.retrieval.encoder._PRUNE_AFTER", 0)
    old = EmbeddingStore(cache_folder() / "old")
    old.add(["a"], np.zeros((1, 4000)))
    old.close()
    config = EncoderConfig(model=encoder_path, precision="fp32", cache_gb=5e-6)
    Encoder.load(config).encode(["close a socket"], "passage")
    assert not old.folder.exists()


def test_embeddings_of_a_trained_model_are_not_kept(encoder_path: str) -> None:
    config = EncoderConfig(model=encoder_path, precision="fp32", passage_prompt="file ")
    trained, base = Encoder.load(config, Path(encoder_path)), Encoder.load(EncoderConfig(model=encoder_path))
    for encoder in (base, trained):
        encoder.encode(["close a socket"], "passage")
    assert [space.trained for space in spaces()] == [True, False]  # and it would go first
    base.forget()
    trained.forget()
    assert [space.trained for space in spaces()] == [False]


def test_a_space_whose_making_was_broken_off_has_its_name(encoder_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syneg.retrieval.encoder._CHUNK", 1)
    config = EncoderConfig(model=encoder_path, precision="fp32")

    def broken(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Encoder.load(config).encode(["close a socket", "open a file"], "passage", broken)
    (space,) = spaces()
    assert (space.model, space.role) == (encoder_path, "passage")
    kept = Encoder.load(config)._store("passage")
    assert len(kept.missing(["close a socket", "open a file"])) == 1  # what was embedded is kept
    (space.folder / "about.json").unlink()  # as earlier versions left it
    assert "a model of unknown name\n" in CliRunner().invoke(cli, ["cache"]).output
    encoder = Encoder.load(config)
    encoder.encode(["close a socket"], "passage")
    assert [space.model for space in spaces()] == [encoder_path]


def test_many_keys_are_found_quickly(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "space")
    texts = [f"text {i}" for i in range(60_000)]
    for start in range(0, 60_000, 20_000):
        part = texts[start : start + 20_000]
        store.add(part, np.zeros((len(part), 2)))
    start_s = time.process_time()
    assert store.missing(texts) == []
    assert time.process_time() - start_s < 3


def test_the_command_shows_and_prunes() -> None:
    store = EmbeddingStore(cache_folder() / "space")
    store.add(["a"], np.zeros((1, 4000)))
    describe(store.folder, "some/encoder", "query", trained=False)
    store.close()
    assert "some/encoder (query)" in CliRunner().invoke(cli, ["cache"]).output
    found = CliRunner().invoke(cli, ["cache", "--max-gb", "0"])
    assert (found.exit_code, "removed" in found.output, spaces()) == (0, True, [])
    assert next(finding for finding in examine() if finding.name == "embeddings").text.startswith("0.00 GB of 0")
