from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syneg.core.config import Config
from syneg.core.errors import ConfigError
from syneg.core.settings import load_config, to_toml


def test_unknown_keys_are_answered_with_the_nearest_and_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[train]\nepoch = 2\n[mixx]\nratio = 1\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "did you mean 'train.epochs'" in str(error.value)
    assert "mixx" in str(error.value)


def test_a_key_in_the_wrong_section_is_found() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'train\.temperature'|did you mean 'lm\.temperature'"):
        load_config(None, ["mine.temperature=1"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=0", "train.epochs = 0"),
        ("mix.ratio=abc", "mix.ratio = 'abc'"),
        ("mine.margin", "has no '='"),
        ("collection.test=0.9", "leave something to train on"),
        ("mine.first_rank=99", "is after"),
    ],
)
def test_wrong_values_are_named(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        load_config(None, [override])


def test_flags_win_over_set_and_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("seed = 1\n[mix]\nratio = 0.1\nnegatives = 4\n")
    config = load_config(path, ["mix.ratio=0.2"], {"mix.ratio": 0.3, "seed": None})
    assert (config.seed, config.mix.ratio, config.mix.negatives) == (1, 0.3, 4)


@given(st.text(max_size=30), st.floats(0, 10), st.lists(st.text(max_size=10), max_size=3))
def test_the_resolved_config_reads_back_the_same(task: str, ratio: float, domains: list[str]) -> None:
    import tempfile

    config = Config.model_validate(
        {"collection": {"task": task}, "mix": {"ratio": ratio}, "generate": {"domains": domains}}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.toml"
        path.write_text(to_toml(config), encoding="utf-8", newline="")
        assert load_config(path) == config
