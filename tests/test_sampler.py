"""`compile --target sampler`: what the races choose is written down, and the arms of the run take it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import FakeLM

from syneg.core.config import Config, EncoderConfig
from syneg.core.progress import Progress, Tick
from syneg.core.records import Pair
from syneg.core.settings import load_config
from syneg.core.storage import read_json
from syneg.data.collection import Collection
from syneg.optimizers.racing import Race, race
from syneg.optimizers.sampler import Sampler, SamplerTrials
from syneg.retrieval.encoder import Encoder
from syneg.run import sampler as compiled_sampler
from syneg.run import windows
from syneg.run.machine_time import MachineTime
from syneg.run.pipeline import Run
from syneg.run.windows import Choice


class Planted:
    """Trials in which one sampler of each race gains."""

    def __init__(self, winners: Sequence[str]) -> None:
        self.winners, self.raced = winners, list[dict[str, dict[str, object]]]()

    def race(self, samplers: Sequence[Sampler], progress: Tick | None = None) -> Race:
        self.raced.append({sampler.name: dict(sampler.settings) for sampler in samplers})

        def measure(name: str, block: int) -> dict[str, dict[str, float]]:
            draw = random.Random(f"{name}:{block}")
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
    }  # fmt: skip
    assert result["won"] and result["target"] == "sampler"
    assert [set(names) for names in planted.raced][1] >= {
        "as set", "none", "weight 0.3", "pairwise order", "weight 0.3, pairwise order", "weight 0.3, listwise order"
    }  # fmt: skip
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


def test_with_another_target_arms_stay_as_they_are(
    tmp_path: Path, settings: Callable[..., list[str]], fake_lm: Callable[..., FakeLM], planted: Planted
) -> None:
    run = Run(tmp_path / "run", load_config(None, settings(fake_lm().url)), Progress(quiet=True))
    assert [arm.config.mix.negatives for arm in run.experiment.arms] == [3, 3]
    assert not planted.raced
    run.workspace.close()


@pytest.mark.parametrize(
    ("arms", "probes", "steps", "rows"), [('["mined"]', 6, 9, 9 * 8), ('["mined", "hybrid"]', 22, 1, 2 * 29)]
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


@pytest.mark.parametrize(("count", "raced"), [(90, 90), (520, 512)])
def test_up_to_512_pairs_are_raced(count: int, raced: int, encoder_path: str) -> None:
    passages = {f"d{i}": f"close the socket {i} of the queue" for i in range(count + 8)}
    queries = {f"q{i}": f"close socket {i}" for i in range(count + 8)}
    ids = tuple(queries)
    collection = Collection(
        "c", passages, queries, {f"q{i}": {f"d{i}": 1.0} for i in range(count + 8)},
        {"train": ids[:count], "dev": ids[count:], "confirm": (), "test": ()},
    )  # fmt: skip
    config = Config(encoder=EncoderConfig(model=encoder_path))
    pairs = [Pair(f"q{i}", queries[f"q{i}"], f"d{i}", passages[f"d{i}"]) for i in range(count)]
    trials = SamplerTrials(Encoder.load(config.encoder), collection, pairs, config)
    blocks = [[pair.query_id for pair in block] for block in trials.blocks]
    assert len(blocks) == 2
    assert sorted(blocks[0] + blocks[1]) == sorted(ids[:raced])
