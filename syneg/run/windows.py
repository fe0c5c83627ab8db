"""`mine.margin = auto`: choose which passages to mine by training on them and ranking for held-out queries.

    chosen(workspace) → Choice(window="no margin", sources=("dense", "bm25"), why="no margin is better in 99 % …")

No margin is best everywhere. On one collection the 95 % rule costs 3 points of nDCG@10. On another, mining without it
costs 2, because unjudged answers rank highest there (docs/lab_notes.md). So WINDOWS race on held-out queries
(`syneg.optimizers.racing`), then the sources race. The first window stays if the race is not decisive, or if there are
too few pairs or queries for one. It is the 95 % rule, which guards against unjudged answers. If a trusted reader has
graded the nearest passages and finds few answers among them, there is little to guard against, and no margin is the
first window. If it finds many, no margin does not take part. The choice, its reason and the measurements are printed
and kept in window.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from syneg.core.config import MineConfig
from syneg.core.progress import Tick
from syneg.core.records import MARGIN_RULE, NO_MARGIN
from syneg.core.storage import read_json, write_json

from .keys import stage_key
from .workplace import Unmined

# Modules that load torch are imported inside functions.
if TYPE_CHECKING:
    from syneg.optimizers.sampler import Material, Sampler, SamplerTrials

LEAST_PAIRS, LEAST_QUERIES = 64, 100
MOST_ANSWERS = 0.05  # share of answers among the nearest unjudged passages; above it, no margin is not raced
_CHOICE = "choose margin"
_VERSION = 6  # of the procedure; part of the key
Source = Literal["dense", "bm25"]


@dataclass(frozen=True)
class Window:
    """A part of the rankings to mine: from `first_rank` on, scores up to `margin` times the positive's (None: all)."""

    name: str
    margin: float | None
    first_rank: int = 1

    def of(self, config: MineConfig, sources: Sequence[Source] = ()) -> MineConfig:
        """Return `config` with this window. The ranks of `config` still bound it; `sources` replace its sources."""
        first = min(max(self.first_rank, config.first_rank), config.last_rank)
        changed = {"margin": self.margin or NO_MARGIN, "first_rank": first, "sources": tuple(sources) or config.sources}
        return config.model_copy(update=changed)


_NO_MARGIN = Window("no margin", None)
WINDOWS = (
    Window("95 % rule", MARGIN_RULE),  # stays unless another is surely better
    Window("90 % rule", 0.9),
    _NO_MARGIN,
    Window("no margin, from rank 11", None, first_rank=11),
)
_BY_NAME = {window.name: window for window in WINDOWS}


@dataclass(frozen=True)
class Choice:
    """The name of the chosen window, its sources (() keeps those of the settings), and the reason.

    `measured` holds one line for each race.
    """

    window: str
    sources: tuple[Source, ...]
    why: str
    measured: tuple[str, ...] = ()

    def of(self, config: MineConfig) -> MineConfig:
        """Return `config` with the chosen window and sources."""
        return _BY_NAME[self.window].of(config, self.sources)

    def lines(self) -> list[str]:
        """Return lines to print: the choice and its reason, then the measurements."""
        sources = f" from {self.sources[0]} alone" if len(self.sources) == 1 else ""
        return [f"mined by {self.window}{sources}: {self.why}", *self.measured]


def mining_of(workspace: Unmined) -> MineConfig:
    """Return the settings of mining, with the chosen window if they leave it open. Runs the race if needed."""
    return chosen(workspace).of(workspace.config.mine) if _is_open(workspace) else workspace.config.mine


def chosen(workspace: Unmined) -> Choice:
    """Return the choice for the collection, encoder and train queries; run the race unless window.json holds it."""
    path = workspace.folder.window

    def work() -> None:
        if small := too_small(workspace):
            answers = workspace.answers()
            choice = Choice(_raced(answers)[0].name, (), small, _found(answers))
        else:
            with workspace.progress.stage(_CHOICE, "probes") as line:
                choice = choose(trials_of(workspace), workspace.config.mine, workspace.answers(), line)
                line.note = choice.window
        for row in choice.lines():
            workspace.progress.say(f"  {row}")
        write_json(path, asdict(choice))

    workspace.manifest.make(_CHOICE, _key(workspace), path, work)
    kept = read_json(path)
    return Choice(kept["window"], tuple(kept["sources"]), kept["why"], tuple(kept["measured"]))


