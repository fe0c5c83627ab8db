"""`mine.margin = auto`: chosen by a race on held-out queries, and the 95 % rule where no race can tell."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import pytest

from syneg.core.config import MineConfig
from syneg.core.presets import preset
from syneg.core.progress import Progress, Tick
from syneg.core.records import MinedNegative
from syneg.core.settings import load_config
from syneg.core.storage import read_json, read_rows
from syneg.negatives.mining import Mined, Rankings
from syneg.optimizers.racing import Race, race
from syneg.optimizers.sampler import Sampler, SamplerTrials
from syneg.run import window_rates, windows
from syneg.run.folder import RunFolder
from syneg.run.near_misses import held_out
from syneg.run.pipeline import Run
from syneg.run.window_rates import OwnRates, Rate
from syneg.run.windows import WINDOWS, Choice, choose
from syneg.verdict.raced import window as section
from syneg.verdict.statistics import share_interval

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


def chosen_by(gain: Callable[[MineConfig], float], **counts: tuple[int, int]) -> tuple[Choice, Planted]:
    """The choice where a reader grades (answers, passages) of what one rival alone mines, each of another query."""
    planted = Planted(gain)
    rates = {NAMES[name]: rate(*of) for name, of in counts.items()}

    def measure(configs: Mapping[str, MineConfig]) -> dict[str, Rate]:
        return rates if NAMES["none"] in configs and NAMES["rule"] in configs else {}

    return choose(cast("SamplerTrials", planted), MineConfig(), measure if counts else None), planted


NAMES = {"rule": "95 % rule", "tighter": "90 % rule", "none": "no margin", "deep": "no margin, from rank 11"}


def rate(answers: int, graded: int) -> Rate:
    return Rate(answers, graded, share_interval([(1, 1)] * answers + [(0, 1)] * (graded - answers)))


def test_no_margin_is_chosen_where_it_gains() -> None:
    choice, planted = chosen_by(lambda config: 0.05 if config.margin == 1e9 and config.first_rank == 1 else 0.0)
    assert (choice.window, choice.sources) == ("no margin", ())
    assert "no margin is better in 100.0% of the draws" in choice.why
    assert planted.raced[1] == ["no margin", "dense alone", "bm25 alone"]
    assert choice.of(MineConfig()).margin == pytest.approx(1e9)


def test_a_rival_with_many_answers_of_its_own_does_not_race() -> None:
    def gain(config: MineConfig) -> float:
        return 0.05 * (config.margin == 1e9 and config.first_rank == 1)

    choice, planted = chosen_by(gain, rule=(0, 30), none=(40, 180))
    assert choice.window == "95 % rule"
    assert planted.raced[0] == ["95 % rule", "90 % rule", "no margin, from rank 11"]
    assert f"no margin: {rate(40, 180)}" in " ".join(choice.lines())
    assert "no margin does not take part" in " ".join(choice.lines())
    # the same share of few passages, or of another rival, has no say about no margin
    for counts in ({"none": (2, 9)}, {"deep": (40, 180)}, {"none": (9, 180)}):
        choice, planted = chosen_by(gain, **counts)
        assert choice.window == "no margin" and "no margin" in planted.raced[0][1:]
    assert chosen_by(gain, deep=(40, 180), none=(0, 180))[1].raced[0] == ["no margin", "95 % rule", "90 % rule"]


def test_what_the_reader_found_stands_beside_each_rival() -> None:
    choice, _ = chosen_by(lambda config: 0.001 if config.margin != 0.95 else 0.0, rule=(1, 40), none=(3, 60), deep=(40, 180))  # fmt: skip
    assert f"draws), {rate(3, 60)}" in choice.measured[0]
    assert str(Rate(0, 0, None)) == "none of its own passages is graded"
    assert str(rate(3, 60)).startswith("3 of 60 own passages answer, 5.0% [0.0%, 13.9%]")
    assert "95 % rule: 1 of 40 own passages answer" in choice.measured[1]
    (windows_, sources) = choice.races
    by_name = {rival.name: rival for rival in windows_}
    assert next(iter(by_name)) == "95 % rule" and list(by_name)[-1] == "no margin, from rank 11"
    assert by_name["no margin"].answers.startswith("3 of 60") and by_name["no margin"].gain is not None
    assert by_name["no margin, from rank 11"].gain is None
    page = "".join(section({**asdict(choice), "races": [[asdict(r) for r in windows_], [asdict(r) for r in sources]]}))
    assert "3 of 60 own passages answer, 5.0%" in page and "did not race" in page
    assert "<td>95 % rule</td>" in page, "a name is no number"


def test_a_source_alone_with_many_answers_of_its_own_does_not_race() -> None:
    planted = Planted(lambda config: 0.05 * (config.sources == ("dense",)))
    measure = lambda configs: {"dense alone": rate(40, 180)} if "dense alone" in configs else {}  # noqa: E731
    choice = choose(cast("SamplerTrials", planted), MineConfig(), measure)
    assert planted.raced[1] == ["95 % rule", "bm25 alone"] and choice.sources == ()


@pytest.mark.parametrize(("counts", "window"), [({}, "95 % rule"), ({"none": (40, 180)}, "95 % rule"), ({"none": (1, 180)}, "no margin")])  # fmt: skip
def test_where_the_race_is_not_sure_what_the_reader_found_decides(
    counts: dict[str, tuple[int, int]], window: str
) -> None:
    choice, planted = chosen_by(lambda config: 0.001 if config.margin != 0.95 else 0.0, **counts)
    assert choice.window == planted.raced[0][0] == window
    over = "over the 95 % rule" if window == "95 % rule" else "over no margin"
    assert over in " ".join(choice.measured)


def test_a_rule_that_is_surely_better_is_chosen_though_the_reader_finds_few_answers() -> None:
    choice, _ = chosen_by(lambda config: 0.05 * (config.margin == 0.95), none=(1, 180))
    assert choice.window == "95 % rule"
    assert choice.of(MineConfig()).margin == pytest.approx(0.95)


def test_own_passages_are_those_that_no_other_rival_takes() -> None:
    class Takes:
        def take(self, config: MineConfig) -> Mined:
            ids = {"q1": "abc", "q2": "ab"} if config.margin == 1e9 else {"q1": "bcd", "q2": "bde"}
            return Mined({q: [MinedNegative(d, d, "dense", 1, 0.5) for d in own] for q, own in ids.items()})

    grades = {"q1": {"a": 3, "b": 3, "d": 1}, "q2": {"a": 1, "b": 3, "d": 3}}  # nobody read e, and b is no one's own
    rates = OwnRates(cast("Rankings", Takes()), grades).of({"all": MineConfig(margin=1e9), "rule": MineConfig()})
    assert [(rate.answers, rate.graded) for rate in rates.values()] == [(1, 2), (1, 2)]
    low, high = rates["all"].interval or (0.0, 0.0)
    assert (low, high) == (0.0, 1.0)
    assert not rates["all"].are_few and not rates["all"].are_many


def test_an_interval_of_a_share_is_wide_where_few_were_counted() -> None:
    assert share_interval([(0, 5)]) is None
    none = share_interval([(0, 1)] * 60)
    assert none is not None and none[1] == pytest.approx(1 - 0.025 ** (1 / 60), abs=1e-6)  # exact, of 0 in 60
    clustered = share_interval([(9, 9)] * 2 + [(0, 9)] * 18)
    apart = share_interval([(1, 1)] * 18 + [(0, 1)] * 162)
    assert clustered is not None and apart is not None
    assert clustered[1] - clustered[0] > 1.5 * (apart[1] - apart[0])  # queries count, not passages


def test_too_few_pairs_go_by_what_the_reader_found(
    tmp_path: Path, settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings("http://127.0.0.1:9", **{"mine.margin": "auto", "train.pairs": 40, "generate.pairs": 10})
    monkeypatch.setattr(window_rates, "MOST_ANSWERS", 0.35)
    for grade, margin in ((1, 1e9), (3, 0.95)):
        run = Run(tmp_path / str(grade), load_config(None, overrides), Progress(quiet=True))
        graded = {q: dict.fromkeys(run.workspace.collection.passages, grade) for q in run.workspace.collection.queries}
        run.workspace.unjudged = lambda grades=graded: grades  # type: ignore[misc]
        run.until("mine")
        assert run.workspace.mining.margin == pytest.approx(margin)
        said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
        kept = read_json(run.folder.window)
        (rivals,) = kept["races"]
        found = {rival["name"]: rival["answers"] for rival in rivals}["no margin"]
        answers, graded_ = re.match(r"(\d+) of (\d+) own", found).groups()  # type: ignore[union-attr]
        assert int(graded_) > 9 and int(answers) == (int(graded_) if grade == 3 else 0)
        assert f"no margin: {found}" in said
        assert ("no margin does not take part" in said) == (grade == 3)


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
    more = {"mine.margin": "auto", "train.pairs": 10, "generate.pairs": 10, "train.arms": '["mined"]', "train.evals": 1}
    overrides = settings("http://127.0.0.1:9", **more)
    run = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True))
    run.until("mine")
    assert run.workspace.mining.margin == pytest.approx(0.95)
    said = " ".join(row.get("text", "") for row in read_rows(run.folder.events))
    assert "mined by 95 % rule: 10 train pairs" in said and "too few to choose" in said
    run.until("verdict")
    page = run.folder.report.read_text(encoding="utf-8")
    assert "How the margin of mining was chosen" in page and "Mined by 95 % rule: 10 train pairs" in page


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
