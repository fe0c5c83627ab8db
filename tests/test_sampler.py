"""`compile --target sampler`: what the races choose is written down, and the arms of the run take it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM, write_negative
from test_reading import READS, reads_well
from test_reading import sparse as sparse  # a fixture

from syneg.core.config import Config, EncoderConfig, MineConfig, TrainConfig
from syneg.core.progress import Progress, Tick
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_json
from syneg.data.collection import Collection
from syneg.optimizers.racing import Race, race
from syneg.optimizers.sampler import Material, Sampler, SamplerTrials
from syneg.retrieval.encoder import Encoder
from syneg.run import sampler as compiled_sampler
from syneg.run import windows
from syneg.run.arms import Arm
from syneg.run.machine_time import MachineTime
from syneg.run.pipeline import Run
from syneg.run.windows import Choice


class Planted:
    """Trials in which one sampler of each race gains, and the others are equal."""

    def __init__(self, winners: Sequence[str]) -> None:
        self.winners, self.raced = winners, list[dict[str, dict[str, object]]]()

    def race(self, samplers: Sequence[Sampler], progress: Tick | None = None) -> Race:
        self.raced.append({sampler.name: dict(sampler.settings) for sampler in samplers})

        def measure(name: str, block: int) -> dict[str, dict[str, float]]:
            draw = random.Random(block)
            gain = 0.05 * (name in self.winners)
            values = {f"q{i}": gain + draw.gauss(0, 0.05) for i in range(200)}
            return {"ndcg@10": values, "likelihood": values}

        return race([sampler.name for sampler in samplers], 2, measure)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """No margin, a single place and no written negatives win."""
    trials = Planted(["1 places", "none"])
    monkeypatch.setattr(windows, "LEAST_PAIRS", 4)
    monkeypatch.setattr(windows, "LEAST_QUERIES", 4)
    monkeypatch.setattr(windows, "choose", lambda *_: Choice("no margin", ("dense",), "planted"))
    monkeypatch.setattr(windows, "trials_of", lambda *_: trials)
    monkeypatch.setattr(compiled_sampler, "trials_of", lambda *_: trials)
    return trials


@pytest.fixture
def read_and_written(
    sparse: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM]
) -> Callable[..., list[str]]:
    """Settings of a run with these arms over `sparse`; its LM reads and writes well."""

    def both(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return reads_well(messages) if "passages" in messages[0]["content"] else write_negative(messages)

    server = fake_lm(both)

    def build(arms: Sequence[str]) -> list[str]:
        few = {"generate.pairs": 8, "train.pairs": 12, "reader.sample": 8, "boundary.queries": 0, "mine.margin": 10}
        return settings(server.url, **{**READS, **few, "train.arms": json.dumps(arms)})

    return build


def run_with(tmp_path: Path, overrides: Sequence[str], *more: str) -> Run:
    return Run(tmp_path / "run", load_config(None, [*overrides, "compile.target=sampler", *more]), Progress(quiet=True))


def test_each_race_starts_from_what_was_chosen_before(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], planted: Planted
) -> None:
    overrides = settings(fake_lm().url)
    run = run_with(tmp_path, overrides)
    result = run.until("compile")
    assert result["state"] == {
        "mine.margin": 1e9, "mine.first_rank": 1, "mine.sources": ["dense"], "mix.negatives": 1, "mix.ratio": 0.0,
        "arm": "mined",
    }  # fmt: skip
    assert result["won"] and result["target"] == "sampler"
    assert [set(names) for names in planted.raced][1] >= {
        "as set", "none", "weight 0.3", "pairwise order", "weight 0.3, pairwise order", "weight 0.3, listwise order",
        "fair share",
    }  # fmt: skip
    assert planted.raced[1]["fair share"]["train.regulariser"] == pytest.approx(0.1)
    assert all(sampler["mix.negatives"] == 1 for sampler in planted.raced[1].values())
    page = run.folder.prompts("sampler-").read_text(encoding="utf-8")
    assert "| `mix.ratio` | `0.0` |" in page and "places of a row: 1 places" in page
    assert "| `mine.sources` | `dense` |" in page and "| `mine.margin` | `none` |" in page
    assert ">dense<" in run.folder.compiled_page("sampler-").read_text(encoding="utf-8")
    assert read_json(run.folder.program("sampler-"))["settings"] == result["state"]
    raced = len(planted.raced)
    run_with(tmp_path, overrides).until("compile")
    assert len(planted.raced) == raced  # found made


def test_the_arms_of_the_run_take_the_sampler(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], planted: Planted
) -> None:
    overrides = settings(fake_lm().url, **{"train.arms": '["mined", "hybrid", "hybrid@ratio=0.5@negatives=2"]'})
    run = run_with(tmp_path, overrides)
    by_name = {arm.name: arm for arm in run.experiment.arms}
    assert by_name["mined"].config.mix.negatives == 1
    assert by_name["hybrid@ratio=0.5@negatives=2"].config.mix.negatives == 2
    assert "hybrid" not in by_name and run.experiment.left_out == ["hybrid"]
    assert run.workspace.mining.margin == pytest.approx(1e9)
    assert run.workspace.mining.sources == ("dense",)
    run.workspace.close()
    alone = run_with(tmp_path, settings(fake_lm().url, **{"train.arms": '["hybrid"]'}))
    assert [arm.name for arm in alone.experiment.arms] == ["mined"]  # what won is trained
    alone.workspace.close()


def test_with_another_target_arms_stay_as_they_are(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], planted: Planted
) -> None:
    run = Run(tmp_path / "run", load_config(None, settings(fake_lm().url)), Progress(quiet=True))
    assert [arm.config.mix.negatives for arm in run.experiment.arms] == [3, 3]
    assert not planted.raced
    run.workspace.close()


@pytest.mark.parametrize(
    ("arms", "probes", "steps", "rows"), [('["mined"]', 6, 9, 9 * 8), ('["mined", "hybrid"]', 24, 1, 2 * 29)]
)
def test_the_races_of_the_sampler_are_timed_before_they_run(
    arms: str, probes: int, steps: int, rows: int, tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM],
    planted: Planted, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(MachineTime, "_each", 0.01)  # seconds to embed a passage
    more = ("probe.passages=100", "probe.queries=40", "probe.epochs=2", f"probe.steps={steps}")
    run = run_with(tmp_path, settings(fake_lm().url, **{"train.arms": arms}), *more)

    def minutes() -> dict[str, float]:
        return {part["name"]: part["minutes"]["likely"] for part in run.estimate("compile")["parts"]}

    # a row has 5 texts, a batch 8 rows, a block 29 pairs
    # 140 texts are embedded; a probe takes half a pass over them, and half of three passes over the rows
    each = 140 / 2 + 3 * 5 * rows / 2
    assert minutes()["choose the margin"] == pytest.approx(0.01 * (140 + 9 * each) / 60)
    assert minutes()["race the sampler"] == pytest.approx(0.01 * (140 + probes * each) / 60)
    run.until("compile")
    assert not minutes().keys() & {"choose the margin", "race the sampler"}
    run.workspace.close()


@pytest.mark.parametrize(("written", "winners", "chosen", "trained"), [
    (False, ["graded order"], "graded", {"mined": (), "verified": ("read",), "graded": ("read", "graded")}),
    (True, [], "hybrid", {"mined": (), "verified": ("read",), "hybrid": ("written",)}),
    (True, ["neither"], "mined", {"mined": (), "verified": ("read",)}),
    (True, ["none", "written and read"], "hybrid",
     {"mined": (), "verified": ("read",), "hybrid": ("read", "written")}),
    (True, ["read, none written"], "verified", {"mined": (), "verified": ("read",)}),
    (True, ["listwise order", "graded order, written"], "graded",
     {"mined": (), "verified": ("read", "listwise"), "hybrid": ("written", "listwise"),
      "graded": ("read", "written", "graded")}),
])  # fmt: skip
def test_what_was_read_and_written_enters_as_the_races_found(
    written: bool, winners: list[str], chosen: str, trained: dict[str, tuple[str, ...]],
    tmp_path: Path, read_and_written: Callable[..., list[str]], planted: Planted,
) -> None:  # fmt: skip
    planted.winners = winners
    arms = ["mined", "verified", *(["hybrid"] if written else [])]
    run = run_with(tmp_path, read_and_written(arms))
    parts = {part["name"]: part["calls"]["likely"] for part in run.estimate("compile")["parts"]}
    assert parts["read"] == 12 and parts["measure reader"] == 8
    assert sum(map(bool, (name.startswith("write ") for name in parts))) == written
    arms_of_the_run = run.experiment.arms
    run.workspace.close()
    state = read_json(run.folder.compiled("sampler-"))["state"]
    assert state["arm"] == chosen
    assert f"| `arm` | `{chosen}` |" in run.folder.prompts("sampler-").read_text(encoding="utf-8")

    def enters(arm: Arm) -> tuple[str, ...]:
        order = arm.config.train.order
        return (
            *["read"] * arm.reads,
            *["written"] * arm.wants_synthetic,
            *[order] * (order != "softmax" and arm.kind != "mined"),
        )

    assert {arm.name: enters(arm) for arm in arms_of_the_run} == trained
    again = run_with(tmp_path, read_and_written(arms))
    models = next(part["name"] for part in again.estimate("train")["parts"] if part["name"].startswith("train"))
    assert models == f"train {len(trained)} models"
    if "graded" in trained:
        planned = next(arm for arm in again.experiment.arms if arm.name == "graded")
        rows = [row for epoch in again.experiment.job(planned, 0).epochs for row in epoch]
        sources = {source for row in rows for source in row.sources}
        assert "related" in sources and ("synthetic" in sources) == written
    again.workspace.close()
    races = [names for names in planted.raced if "neither" in names or "not read" in names]
    assert [len(names) for names in races] == [6 if written else 3]


def test_real_races_end_in_a_verdict_on_the_arm_that_won(
    tmp_path: Path, read_and_written: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LEAST_PAIRS", 4)
    monkeypatch.setattr(windows, "LEAST_QUERIES", 4)
    few = (
        "probe.steps=2",
        "probe.epochs=1",
        "probe.passages=60",
        "probe.queries=20",
        "train.epochs=1",
        "train.evals=1",
    )
    run = run_with(tmp_path, read_and_written(["mined", "verified", "grounded", "hybrid"]), *few)
    verdict = run.until("verdict")
    compiled = read_json(run.folder.compiled("sampler-"))
    races: dict[str, list[str]] = {}
    for row in compiled["candidates"]:
        ((about, name),) = row["instructions"].items()
        races.setdefault(about, []).append(name.partition(":")[0])
        assert row["pairs"] in (1, 2)  # blocks
    counts = {race: len(names) for race, names in races.items()}
    assert (counts["places of a row"], counts["written negatives"]) == (3, 10)
    assert counts["grades of the reader"] == 6 + ("as chosen" in races["grades of the reader"])
    assert compiled["state"]["arm"] in verdict["arms"]
    assert f"the arm that the races chose: {compiled['state']['arm']}" in compiled["notes"]
    assert "neither" in run.folder.report.read_text(encoding="utf-8")


def trials_over(count: int, encoder_path: str, material: Material | None = None) -> tuple[SamplerTrials, Sequence[str]]:
    """Real trials over `count` train pairs, and the ids of all queries."""
    passages = {f"d{i}": f"close the socket {i} of the queue" for i in range(count + 8)}
    queries = {f"q{i}": f"close socket {i}" for i in range(count + 8)}
    ids = tuple(queries)
    collection = Collection(
        "c", passages, queries, {f"q{i}": {f"d{i}": 1.0} for i in range(count + 8)},
        {"train": ids[:count], "dev": ids[count:], "confirm": (), "test": ()},
    )  # fmt: skip
    config = Config(encoder=EncoderConfig(model=encoder_path), mine=MineConfig(margin=10))
    pairs = [Pair(f"q{i}", queries[f"q{i}"], f"d{i}", passages[f"d{i}"]) for i in range(count)]
    return SamplerTrials(Encoder.load(config.encoder), collection, pairs, config, material), ids


@pytest.mark.parametrize(("count", "raced"), [(90, 90), (520, 512)])
def test_up_to_512_pairs_are_raced(count: int, raced: int, encoder_path: str) -> None:
    trials, ids = trials_over(count, encoder_path)
    blocks = [[pair.query_id for pair in block] for block in trials.blocks]
    assert len(blocks) == 2
    assert sorted(blocks[0] + blocks[1]) == sorted(ids[:raced])


@pytest.mark.parametrize(("arm", "settings", "order", "sources"), [
    ("hybrid", {}, "softmax", {"synthetic", "mined"}),
    ("hybrid", {"mix.base": "verified"}, "softmax", {"synthetic", "related"}),
    ("hybrid", {"mix.base": "grounded"}, "softmax", {"synthetic", "grounded", "mined"}),
    ("grounded", {}, "softmax", {"grounded", "mined"}),
    ("verified", {"train.order": "listwise"}, "listwise", {"related"}),
    ("graded", {"train.order": "listwise", "mix.ratio": 0.0}, "graded", {"related"}),
])  # fmt: skip
def test_a_probe_of_a_race_has_the_rows_of_the_arm(
    arm: str, settings: dict[str, object], order: str, sources: set[str], encoder_path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ids = [f"q{i}" for i in range(12)]
    near = {q: [MinedNegative(f"{q} {n}", f"{q} related {n}", "related", n, 0.5) for n in range(4)] for q in ids}
    grounded = {q: [MinedNegative(f"{q} g", f"{q} grounded", "grounded", 1, 0.5)] for q in ids}
    texts, masked = {q: [HardNegative(f"{q} written", "p")] for q in ids}, {q: [f"{q} in part"] for q in ids}
    trials, _ = trials_over(12, encoder_path, Material(texts, near, {q: {"x": "new"} for q in ids}, masked, grounded))
    trained: list[tuple[Sequence[Instance], dict[str, Sequence[str]], TrainConfig]] = []

    def loss(model: object, rows: Any, relevant: Any, config: TrainConfig, embed: object) -> None:
        trained.append((rows, relevant, config))
        raise InterruptedError

    monkeypatch.setattr("syneg.optimizers.probe.HybridInfoNCE", loss)
    with pytest.raises(InterruptedError):
        trials.values(Sampler("raced", settings, arm), 0)
    ((rows, relevant, config),) = trained
    assert config.order == order
    assert [*relevant["q0"]] == ["close the socket 0 of the queue", *["q0 in part"] * ("related" in sources)]
    assert {"mined" if s in ("dense", "bm25") else s for row in rows for s in row.sources} == sources
    assert any(row.pair.positive == "new" for row in rows) == ("related" in sources)
