"""`mine.margin = auto`: which passages are mined is chosen by what training on them does to dev queries.

    chosen(workspace) → Choice(window=Window("no margin", margin=None, first_rank=1), rows=[…])

On one collection the 95 % rule costs 3 points of nDCG@10, on another mining without it costs 2: unjudged answers stand
on top there (docs/lab_notes.md). The probe (`syneg.optimizers.probe`) trains on each window of WINDOWS and is scored on
held-out queries, by nDCG@10 and log-likelihood as all sets are. The choice is cross-fitted: chosen on one half of the
queries, it has to gain on the other, and the other way round; otherwise the 95 % rule stays. Some minutes on two cores,
so it is no default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from syneg.core.config import Config, MineConfig
from syneg.core.progress import Progress
from syneg.core.records import Pair
from syneg.core.storage import read_json, write_json
from syneg.data.collection import Collection
from syneg.retrieval.encoder import Encoder

from .folder import Manifest, RunFolder
from .keys import stage_key

_RULE = 0.95  # NV-Retriever; where nothing else is chosen
_PAIRS = 200  # that the probe trains on
_CHOICE = "choose margin"
_NONE = 1e9  # as a margin: no passage is over it
PerQuery = Mapping[str, Mapping[str, float]]


class Unmined(Protocol):
    """What of a `Workspace` there is before anything is mined."""

    config: Config
    folder: RunFolder
    progress: Progress

    @property
    def manifest(self) -> Manifest: ...

    @property
    def collection(self) -> Collection: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def pairs_to_mine(self) -> list[Pair]: ...


@dataclass(frozen=True)
class Window:
    """Which part of the rankings is mined; `margin` None is none."""

    name: str
    margin: float | None
    first_rank: int = 1

    def of(self, config: MineConfig) -> MineConfig:
        """The settings of mining with this window, inside the ranks that are set."""
        first = min(max(self.first_rank, config.first_rank), config.last_rank)
        return config.model_copy(update={"margin": self.margin or _NONE, "first_rank": first})


WINDOWS = (
    Window("95 % rule", _RULE),
    Window("90 % rule", 0.9),
    Window("no margin", None),
    Window("no margin, from rank 11", None, first_rank=11),
)


@dataclass(frozen=True)
class Choice:
    """The window that is mined. `gains[name]` are gain and error in nDCG@10 over the 95 % rule; `cross` is what windows
    chosen on one half of the queries gained on the other."""

    window: str
    gains: dict[str, tuple[float, float]]
    cross: float
    queries: int

    def lines(self) -> list[str]:
        """What was measured and why this one was chosen."""
        told = [f"{name}: nDCG@10 {gain:+.4f} ± {error:.4f}" for name, (gain, error) in self.gains.items()]
        why = (
            "it gains in both directions"
            if self.window != WINDOWS[0].name
            else "nothing gains on queries it was not chosen on"
        )
        return [
            f"mined by {self.window}: {why} ({self.cross:+.4f} cross-fitted over {self.queries} held-out queries)",
            f"over the 95 % rule: {'; '.join(told)}",
        ]


def mining_of(workspace: Unmined) -> MineConfig:
    """The settings of mining with a margin that is a number."""
    config = workspace.config.mine
    if config.margin != "auto":
        return config
    name = chosen(workspace).window
    return next(window for window in WINDOWS if window.name == name).of(config)


def chosen(workspace: Unmined) -> Choice:
    """The choice for a collection, an encoder and its train queries; kept in window.json."""
    path = workspace.folder.window

    def work() -> None:
        with workspace.progress.stage(_CHOICE, "windows") as line:
            measured: dict[str, PerQuery] = {}
            for window, values in _measured(workspace):
                measured[window] = values
                line(len(measured), len(WINDOWS))
            choice = choose(measured)
            line.note = choice.window
        for row in choice.lines():
            workspace.progress.say(f"  {row}")
        write_json(path, asdict(choice))

    workspace.manifest.make(_CHOICE, _key(workspace), path, work)
    kept: dict[str, Any] = read_json(path)
    return Choice(**{**kept, "gains": {name: (gain, error) for name, (gain, error) in kept["gains"].items()}})


def is_chosen(workspace: Unmined) -> bool:
    """Whether the margin is a number, or was chosen for these settings."""
    if workspace.config.mine.margin != "auto":
        return True
    return workspace.manifest.key(_CHOICE) == _key(workspace) and workspace.folder.window.exists()


def _key(workspace: Unmined) -> str:
    config, encoder = workspace.config, workspace.encoder
    query_ids = [pair.query_id for pair in workspace.pairs_to_mine[:_PAIRS]]
    return stage_key(
        "mine", config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts, query_ids,
        config.probe.model_dump(), config.mix.model_dump(), config.train.temperature, [asdict(w) for w in WINDOWS],
    )  # fmt: skip


def _measured(workspace: Unmined) -> Any:
    """Window → per metric the value of each held-out query."""
    from syneg.negatives.mining import mine
    from syneg.optimizers.objective import Objective
    from syneg.training.sampling import Supply, mix

    config, pairs = workspace.config, workspace.pairs_to_mine[:_PAIRS]
    objective = Objective(workspace.encoder, workspace.collection, pairs, {}, config)
    for window in WINDOWS:
        mined = mine(workspace.collection, pairs, workspace.encoder, window.of(config.mine)).negatives
        rows = mix(Supply(pairs, mined, use="first"), config.mix, arm="mined", seed=config.seed)
        yield window.name, objective.probe.values(rows, seed=config.seed)


def choose(measured: Mapping[str, PerQuery]) -> Choice:
    """`found[window][metric][query_id]`, the first window being the rule that stays where nothing beats it."""
    from syneg.optimizers.objective import Score, mean_and_error
    from syneg.optimizers.probe import LIKELIHOOD, fold_of
    from syneg.retrieval.metrics import MAIN_METRIC

    rule, *others = measured
    queries = sorted(measured[rule][MAIN_METRIC])

    def gains(window: str, metric: str, among: Sequence[str]) -> dict[str, float]:
        return {q: measured[window][metric][q] - measured[rule][metric][q] for q in among}

    def value(window: str, among: Sequence[str]) -> float:
        if window == rule:
            return 0.0
        of_ndcg, of_likelihood = (gains(window, metric, among) for metric in (MAIN_METRIC, LIKELIHOOD))
        return Score(*mean_and_error(of_ndcg), *mean_and_error(of_likelihood)).value

    halves = [[q for q in queries if fold_of(q, 2) == half] for half in (0, 1)]
    cross: list[float] = []
    if min(map(len, halves)) > 1:
        for here, there in (halves, halves[::-1]):
            best = max(measured, key=lambda window: value(window, here))
            cross += gains(best, MAIN_METRIC, there).values()
    gained = float(np.mean(cross)) if cross else 0.0
    best = max(measured, key=lambda window: value(window, queries))
    told = {window: mean_and_error(gains(window, MAIN_METRIC, queries)) for window in others}
    return Choice(best if gained > 0 else rule, told, gained, len(queries))