def is_chosen(workspace: Unmined) -> bool:
    """Whether the settings fix the window, or window.json holds the choice for them."""
    if not _is_open(workspace):
        return True
    return workspace.manifest.has(_CHOICE, _key(workspace), workspace.folder.window)


def _is_open(workspace: Unmined) -> bool:
    config = workspace.config
    return config.mine.margin == "auto" or config.compile.target == "sampler"


def needs_race(workspace: Unmined) -> bool:
    """Whether a race has to run before mining."""
    return not is_chosen(workspace) and not too_small(workspace)


def too_small(workspace: Unmined) -> str:
    """Return why there are too few pairs or queries for a race; "" if there are enough."""
    collection = workspace.collection
    pairs = len(workspace.pairs_to_mine)
    held_out = len(collection.splits["dev"]) + len(collection.splits["train"])
    if not collection.splits["dev"]:
        return "there are no dev queries to choose on"
    if pairs < LEAST_PAIRS or held_out < LEAST_QUERIES:
        return (
            f"{pairs} train pairs and {held_out} train and dev queries are too few to choose (from {LEAST_PAIRS} and "
            f"{LEAST_QUERIES} on)"
        )
    return ""


def _key(workspace: Unmined) -> str:
    config, encoder = workspace.config, workspace.encoder
    query_ids = [pair.query_id for pair in workspace.pairs_to_mine]
    return stage_key(
        "mine", config, workspace.collection.fingerprint, encoder.fingerprint, encoder.prompts, query_ids,
        config.probe.model_dump(), config.mix.model_dump(exclude={"base"}), config.train.temperature,
        [asdict(window) for window in _raced(workspace.answers())], _VERSION,
    )  # fmt: skip


def trials_of(workspace: Unmined, material: Material | None = None) -> SamplerTrials:
    """Prepare the probes of a race, on the pairs of the run."""
    from syneg.optimizers.sampler import SamplerTrials

    return SamplerTrials(workspace.encoder, workspace.collection, workspace.pairs_to_mine, workspace.config, material)


def _raced(answers: float | None) -> Sequence[Window]:
    """The windows that race, the one that stays in doubt first. `answers` is a share found by a reader, if one read."""
    if answers is None:
        return WINDOWS
    others = [window for window in WINDOWS if window != _NO_MARGIN]
    return [_NO_MARGIN, *others] if answers <= MOST_ANSWERS else others


def _found(answers: float | None) -> tuple[str, ...]:
    """A line on what the reader found, and what follows; none without a reader."""
    if answers is None:
        return ()
    few = answers <= MOST_ANSWERS
    then = "no margin stays unless another is surely better" if few else "no margin does not take part"
    return (
        f"the reader finds {answers:.1%} answers among the nearest unjudged passages (up to {MOST_ANSWERS:.0%} are "
        f"few): {then}",
    )


def choose(
    trials: SamplerTrials, config: MineConfig, answers: float | None = None, progress: Tick | None = None
) -> Choice:
    """Race the windows, then the sources within the winning window.

    `answers` is the share of answers that a trusted reader finds among the nearest unjudged passages.
    """
    raced = _raced(answers)
    first = trials.race([_sampler(window.name, window.of(config)) for window in raced], progress)
    window, over = _BY_NAME[first.winner], "no margin" if raced[0] == _NO_MARGIN else f"the {raced[0].name}"
    measured = (first.line(f"nDCG@10 over {over}"), *_found(answers))
    if len(config.sources) < 2:
        return Choice(window.name, (), first.why, measured)
    alone: tuple[tuple[Source, ...], ...] = tuple((source,) for source in config.sources)
    names = {window.name: (), **{f"{sources[0]} alone": sources for sources in alone}}
    second = trials.race([_sampler(name, window.of(config, sources)) for name, sources in names.items()], progress)
    measured += (second.line("over both sources"),)
    return Choice(window.name, names[second.winner], f"{first.why}; sources: {second.why}", measured)


def _sampler(name: str, config: MineConfig) -> Sampler:
    from syneg.optimizers.sampler import Sampler

    return Sampler(name, {f"mine.{key}": getattr(config, key) for key in ("margin", "first_rank", "sources")})
