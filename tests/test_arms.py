from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from click.shell_completion import ShellComplete

from syneg.cli.completion import BASES, PROGRAM_NAMES
from syneg.cli.main import cli
from syneg.core.config import MixConfig
from syneg.core.errors import ConfigError
from syneg.core.presets import PAPER_DATASETS, PAPER_ENCODERS, SOURCES
from syneg.core.settings import known_keys, load_config
from syneg.core.toml import to_toml
from syneg.data.tasks import task_for
from syneg.programs import PROGRAMS
from syneg.run.arms import ABLATIONS, EQUAL, arm, arms, named, split_arms
from syneg.training.sampling import ARMS


def test_an_arm_has_settings_of_its_own() -> None:
    config = load_config(None, ["train.learning_rate=1e-5"])
    found = arm("hybrid@ratio=0.7@temperature=0.02@program=my.module:Mine@curriculum=true", config)
    assert (found.kind, found.config.mix.ratio, found.config.train.temperature) == ("hybrid", 0.7, 0.02)
    assert (found.config.generate.program, found.config.train.curriculum) == ("my.module:Mine", True)
    assert found.config.train.learning_rate == 1e-5
    assert config.mix.ratio == 0.5
    assert arm("bm25@seeds=3", config).config.train.seeds == (0, 1, 2)
    assert arm("bm25@seeds=[4, 7]", config).config.train.seeds == (4, 7)
    assert found.file_name(3).startswith("hybrid@ratio=0.7@temperature=0.02@program=my.module-Mine@curriculum=true~")
    assert arm("hybrid@ratio=0.7", config).file_name(3) == "hybrid@ratio=0.7-3"
    assert found.wants_synthetic
    assert not arm("hybrid@ratio=0", config).wants_synthetic
    assert not arm("mined@ratio=0.7", config).wants_synthetic


def test_what_a_reader_adds() -> None:
    config = load_config()
    assert (arm("graded", config).config.train.order, arm("verified", config).config.train.order) == (
        "graded",
        "softmax",
    )
    assert arm("graded@order=listwise", config).config.train.order == "listwise"
    assert [arm(name, config).reads for name in ("mined", "verified", "graded")] == [False, True, True]
    elsewhere, own = ["lm.model=openai/gpt-4o-mini"], ["mined", "hybrid"]
    assert [one.name for one in arms(config)] == own  # no embedded LM is asked by default
    assert [one.name for one in arms(load_config(None, elsewhere))] == [*own, "verified"]
    assert [one.name for one in arms(load_config(None, ["reader.use=on"]))] == [*own, "verified"]
    assert [one.name for one in arms(load_config(None, [*elsewhere, "reader.use=off"]))] == own
    assert [one.name for one in arms(load_config(None, [*elsewhere, 'train.arms=["mined"]']))] == ["mined"]


def test_no_two_arms_share_a_folder() -> None:
    config = load_config()
    names = ("mined@learning_rate=1e-3", "mined@learning_rate=1e+3", "hybrid@program=a:B", "hybrid@program=a-B")
    assert len({arm(name, config).file_name(0) for name in names}) == 4


def test_arms_are_split_at_commas_outside_brackets() -> None:
    found = split_arms("mined,hybrid@alphas=[0.5, 1.0]@seeds=[4,7] , bm25,")
    assert found == ("mined", "hybrid@alphas=[0.5, 1.0]@seeds=[4,7]", "bm25")
    assert arm(found[1], load_config()).config.train.alphas == (0.5, 1.0)


def test_a_saved_program_of_an_arm_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "my.json").touch()
    monkeypatch.chdir(tmp_path / "a")
    texts = ["hybrid@program=my.json@ratio=1", "hybrid@program=../b/a/my.json@ratio=1", "hybrid@program=reflective"]
    config = load_config(None, [f"train.arms={json.dumps(texts)}"])
    (tmp_path / "config.toml").write_text(to_toml(config))
    monkeypatch.chdir(tmp_path)
    again = load_config(tmp_path / "config.toml")
    first, second, third = arms(again)
    assert again.train.arms[0] == f"hybrid@program={tmp_path / 'a' / 'my.json'}@ratio=1"
    assert first.config.generate.program == str(tmp_path / "a" / "my.json")
    assert Path(second.config.generate.program).samefile(tmp_path / "b" / "a" / "my.json")
    assert first.name == "hybrid@program=a/my.json@ratio=1"
    assert (third.name, third.config.generate.program) == ("hybrid@program=reflective", "reflective")
    assert len({planned.name for planned in (first, second, third)}) == 3
    assert [named(planned.name, again) for planned in (first, second, third)] == [first, second, third]
    monkeypatch.chdir(tmp_path / "b")
    for planned in (first, second, third):  # as under the settings of a compiled sampler
        other = planned.over(load_config(None, ["mix.negatives=5"]))
        assert (other.name, other.config.generate.program) == (planned.name, planned.config.generate.program)
        assert (other.config.mix.negatives, other.config.mix.ratio) == (5, planned.config.mix.ratio)


@pytest.mark.parametrize(("typed", "offered"), [
    ("--program=neigh", ["neighbour_topic", "neighbour_rewrite"]),
    ("--arms=hy", ["hybrid"]), ("--arms=mined,syn", ["mined,synthetic"]),
    ("--arms=mined,hybrid@ra", ["mined,hybrid@ratio="]), ("--arms=hybrid@alphas=[0.5,1.0]@see", ["hybrid@alphas=[0.5,1.0]@seeds="]),
    ("--arms=hybrid@base=ver", ["hybrid@base=verified"]),
    ("--arms=hybrid@program=refl", ["hybrid@program=reflective"]), ("--arms=hybrid@ratio=", []),
])  # fmt: skip
def test_the_shell_completes_programs_and_arms(typed: str, offered: list[str]) -> None:
    flag, _, value = typed.partition("=")
    found = ShellComplete(cli, {}, "syneg-dspy", "_X").get_completions(["run", flag], value)
    assert [item.value for item in found] == offered


