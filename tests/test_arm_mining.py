"""Arms with mining settings of their own, such as `mined@margin=0.9`: one verdict compares several ways to mine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from syneg.core.config import Config
from syneg.core.errors import ConfigError
from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.run.arms import arm
from syneg.run.pipeline import Run
from syneg.run.trial import FromLM, Trials

NOWHERE = "http://127.0.0.1:9/v1"
Settings = Callable[..., list[str]]


@pytest.fixture
def trials(tmp_path: Path, settings: Settings) -> Callable[..., tuple[Trials, Config]]:
    """Make the trials of a run in tmp_path/run with more settings, and give its settings."""

    def build(**more: object) -> tuple[Trials, Config]:
        config = load_config(None, settings(NOWHERE, **more))
        return Trials(Run(tmp_path / "run", config, Progress(quiet=True)).workspace), config

    return build


def rows(of: Trials, text: str, config: Config) -> dict[str, list[tuple[str, ...]]]:
    """The negatives of each row of an arm, by query_id."""
    planned = arm(text, config)
    found: dict[str, list[tuple[str, ...]]] = {}
    for epoch in of.job(planned.kind, planned.config, FromLM(), 0).epochs:
        for row in epoch:
            found.setdefault(row.pair.query_id, []).append(tuple(row.negatives))
    return found


def ranks(path: Path) -> dict[tuple[str, str], int]:
    return {(row["query_id"], row["text"]): row["rank"] for row in read_rows(path)}


def test_an_arm_mines_by_its_own_rules(tmp_path: Path, trials: Callable[..., tuple[Trials, Config]]) -> None:
    made, config = trials(**{"mine.margin": 10})
    shared, deeper = rows(made, "mined", config), rows(made, "mined@first_rank=3", config)
    folder = tmp_path / "run"
    of_shared, of_deeper = ranks(folder / "mined.jsonl"), ranks(next(folder.glob("mined-????????.jsonl")))
    assert min(of_shared[q, text] for q, own in shared.items() for row in own for text in row) == 1
    assert min(of_deeper[q, text] for q, own in deeper.items() for row in own for text in row) == 3
    assert rows(made, 'mined@sources=["bm25"]', config) == rows(made, "bm25", config) != shared


def test_a_value_of_the_run_is_the_list_of_the_run(
    tmp_path: Path, trials: Callable[..., tuple[Trials, Config]]
) -> None:
    made, config = trials(**{"mine.margin": 10})
    assert rows(made, "mined@margin=10", config) == rows(made, "mined", config)
    assert [path.name for path in (tmp_path / "run").glob("mined*.jsonl")] == ["mined.jsonl"]


def test_a_margin_of_an_arm_takes_nothing_from_the_race(trials: Callable[..., tuple[Trials, Config]]) -> None:
    made, config = trials(**{"mine.margin": "auto"})
    chosen = config.mine.model_copy(update={"first_rank": 11, "margin": 1e9})
    made._workspace.mining = chosen  # as if a race had chosen it
    assert made.mining("mined", config) == chosen
    own = made.mining("mined", arm("mined@margin=0.9", config).config)
    assert (own.margin, own.first_rank) == (0.9, 1)
    deeper = made.mining("mined", arm("mined@first_rank=5", config).config)
    assert (deeper.margin, deeper.first_rank) == (1e9, 5)


@pytest.mark.parametrize(
    "text",
    ["verified@margin=0.9", "in-batch@margin=0.9", "synthetic@per_query=4", "grounded@first_rank=2", 'bm25@sources=["dense"]'],
)  # fmt: skip
def test_an_arm_without_mined_negatives_refuses_them(text: str) -> None:
    with pytest.raises(ConfigError, match="has no .*give it to one of: mined, "):
        arm(text, Config())


def test_the_race_is_the_runs() -> None:
    with pytest.raises(ConfigError, match="race"):
        arm("mined@margin=auto", load_config(None, ["mine.margin=0.95"]))
