"""Training itself, on a small BERT with random weights: real modules, real trainer."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from started import Started, ranks
from transformers import TrainerState
from transformers.utils.logging import warning_once

from syneg.core.config import EncoderConfig, ProbeConfig, TrainConfig
from syneg.core.errors import BackendError, ConfigError
from syneg.core.records import Instance, Pair
from syneg.core.storage import read_json
from syneg.optimizers.probe import Probe, _likelihoods
from syneg.retrieval.cross_fitting import best_row, cross_fitted
from syneg.retrieval.dev_set import DevSet
from syneg.retrieval.encoder import Encoder
from syneg.run.cluster_trials import TrainedModel
from syneg.training import trainer
from syneg.training.__main__ import main
from syneg.training.course import loss_curve, shares_by_third
from syneg.training.ending import FLAG
from syneg.training.frozen import FrozenLayers, LayerCache, frozen_count
from syneg.training.job import Job, check_trainable, write_job
from syneg.training.merging import embed_by_length
from syneg.training.trainer import train
from syneg.training.weights import Mixture, interpolate, learning_rate, set_dropout

WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    BertModel(
        BertConfig(vocab_size=65, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    ).save_pretrained(path / "plain")
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path / "plain")
    model = SentenceTransformer(modules=[Transformer(str(path / "plain")), Pooling(16)], device="cpu")
    model.save(str(path / "model"), create_model_card=False)
    return str(path / "model")


def job(path: str, seed: int = 0, **settings: object) -> Job:
    pairs = [Pair(f"q{i}", f"{WORDS[i]} {WORDS[i + 20]}", f"d{i}", f"{WORDS[i]} {WORDS[i + 40]} {'w1 ' * (i % 5)}") for i in range(20)]  # fmt: skip
    rows = [Instance(p, (pairs[(i + 1) % 20].positive, ""), ("synthetic", "padding"), (0.5, 0.0), (None, None)) for i, p in enumerate(pairs)]  # fmt: skip
    dev = DevSet({p.query_id: p.query for p in pairs[:6]}, {p.doc_id: p.positive for p in pairs}, {p.query_id: {p.doc_id: 1} for p in pairs[:6]})  # fmt: skip
    values = {"batch_size": 5, "learning_rate": 1e-3, "epochs": 2, "evals": 2, "dropout": 0.0, **settings}
    config = EncoderConfig(model=path, max_tokens=32, precision="fp32")
    return Job(config, [rows], {p.query_id: [p.positive] for p in pairs}, dev, TrainConfig.model_validate(values), seed)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(SentenceTransformer(str(folder), device="cpu").state_dict())


def test_frozen_layers_give_the_same_embeddings_kept_or_not(bert: str) -> None:
    model = Encoder.load(EncoderConfig(model=bert, precision="fp32")).model
    features = [model.preprocess(["w1 w2 w3", "w4"]), model.preprocess(["w5 w6", "w7 w8 w9 w1"])]
    model.eval()
    plain = embed_by_length(model, features, lambda m, f: m(f)["sentence_embedding"])
    frozen = FrozenLayers(model, 2)
    for _ in range(2):  # the second time out of what was kept, in bfloat16
        found = embed_by_length(model, features, frozen.embed)
        assert torch.allclose(torch.cat(plain), torch.cat(found), atol=2e-2)
    assert len(frozen.states._kept) == 4
    torch.cat(found).sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained
    assert all("layer.2." in name for name in trained)
    assert "forward" not in vars(model[0].auto_model.embeddings)


def test_only_texts_that_are_not_kept_pass_the_frozen_layers(bert: str) -> None:
    model = Encoder.load(EncoderConfig(model=bert, precision="fp32")).model.eval()
    frozen, passed = FrozenLayers(model, 2), list[tuple[int, ...]]()
    lowest = model[0].auto_model.encoder.layer[0].attention
    lowest.register_forward_hook(lambda _, inputs, output: passed.append(output[0].shape))
    for texts in (["w1 w2 w3", "w4"], ["w4", "w5 w6"], ["w5 w6", "w1 w2 w3"]):
        frozen.embed(model, model.preprocess(texts))
    assert [shape[0] for shape in passed] == [2, 1]


def test_dev_is_scored_with_the_kept_output_of_frozen_layers(bert: str, tmp_path: Path) -> None:
    states, whole = LayerCache(), job(bert, frozen_layers=2)
    dev = replace(whole.dev, passages={**whole.dev.passages, "new": "w50 w51 w52"})
    train(replace(whole, dev=dev), tmp_path / "m", states=states)
    trained_on = {text for row in whole.rows for text in (row.pair.query, row.pair.positive, *row.negatives)}
    assert len(states._kept) == len(trained_on | {*dev.passages.values(), *dev.queries.values()})


def test_training_keeps_its_precision_after_dev_is_scored(
    bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    plain = torch.nn.Linear.forward

    def noted(layer: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
        out = plain(layer, states)
        if layer.training:
            seen.append(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.Linear, "forward", noted)
    of_half = job(bert, frozen_layers=1, evals=4)
    train(replace(of_half, encoder=of_half.encoder.model_copy(update={"precision": "bf16"})), tmp_path / "m")
    assert seen and {*seen} == {torch.bfloat16}


def test_kept_output_of_a_text_behind_padding_is_used_at_its_place_only(bert: str, tmp_path: Path) -> None:
    model = Encoder.load(EncoderConfig(model=bert, precision="fp32")).model
    model.tokenizer.padding_side = "left"
    model.eval()
    frozen = FrozenLayers(model, 2)
    for texts in (["w1 w2 w3", "w4"], ["w5 w6 w7 w8 w9 w1 w2"], ["w4", "w5 w6 w7 w8 w9 w1 w2"]):
        features = model.preprocess(texts)
        plain = model({**features})["sentence_embedding"]
        assert torch.allclose(plain, frozen.embed(model, features), atol=2e-2)


def test_too_many_frozen_layers_are_refused(bert: str, encoder_path: str) -> None:
    with pytest.raises(ConfigError, match="has 3 layers"):
        FrozenLayers(Encoder.load(EncoderConfig(model=bert)).model, 3)
    words = Encoder.load(EncoderConfig(model=encoder_path)).model
    with pytest.raises(ConfigError, match="no layers that can be frozen"):
        check_trainable(words, TrainConfig(frozen_layers=1))
    with pytest.raises(ConfigError, match="word vectors need none; set train.cached_chunk=0"):
        check_trainable(words, TrainConfig(cached_chunk=4))
    assert frozen_count(words, "half") == 0  # --fast trains all of it
    assert [frozen_count(Encoder.load(EncoderConfig(model=bert)).model, n) for n in (0, 2, -1, "half")] == [0, 2, 2, 1]


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "qwen2"])
def test_encoders_of_other_makes_have_layers_that_can_be_frozen(kind: str, bert: str, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    sizes = {"distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64}}
    common = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
              "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=65, **sizes.get(kind, common))).save_pretrained(
        tmp_path
    )
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokenizer.padding_side = "left" if kind == "qwen2" else "right"
    tokenizer.save_pretrained(tmp_path)
    model = SentenceTransformer(modules=[Transformer(str(tmp_path)), Pooling(16)], device="cpu").eval()
    features = dict(tokenizer(["w1 w2 w3", "w4", "w5 w6 w7 w8"], padding=True, return_tensors="pt"))
    features.pop("token_type_ids")
    plain = model(dict(features))["sentence_embedding"]
    frozen = FrozenLayers(model, "half")
    for _ in range(2):
        assert torch.allclose(plain, frozen.embed(model, dict(features)), atol=3e-2)
    assert len(frozen.states._kept) == 3
    assert {len(state) for state in frozen.states._kept.values()} == {3, 5, 6}  # tokens of the texts, no padding


def test_training_with_frozen_layers_changes_the_others_only(bert: str, tmp_path: Path) -> None:
    done = train(job(bert, frozen_layers=2), tmp_path / "m")
    before, after = weights(Path(bert)), weights(tmp_path / "m")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layer.2." in name for name in changed)
    assert done.steps == 8
    assert [step for step, _ in done.losses] == list(range(1, 9))
    assert not (tmp_path / "m" / "checkpoints").exists()


def test_a_seed_fixes_the_weights(bert: str, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(job(bert, seed, dropout=0.1, curriculum=True, regulariser=0.2, distil=0.5, guide=0.99), tmp_path / name)
        found.append(torch.cat([w.flatten().float() for w in weights(tmp_path / name).values()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_broken_checkpoint_is_no_obstacle(bert: str, tmp_path: Path) -> None:
    for name, text in (("checkpoint-4", None), ("checkpoint-6", '{"best_metric": 0.3')):  # a full disk cuts a file
        (tmp_path / "m" / "checkpoints" / name).mkdir(parents=True)
        if text:
            (tmp_path / "m" / "checkpoints" / name / "trainer_state.json").write_text(text)
    assert train(job(bert), tmp_path / "m").resumed is False


def fewer(whole: Job, count: int) -> Job:
    return replace(whole, epochs=[rows[:count] for rows in whole.epochs])


def test_two_processes_train_one_model(bert: str, tmp_path: Path) -> None:
    """Two processes with batches of 10 see the candidates of 20, as one process with batches of 20 does.

    One launch trains four jobs, none of which says how many processes there are: 19 rows give the processes a last batch
    of 10 (a row stands twice), 15 rows an odd number of batches.
    """
    once = {"epochs": 1, "evals": 1, "warmup": 0}
    alone = train(job(bert, batch_size=20, **once), tmp_path / "alone")
    jobs = {
        "plain": job(bert, batch_size=10, **once),
        "cached": job(bert, batch_size=10, cached_chunk=2, **once),
        "nineteen": fewer(job(bert, batch_size=5, epochs=3), 19),
        "fifteen": fewer(job(bert, batch_size=5, epochs=3), 15),
    }
    for name, whole in jobs.items():
        write_job(whole, tmp_path / name)
    folders = [str(tmp_path / name) for name in jobs]
    processes = [Started(folders, tmp_path, rank=rank) for rank in ranks(2)]
    for process in processes:
        assert process.wait(200) == 0, process.stderr[-3000:]
    found = {name: read_json(tmp_path / name / "training.json") for name in jobs}
    assert {name: data["steps"] for name, data in found.items()} == {
        "plain": 1,
        "cached": 1,
        "nineteen": 6,
        "fifteen": 6,
    }
    assert all(data["processes"] == 2 and data["synthetic_share"] == 1 for data in found.values())
    assert not (tmp_path / "plain" / "job.json").exists()  # no texts lie beside a model that may be given away
    base, one = weights(Path(bert)), weights(tmp_path / "alone")
    moving = [n for n in base if base[n].is_floating_point() and not torch.equal(base[n], one[n])]
    moved = torch.cat([(one[n] - base[n]).flatten() for n in moving])
    for name in ("plain", "cached"):
        two = weights(tmp_path / name)
        apart = torch.cat([(one[n] - two[n]).flatten() for n in moving])
        # Adam's first step is the sign of the gradient: equal but where a gradient is next to nothing
        assert (apart.abs() > 0.1 * moved.abs().max()).float().mean() < 0.1
        assert found[name]["dev"][0][1] == pytest.approx(alone.dev[0][1], abs=0.1)


def test_processes_are_started_for_a_job_that_asks_for_them(
    bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def run(
        command: list[str], *, stdin: int, env: dict[str, str], **settings: object
    ) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        assert env[FLAG] == "1" and not select.select([stdin], [], [], 0)[0]  # open, so that the processes stay
        main([Path(command[-1])])  # what each process does, here in this one
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    done = train(job(bert, epochs=1, processes=2), tmp_path / "m")
    assert started[0][1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "syneg.training", str(tmp_path / "m")]  # fmt: skip
    assert (done.steps, done.processes) == (4, 1)  # as many epochs by however many processes there are
    assert not (tmp_path / "m" / "processes.log").exists()
    with pytest.raises(BackendError, match="no job"):
        main([tmp_path / "nowhere"])


@pytest.mark.parametrize("flag", ["1", ""])
def test_processes_end_with_the_command_that_started_them(flag: str) -> None:
    child = (
        "from syneg.training.ending import *; import time; end_with_input(); print('on', flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys; from syneg.training.ending import *\n"
        "with held_open() as ends: subprocess.run([sys.executable, '-P', '-c', sys.argv[1]], stdin=ends)"
    )
    command = [sys.executable, "-P", "-c", parent, child]
    with subprocess.Popen(
        command, env={**os.environ, FLAG: flag}, stdout=subprocess.PIPE, start_new_session=True
    ) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == b"on\n"
            run.kill()
            ended = bool(select.select([run.stdout], [], [], 20 if flag else 1)[0])  # closed: no process holds it
            assert ended == bool(flag)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def test_dropout_is_taken_off_attention(bert: str) -> None:
    model = SentenceTransformer(bert, device="cpu")
    set_dropout(model, 0.2)
    found = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {p for name, p in found.items() if "self" in name} == {0.0}
    assert {p for name, p in found.items() if "self" not in name} == {0.2}


def test_the_loss_curve_has_few_points_and_knows_what_was_resumed() -> None:
    assert loss_curve([4.0, 2.0, 1.0, 0.0], last=9, points=2) == [(7, 3.0), (9, 0.5)]
    assert loss_curve([1.0], last=1) == [(1, 1.0)]
    assert loss_curve([], last=3) == []
    assert len(loss_curve([0.5] * 1000, last=1000)) == 40


def test_shares_by_third() -> None:
    steps = [{"dense": 1.0}, {"dense": 0.5, "synthetic": 0.5}, {"synthetic": 1.0}]
    assert shares_by_third(steps) == [{"dense": 1.0, "synthetic": 0.0}, {"dense": 0.5, "synthetic": 0.5}, {"dense": 0.0, "synthetic": 1.0}]  # fmt: skip
    assert shares_by_third([]) == []


def test_the_learning_rate_goes_by_size(bert: str) -> None:
    class Sized(torch.nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(size, device="meta"))

    auto = TrainConfig()
    assert learning_rate(auto, Sized(22_700_000)) == pytest.approx(5e-5)
    assert learning_rate(auto, Sized(335_000_000)) == pytest.approx(1.3e-5, rel=0.01)
    assert learning_rate(TrainConfig(frozen_layers="half"), Sized(22_700_000)) == pytest.approx(1e-4)
    assert learning_rate(TrainConfig(learning_rate=3e-5), Sized(10)) == 3e-5


def probe(path: str, **settings: object) -> tuple[Probe, Job]:
    whole = job(path, temperature=0.05)
    values = {"layers": 1, "steps": 6, "learning_rate": 5e-3, **settings}
    found = Probe(
        Encoder.load(whole.encoder), whole.dev, whole.relevant, whole.config, ProbeConfig.model_validate(values)
    )
    return found, whole


def test_the_probe_moves_the_last_layer_only_and_the_same_way_each_time(bert: str) -> None:
    one, whole = probe(bert)
    start = one.weights()
    assert all("layer.2." in name or "pooler" in name for name in start)
    first = one.values(whole.rows, seed=0)
    moved = one.weights()
    assert any(not torch.equal(start[name], moved[name]) for name in start)
    again = one.values(whole.rows, seed=0)
    assert first == again == probe(bert)[0].values(whole.rows, seed=0)
    assert set(first["ndcg@10"]) == set(whole.dev.queries)


def test_kept_output_gives_what_the_whole_encoder_gives(bert: str) -> None:
    whole = job(bert)
    texts = list(whole.dev.passages.values())
    plain, attached = Encoder.load(whole.encoder), Encoder.load(whole.encoder)
    wanted = plain.encode(texts, "passage")
    FrozenLayers(attached.model, 1).attach(attached.model)
    for _ in range(2):  # the second time from what is kept
        found = np.asarray(attached.model.encode(texts, normalize_embeddings=True))
        assert np.abs(found - wanted).max() < 0.01


def test_the_likelihood_does_not_reward_sharp_scores() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, (40, 30))
    relevant = [[i % 30] for i in range(40)]
    for row, places in zip(scores, relevant, strict=True):
        row[places] += 0.2
    plain = np.mean(_likelihoods(scores, relevant))
    assert np.mean(_likelihoods(scores / 2, relevant)) == pytest.approx(plain, abs=0.02)
    for row, places in zip(scores, relevant, strict=True):
        row[places] += 0.1
    assert np.mean(_likelihoods(scores, relevant)) > plain + 0.3


def test_weights_are_mixed_as_is_best_on_dev_and_known_scores_are_not_asked_again(encoder_path: str) -> None:
    base, tuned = (SentenceTransformer(encoder_path, device="cpu") for _ in range(2))
    with torch.no_grad():
        for weights in tuned.parameters():
            weights += 1.0
    start = next(base.parameters()).detach().clone()
    asked: list[float] = []

    class Dev:
        best = dict.fromkeys("abcdef", 0.25)

        def values(self, model: SentenceTransformer) -> dict[str, float]:
            asked.append(round(float((next(model.parameters()).detach() - start).mean()), 3))
            return dict.fromkeys("abcdef", 1 - abs(asked[-1] - 0.6))

    found = interpolate(tuned, base, Dev(), (1.0, 0.5), 0.25)  # type: ignore[arg-type]
    assert found == Mixture(((0.5, pytest.approx(0.9)), (1.0, 0.25)), 0.0)
    assert asked == [0.5]
    assert torch.allclose(next(tuned.parameters()).detach(), start + 0.5, atol=1e-5)


def test_what_a_choice_of_weights_by_chance_adds_to_dev_is_measured(encoder_path: str) -> None:
    base, tuned = (SentenceTransformer(encoder_path, device="cpu") for _ in range(2))
    by_alpha = np.random.default_rng(0).normal(0.5, 0.2, (3, 40))
    by_alpha += 0.5 - by_alpha.mean(axis=1, keepdims=True)  # no alpha is better than another

    class Dev:
        best: dict[str, float] = {}  # noqa: RUF012
        rows = iter(by_alpha)

        def values(self, model: SentenceTransformer) -> dict[str, float]:
            return {f"q{place:02d}": float(value) for place, value in enumerate(next(self.rows))}

    found = interpolate(tuned, base, Dev(), (0.5, 0.75, 1.0), 0.4)  # type: ignore[arg-type]
    top = max(score for _, score in found.scores)
    crossed = cross_fitted(by_alpha)
    assert crossed is not None and 0.01 < found.optimism == pytest.approx(top - crossed.mean())
    assert cross_fitted(by_alpha[:, :4]) is None


def test_cross_fitting_by_hand() -> None:
    # the second row is best by one query alone: without it, the first row is chosen for that query
    table = np.array([[0.5, 0.5, 0.5, 0.5, 0.5], [0.4, 0.4, 0.4, 0.4, 1.0]])
    assert best_row(table) == 1
    assert cross_fitted(table) == pytest.approx([0.4, 0.4, 0.4, 0.4, 0.5])


def test_training_json_is_on_disk_before_the_checkpoints_go(
    bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(path: Path, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("syneg.training.trainer.write_json", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(job(bert), tmp_path / "m")
    assert list((tmp_path / "m" / "checkpoints").glob("checkpoint-*/trainer_state.json"))  # a later start goes on there
    assert not list((tmp_path / "m" / "checkpoints").glob("checkpoint-*/README.md"))


def test_a_model_of_another_node_is_whole_only_with_its_last_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: written.append(path.name))
    monkeypatch.setattr("syneg.run.cluster_trials.sync", lambda folder: written.append("synced"))
    monkeypatch.setattr("syneg.run.cluster_trials.write_text", lambda path, text: written.append(path.name))
    files = dict.fromkeys(("training.json", "model.safetensors", "config.json", "vocab.txt"), b"")
    TrainedModel(files, {}, "").write(tmp_path / "m")
    assert sorted(written) == sorted([*files, "synced"]) and written[-2:] == ["synced", "training.json"]


def test_checkpoints_within_a_second_are_no_reason_to_warn(bert: str, tmp_path: Path) -> None:
    said: list[str] = []
    handler, library = logging.Handler(), logging.getLogger("transformers")
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    warning_once.cache_clear()
    library.addHandler(handler)
    try:
        done = train(job(bert, evals=4), tmp_path / "m")
    finally:
        library.removeHandler(handler)
    assert len(done.dev) == 4 and not said


def test_freed_memory_goes_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    shown: list[tuple[int, int]] = []
    state = TrainerState(max_steps=20)
    monkeypatch.setattr(trainer, "_give_memory_back", lambda: given.append(state.global_step))
    report = trainer._Report(lambda done, total: shown.append((done, total)))
    for step in range(1, 21):
        state.global_step = step
        report.on_step_end(None, state, None)
    assert given == [8, 16]
    assert shown == [(step, 20) for step in range(1, 21)]
