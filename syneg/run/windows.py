"""`mine.margin = auto`: choose which passages to mine by training on them and ranking for held-out queries.

    chosen(workspace) → Choice(window="no margin", sources=("dense", "bm25"), why="no margin is better in 99 % …")

No margin is best everywhere. On one collection the 95 % rule costs 3 points of nDCG@10. On another, mining without it
costs 2, because unjudged answers rank highest there (docs/lab_notes.md). So WINDOWS race on held-out queries
(`syneg.optimizers.racing`), then the sources race. The first window stays if the race is not decisive, or if there are
too few pairs or queries for one. It is the 95 % rule, which guards against unjudged answers.

If a trusted reader has graded the nearest passages, each window is weighed by the answers in its own passages, those
that no other window mines (`syneg.run.window_rates`). A window with surely many does not take part. If no margin has
surely few, there is little to guard against, and it is the first window. The sources are weighed in the same way. The
choice, its reason and the measurements are printed and kept in window.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from syneg.core.config import MineConfig
from syneg.core.progress import Tick
from syneg.core.records import MARGIN_RULE, NO_MARGIN
from syneg.core.storage import read_json, write_json
from syneg.negatives.mining import Rankings

from .keys import stage_key
from .workplace import Unmined

# Modules that load torch are imported inside functions.
if TYPE_CHECKING:
    from syneg.optimizers.racing import Race, Standing
    from syneg.optimizers.sampler import Material, Sampler, SamplerTrials

    from .window_rates import Rate

    Measure = Callable[[Mapping[str, MineConfig]], Mapping[str, Rate]]

LEAST_PAIRS, LEAST_QUERIES = 64, 100
_CHOICE = "choose margin"
_VERSION = 7  # of the procedure; part of the key
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
class Rival:
    """One window or choice of sources: what a reader found in its own passages ("" if none read), and how it raced.

    `gain` and `error` are in nDCG@10 over the first of its race. They are None if it did not take part.
    """

    name: str
    answers: str
    gain: float | None = None
    error: float | None = None
    blocks: int = 0
    stopped: bool = False


@dataclass(frozen=True)
class Choice:
    """The name of the chosen window, its sources (() keeps those of the settings), and the reason.

    `measured` holds one line for each race, `races` the rivals of each, in the order in which they stand.
    """

    window: str
    sources: tuple[Source, ...]
    why: str
    measured: tuple[str, ...] = ()
    races: tuple[tuple[Rival, ...], ...] = ()

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
        measure = _measure(workspace)
        if small := too_small(workspace):
            rates = measure(_windows(workspace.config.mine))
            raced = _taking_part(list(_BY_NAME), rates)
            rivals = tuple(Rival(name, str(rates[name])) for name in dict.fromkeys((*raced, *rates)) if rates)
            choice = Choice(raced[0], (), small, _found(rates, raced, rates), (rivals,) if rivals else ())
        else:
            with workspace.progress.stage(_CHOICE, "probes") as line:
                choice = choose(trials_of(workspace), workspace.config.mine, measure, line)
                line.note = choice.window
        for row in choice.lines():
            workspace.progress.say(f"  {row}")
        write_json(path, asdict(choice))

    workspace.manifest.make(_CHOICE, _key(workspace), path, work)
    kept = read_json(path)
    races = tuple(tuple(Rival(**row) for row in rivals) for rivals in kept["races"])
    return Choice(kept["window"], tuple(kept["sources"]), kept["why"], tuple(kept["measured"]), races)


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
        [asdict(window) for window in WINDOWS], workspace.unjudged(), _VERSION,
    )  # fmt: skip


def trials_of(workspace: Unmined, material: Material | None = None) -> SamplerTrials:
    """Prepare the probes of a race, on the pairs of the run."""
    from syneg.optimizers.sampler import SamplerTrials

    return SamplerTrials(workspace.encoder, workspace.collection, workspace.pairs_to_mine, workspace.config, material)


def _measure(workspace: Unmined) -> Measure:
    """The function that rates rivals by the grades of the workspace; it gives {} if nobody read."""
    grades = workspace.unjudged()
    pairs = [pair for pair in workspace.pairs_to_mine if grades and pair.query_id in grades]
    if not grades or not pairs:
        return lambda _: {}

    from .window_rates import OwnRates

    near = Rankings.near(workspace.collection, pairs, workspace.encoder, workspace.config.mine)
    return OwnRates(near.kept(), grades).of


def _windows(config: MineConfig) -> dict[str, MineConfig]:
    return {window.name: window.of(config) for window in WINDOWS}


def _taking_part(names: Sequence[str], rates: Mapping[str, Rate]) -> list[str]:
    """The rivals that race, the one that stays in doubt first. Without rates all race, in the order of `names`.

    A rival whose own passages have surely many answers does not race; if all have, the first stays. No margin is first
    if its own passages have surely few.
    """
    left = [name for name in names if not (name in rates and rates[name].are_many)] or [names[0]]
    safe = _NO_MARGIN.name
    if safe in left and safe in rates and rates[safe].are_few:
        return [safe, *(name for name in left if name != safe)]
    return left


def _found(rates: Mapping[str, Rate], raced: Sequence[str], told: Iterable[str]) -> tuple[str, ...]:
    """A line on what the reader found in the own passages of the rivals `told`, and what follows; none without
    rates."""
    if not rates:
        return ()
    from .window_rates import MOST_ANSWERS

    found = "; ".join(f"{name}: {rates[name]}" for name in told if name in rates and rates[name].graded)
    then = [f"{name} does not take part" for name in rates if name not in raced]
    if raced[0] == _NO_MARGIN.name != next(iter(rates)):
        then.append("no margin stays unless another is surely better")
    few = f"up to {MOST_ANSWERS:.0%} are few, if the interval says so"
    return (f"the reader's grades ({few}): {found or 'none'}: {', '.join(then) or 'they change nothing'}",)


def choose(
    trials: SamplerTrials, config: MineConfig, measure: Measure | None = None, progress: Tick | None = None
) -> Choice:
    """Race the windows, then the sources within the winning window.

    `measure` rates rivals by the answers that a trusted reader finds in their own passages; None if nobody read.
    """
    first, measured, rivals = _raced(trials, _windows(config), measure, progress)
    window = _BY_NAME[first.winner]
    if len(config.sources) < 2:
        return Choice(window.name, (), first.why, measured, (rivals,))
    alone: tuple[tuple[Source, ...], ...] = tuple((source,) for source in config.sources)
    sources = {window.name: (), **{f"{each[0]} alone": each for each in alone}}
    configs = {name: window.of(config, each) for name, each in sources.items()}
    second, more, seconds = _raced(trials, configs, measure, progress)
    why = f"{first.why}; sources: {second.why}"
    return Choice(window.name, sources[second.winner], why, (*measured, *more), (rivals, seconds))


def _raced(
    trials: SamplerTrials, configs: Mapping[str, MineConfig], measure: Measure | None, progress: Tick | None
) -> tuple[Race, tuple[str, ...], tuple[Rival, ...]]:
    """Race the rivals `configs` that take part. Returns the race, lines on it, and all rivals."""
    rates = measure(configs) if measure else {}
    names = _taking_part(list(configs), rates)
    race = trials.race([_sampler(name, configs[name]) for name in names], progress)
    beside = {name: rate for name, rate in rates.items() if rate.graded}
    over = names[0] if names[0] == _NO_MARGIN.name else f"the {names[0]}"
    lines = (race.line(f"nDCG@10 over {over}", beside),) if len(names) > 1 else ()
    standings = {row.name: row for row in race.standings}
    rest = [name for name in configs if name not in names]
    rivals = tuple(_rival(name, str(rates.get(name, "")), standings.get(name)) for name in (*names, *rest))
    return race, (*lines, *_found(rates, names, (names[0], *rest))), rivals


def _rival(name: str, answers: str, row: Standing | None) -> Rival:
    return Rival(name, answers) if row is None else Rival(name, answers, row.gain, row.error, row.blocks, row.stopped)


def _sampler(name: str, config: MineConfig) -> Sampler:
    from syneg.optimizers.sampler import Sampler

    return Sampler(name, {f"mine.{key}": getattr(config, key) for key in ("margin", "first_rank", "sources")})
