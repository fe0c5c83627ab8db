"""`mine.margin = auto`: chosen by a race on held-out queries, and the 95 % rule where no race can tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from syneg.core.config import MineConfig
from syneg.core.presets import preset
from syneg.core.progress import Progress, Tick
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.optimizers.racing import Race, race
from syneg.optimizers.sampler import Sampler, SamplerTrials
from syneg.run import windows
from syneg.run.folder import RunFolder
from syneg.run.near_misses import held_out
from syneg.run.pipeline import Run
from syneg.run.windows import WINDOWS, Choice, choose

QUERIES = [f"q{i}" for i in range(200)]


class Planted:
    """Trials in which a margin and a source gain so much."""

    def __init__(self, gain: Callable[[MineConfig], float]) -> None:
        self.gain, self.raced = gain, list[list[str]]()

    def race(self, samplers: Sequence[Sampler], progress: Tick | None = None) -> Race:
        by_name = {sampler.name: sampler for sampler in samplers}
        self.raced.append(list(by_name))

        def measure(name: str, block: int) -> dict[str, dict[str, float]]:
            config = MineConfig().model_copy(update={k[5:]: v for k, v in by_name[name].settings.items()})
            draw = random.Random(f"{name}:{block}")
            return {"ndcg@10": {q: self.gain(config) + draw.gauss(0, 0.1) for q in QUERIES}}

        return race(list(by_name), 2, measure)


def chosen_by(gain: Callable[[MineConfig], float], answers: float | None = None) -> tuple[Choice, Planted]:
    planted = Planted(gain)
    return choose(cast("SamplerTrials", planted), MineConfig(), answers), planted


def test_no_margin_is_chosen_where_it_gains() -> None:
    choice, planted = chosen_by(lambda config: 0.05 if config.margin == 1e9 and config.first_rank == 1 else 0.0)
    assert (choice.window, choice.sources) == ("no margin", ())
    assert "no margin is better in 100.0% of the draws" in choice.why
    assert planted.raced[1] == ["no margin", "dense alone", "bm25 alone"]
    assert choice.of(MineConfig()).margin == pytest.approx(1e9)


@pytest.mark.parametrize(("answers", "window"), [(0.013, "no margin"), (0.05, "no margin"), (0.18, "95 % rule")])
def test_no_margin_is_not_raced_where_a_reader_finds_many_answers(answers: float, window: str) -> None:
    choice, planted = chosen_by(lambda config: 0.05 * (config.margin == 1e9 and config.first_rank == 1), answers)
    assert choice.window == window
    assert ("no margin" in planted.raced[0]) == (window == "no margin")
    assert "no margin, from rank 11" in planted.raced[0]
    assert f"the reader finds {answers:.1%} answers among the nearest unjudged passages" in " ".join(choice.lines())


@pytest.mark.parametrize(("answers", "window"), [(None, "95 % rule"), (0.18, "95 % rule"), (0.013, "no margin")])
def test_where_the_race_is_not_sure_what_the_reader_found_decides(answers: float | None, window: str) -> None:
    choice, planted = chosen_by(lambda config: 0.001 if config.margin != 0.95 else 0.0, answers)
    assert choice.window == planted.raced[0][0] == window
    over = "over the 95 % rule" if window == "95 % rule" else "over no margin"
    assert over in " ".join(choice.measured)


def test_a_rule_that_is_surely_better_is_chosen_though_the_reader_finds_few_answers() -> None:
    choice, _ = chosen_by(lambda config: 0.05 * (config.margin == 0.95), 0.013)
    assert choice.window == "95 % rule"
    assert choice.of(MineConfig()).margin == pytest.approx(0.95)


def test_too_few_pairs_go_by_what_the_reader_found(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto", "train.pairs": 10, "generate.pairs": 10})
    for answers, margin in ((0.01, 1e9), (0.2, 0.95)):
        run = Run(tmp_path / str(answers), load_config(None, overrides), Progress(quiet=True))
        run.workspace.answers = lambda share=answers: share  # type: ignore[misc]
        run.until("mine")
        assert run.workspace.mining.margin == pytest.approx(margin)
        said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
        assert f"the reader finds {answers:.1%} answers" in said


def test_a_source_that_gains_alone_is_chosen_with_the_window() -> None:
    choice, _ = chosen_by(lambda config: 0.05 * (config.margin == 0.9) + 0.05 * (config.sources == ("dense",)))
    assert (choice.window, choice.sources) == ("90 % rule", ("dense",))
    assert "90 % rule from dense alone" in choice.lines()[0]
    assert choice.of(MineConfig()).sources == ("dense",)


def test_the_race_decides_what_is_mined_and_says_so(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LEAST_PAIRS", 4)
    monkeypatch.setattr(windows, "LEAST_QUERIES", 4)
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto", "probe.steps": 2, "mine.per_query": 20})

    def mined(*more: str) -> tuple[Run, list[dict[str, object]]]:
        run = Run(tmp_path / "run", load_config(None, [*overrides, *more]), Progress(quiet=True))
        run.until("mine")
        return run, list(read_rows(run.folder.mined))

    run, _ = mined()
    kept = read_json(run.folder.window)
    assert kept["window"] in {window.name for window in WINDOWS}
    said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
    assert f"mined by {kept['window']}" in said and "over the 95 % rule" in said
    monkeypatch.setattr(windows, "choose", lambda *_: Choice("no margin, from rank 11", (), "planted"))
    run, rows = mined("seed=1")
    assert min(int(str(row["rank"])) for row in rows) == 11
    assert run.workspace.mining.margin == pytest.approx(1e9)
    near = run.workspace.mine_for(held_out(run.workspace.collection, run.config.seed)[:3]).negatives
    assert min(negative.rank for negatives in near.values() for negative in negatives) == 11


def test_too_few_pairs_keep_the_rule_and_train_nothing(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "choose", lambda *_: pytest.fail("no race"))
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto", "train.pairs": 10, "generate.pairs": 10})
    run = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True))
    run.until("mine")
    assert run.workspace.mining.margin == pytest.approx(0.95)
    said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
    assert "mined by 95 % rule: 10 train pairs" in said and "too few to choose" in said


def test_other_splits_are_mined_with_the_window_of_the_run(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LEAST_PAIRS", 4)
    monkeypatch.setattr(windows, "LEAST_QUERIES", 4)
    monkeypatch.setattr(windows, "trials_of", lambda *_: None)
    monkeypatch.setattr(windows, "choose", lambda *_: Choice("no margin", (), "planted"))
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto"})
    workspace = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).workspace
    other = workspace.with_splits_of(workspace.collection, RunFolder(tmp_path / "fold"), {})
    monkeypatch.setattr(windows, "choose", lambda *_: pytest.fail("a second race"))
    assert other.mining == workspace.mining and other.mining.margin == pytest.approx(1e9)


def test_a_race_is_the_default_and_short_presets_do_without() -> None:
    assert load_config(None, []).mine.margin == "auto"
    for name in ("demo", "quick"):
        assert preset(name, "")["mine.margin"] == pytest.approx(0.95)