def test_a_program_that_no_name_fits_is_a_file() -> None:
    (found,) = ShellComplete(cli, {}, "syneg-dspy", "_X").get_completions(["run", "--program"], "runs/x")
    assert found.type == "file"
    assert tuple(PROGRAMS) == PROGRAM_NAMES


def test_a_seed_cannot_count_twice() -> None:
    with pytest.raises(ConfigError, match="a seed occurs twice"):
        load_config(None, ["train.seeds=[0, 1, 0]"])


def test_fast_gives_way_to_what_is_set(tmp_path: Path) -> None:
    fast = load_config(None, ["train.evals=5"], {"train.dev_passages": 3000}, fast=True)
    assert (fast.train.frozen_layers, fast.train.evals, fast.train.dev_passages) == ("half", 5, 3000)
    assert load_config(None, [], {}, preset="thorough", fast=True).train.evals == 1  # it was asked for by name, too


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hybird", "unknown arm 'hybird'; did you mean 'hybrid'"),
        ("hybrid@ratoi=1", "unknown setting 'ratoi'; did you mean 'ratio'"),
        ("hybrid@ratio", "unknown setting 'ratio'"),
        ("hybrid@ratio=-1", r"1 wrong setting in arm 'hybrid@ratio=-1'"),
        ("hybrid@pairs=9", "unknown setting 'pairs'"),
    ],
)
def test_a_wrong_arm_is_told(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        arms(load_config(None, [], {"train.arms": (text,)}))


def test_all_wrong_arms_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="2 wrong arms"):
        arms(load_config(None, [], {"train.arms": ("mined", "a", "b")}))


def test_arms_that_stand_twice_are_one() -> None:
    assert [a.name for a in arms(load_config(None, [], {"train.arms": ("mined", "mined")}))] == ["mined"]


def test_hybrid_has_written_negatives_beside_those_of_its_base() -> None:
    config = load_config()
    found = [arm(f"hybrid{base}", config) for base in ("", "@base=verified", "@base=grounded")]
    assert [(one.reads, one.grounds) for one in found] == [(False, False), (True, False), (False, True)]
    assert all(one.wants_synthetic for one in found) and not arm("hybrid@base=grounded@ratio=0", config).grounds
    whole = load_config(None, ["mix.base=verified"])
    assert [arm(name, whole).reads for name in ("hybrid", "mined", "dataset-mix")] == [True, False, False]
    assert set(BASES) == {*get_args(MixConfig.model_fields["base"].annotation)} <= set(ARMS)
    for wrong in ("mined@base=verified", "hybrid@base=verified@margin=0.9", "hybrid@base=graded"):
        with pytest.raises(ConfigError, match="base"):
            arm(wrong, config)


def test_ablations_hold_every_use_of_a_reader() -> None:
    planned = {name: [arm(text, load_config()) for text in ABLATIONS[name]] for name in ("calls", "loss")}
    without, *equal = planned["calls"]
    assert without.name == "mined" and {one.calls for one in equal} == {EQUAL}
    assert {one.kind for one in equal} == {"verified", "graded", "grounded", "hybrid"} and equal[-1].reads
    assert {one.teacher for one in planned["loss"]} == {"", "base", "reader"}


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_every_ablation_can_be_planned(name: str) -> None:
    found = arms(load_config(None, [], {"train.arms": tuple(ABLATIONS[name])}))
    assert len({a.file_name(0) for a in found}) == len(found) == len(ABLATIONS[name])
    assert {a.config.generate.program for a in found} <= {*PROGRAMS, "auto"}


@pytest.mark.parametrize("dataset", list(PAPER_DATASETS))
@pytest.mark.parametrize("encoder", list(PAPER_ENCODERS.values()))
def test_the_papers_sets_and_backbones_can_be_planned_without_data(dataset: str, encoder: str) -> None:
    flags = {"collection.dataset": dataset, "encoder.model": encoder}
    config = load_config(None, [], flags, preset="syneg-paper")
    assert (config.train.temperature, config.mix.ratio, config.mix.negatives) == (0.02, 0.5, 3)
    assert (config.encoder.model, config.collection.dataset) == (encoder, dataset)
    assert [a.kind for a in arms(config)] == ["mined", "synthetic", "dataset-mix", "hybrid"]
    assert len(task_for(config).domains) >= 6
    assert set(SOURCES) <= set(known_keys())
    assert all(source.startswith(("paper", "ours")) for source in SOURCES.values())


def test_presets_give_way_to_files_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[train]\nepochs = 3.0\n")
    config = load_config(file, ["train.frozen_layers=1"], {"generate.pairs": 7}, preset="quick")
    assert (config.train.epochs, config.train.frozen_layers, config.generate.pairs) == (3.0, 1, 7)
    assert config.train.dev_passages == 500
    with pytest.raises(ConfigError, match="unknown preset 'quik'; did you mean 'quick'"):
        load_config(None, [], {}, preset="quik")
    with pytest.raises(ConfigError, match="does not fit .python-docs."):
        load_config(None, [], {}, preset="syneg-paper")
