"""`compile --target sampler`: choose the settings of mining and mixing by races on held-out queries.

    choice = SamplerChoice(workspace, negatives, readings)
    choice.settings        → {"mine.margin": 1e9, …, "mix.negatives": 1, "mix.ratio": 0.0}
    choice.settled(arm)    → the arm with these settings; settings in its name stay

The races run one after the other; each starts from the winner of the race before (`syneg.optimizers.racing`):
  1. margin, rank window and sources (`syneg.run.windows`)
  2. negatives in a row
  3. ratio, weight and order of written negatives, if there are any
  4. whether the grades of a trusted reader help, if there are any; this race changes no setting
A setting changes only if its race is decisive. sampler-compiled.json and sampler-program.md hold the choice and the
measurements. A run with `compile.target = sampler` takes its settings from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from syneg.core.config import Config
from syneg.core.records import MARGIN_RULE, HardNegative, fingerprint
from syneg.core.storage import read_json, write_json, write_text
from syneg.optimizers.racing import Race
from syneg.optimizers.sampler import Material, Sampler
from syneg.verdict.raced import as_given

from .arms import Arm, arm, arms
from .compiled import CandidateRow, Outcome
from .keys import stage_key
from .negative_sets import NegativeSets
from .readings import Readings
from .windows import chosen, too_small, trials_of
from .workspace import Workspace

PREFIX = "sampler-"
_STAGE = "compile sampler"
_VERSION = 2  # of the procedure; part of the key
_PLACES = (1, 5)  # numbers of negatives in a row, raced against `mix.negatives`
_WINDOW = ("margin", "first_rank", "sources")


@dataclass(frozen=True)
class Step:
    """One race: what it decides, and its samplers. The first sampler stays if the race is not decisive."""

    about: str
    samplers: Sequence[Sampler]


class SamplerChoice:
    """The races of one run, and the settings that they chose."""

    def __init__(self, workspace: Workspace, negatives: NegativeSets, readings: Readings) -> None:
        self._workspace, self._negatives, self._readings = workspace, negatives, readings
        self._path = workspace.folder.compiled(PREFIX)

    @property
    def settings(self) -> dict[str, object]:
        """The chosen settings, dotted key → value. Runs the races if the result is not on disk."""
        workspace = self._workspace
        workspace.manifest.make(_STAGE, self._key, self._path, self._make)
        return dict(Outcome.from_json(read_json(self._path)).state)

    @cached_property
    def _written(self) -> dict[str, list[HardNegative]]:
        """Accepted negatives of the run's program, by query_id; {} if no arm uses synthetic negatives."""
        if not any(each.wants_synthetic for each in arms(self._workspace.config)):
            return {}
        accepted = self._negatives.of(self._workspace.config.generate.program).accepted
        return {query_id: [draft.negative for draft in drafts] for query_id, drafts in accepted.items()}

    @cached_property
    def _material(self) -> Material:
        if not any(each.reads for each in arms(self._workspace.config)) or self._readings.reader.refusal():
            return Material(self._written)
        fed = self._readings.fed
        return Material(self._written, fed.mined, fed.extra)

    @property
    def _key(self) -> str:
        workspace, material = self._workspace, self._material
        return stage_key(
            "compile", workspace.config, workspace.collection.fingerprint, workspace.encoder.fingerprint,
            workspace.encoder.prompts, [pair.query_id for pair in workspace.pairs_to_mine],
            workspace.mining.model_dump(), fingerprint(material.written, material.graded, material.extra), _VERSION,
        )  # fmt: skip

    def _steps(self, config: Config) -> Iterator[Step]:
        """Yield the races that follow the race of the window, built from the user's settings."""
        places = config.mix.negatives
        yield Step("places of a row", [
            Sampler(f"{count} places", {"mix.negatives": count}) for count in dict.fromkeys((places, *_PLACES))
        ])  # fmt: skip
        if self._material.written:
            yield Step("written negatives", [
                Sampler("as set", {}, "hybrid"), Sampler("none", {"mix.ratio": 0.0}, "hybrid"),
                Sampler("weight 0.3", {"mix.weight": 0.3}, "hybrid"), Sampler("ratio 1", {"mix.ratio": 1.0}, "hybrid"),
                Sampler("listwise order", {"train.order": "listwise"}, "hybrid"),
                Sampler("pairwise order", {"train.order": "pairwise"}, "hybrid"),
                *(Sampler(f"weight 0.3, {order} order", {"mix.weight": 0.3, "train.order": order}, "hybrid")
                  for order in ("pairwise", "listwise")),
            ])  # fmt: skip
        if self._material.graded:
            yield Step("grades of the reader", [
                Sampler("mined", {}), Sampler("verified", {}, "verified"),
                Sampler("graded", {"train.order": "graded"}, "graded"),
            ])  # fmt: skip

    def _make(self) -> None:
        workspace, window = self._workspace, chosen(self._workspace)
        chosen_mining = workspace.mining.model_dump()
        settings: dict[str, object] = {f"mine.{key}": chosen_mining[key] for key in _WINDOW}
        rows: list[CandidateRow] = []
        lines, probes = list(window.lines()), 0
        if not too_small(workspace):
            with workspace.progress.stage("compile", "probes") as line:
                trials = trials_of(workspace, self._material)
                for step in self._steps(workspace.config):
                    samplers = [_over(settings, sampler) for sampler in step.samplers]
                    raced = trials.race(samplers, line)
                    won = next(sampler for sampler in samplers if sampler.name == raced.winner)
                    if step.about != "grades of the reader" and raced.winner != raced.standings[0].name:
                        settings = dict(won.settings)
                    lines += [f"{step.about}: {raced.winner}; {raced.why}", raced.line("over the first")]
                    rows += _rows(step.about, raced, samplers, len(rows))
                    probes += raced.measurements
                line.note = f"{probes} probes"
        for text in lines[len(window.lines()) :]:
            workspace.progress.say(f"  {text}")
        outcome = Outcome(
            program="sampler", optimizer="racing", state=settings, won=_differs(workspace.config, settings),
            confirmed=None, stopped="", used={"probes": probes}, candidates=tuple(rows), target="sampler",
            baseline="the first of its race", notes=tuple(lines),
        )  # fmt: skip
        write_json(self._path, outcome.to_json())
        write_json(workspace.folder.program(PREFIX), {"settings": settings})
        write_text(workspace.folder.prompts(PREFIX), _page(settings, lines, rows))

    def settled(self, planned: Arm) -> Arm:
        """Return the arm with the chosen settings; settings in its name stay. Unchanged for any other target."""
        config = self._workspace.config
        if config.compile.target != "sampler":
            return planned
        chosen = Sampler("chosen", self.settings).of(config)
        return arm(planned.name, chosen.model_copy(update={"mine": config.mine}))  # the workspace applies its margin


def _over(settings: dict[str, object], sampler: Sampler) -> Sampler:
    """Return the sampler on top of the settings chosen so far; its own settings win."""
    return Sampler(sampler.name, {**settings, **sampler.settings}, sampler.arm)


def _differs(config: Config, settings: dict[str, object]) -> bool:
    """Whether a chosen setting differs from the user's. A margin of `auto` counts as the 95 % rule."""
    set_now = {f"mix.{key}": value for key, value in config.mix} | {
        f"train.{key}": value for key, value in config.train
    }
    set_now |= {f"mine.{key}": value for key, value in config.mine}
    if set_now["mine.margin"] == "auto":
        set_now["mine.margin"] = MARGIN_RULE
    return any(set_now[key] != value for key, value in settings.items())


def _rows(about: str, raced: Race, samplers: Sequence[Sampler], number: int) -> list[CandidateRow]:
    by_name = {sampler.name: sampler for sampler in samplers}
    return [
        CandidateRow(
            number + place, round(row.worth, 4), row.blocks, round(row.gain, 5), round(row.error, 5), "",
            {about: f"{row.name}: {dict(by_name[row.name].settings)}"}, {about: 0}, dict(row.others), raced.why,
            f"after block {row.blocks}" if row.stopped else "",
        )
        for place, row in enumerate(raced.standings)
    ]  # fmt: skip


def _page(settings: dict[str, object], lines: Sequence[str], rows: Sequence[CandidateRow]) -> str:
    """Return the chosen settings, the races and their candidates as Markdown."""
    chosen_rows = [f"| `{key}` | `{value}` |" for key, value in as_given(settings)]
    page = ["# The sampler that the races chose", "", "| setting | value |", "|---|---|", *chosen_rows, ""]
    page += [*(f"- {line}" for line in lines), "", "## Candidates", ""]
    page += ["| race | candidate | worth | blocks | nDCG@10 over the first | log-likelihood |", "|---" * 6 + "|"]
    for row in rows:
        (about, name), (likelihood, error) = next(iter(row.instructions.items())), next(iter(row.figures.values()))
        page.append(
            f"| {about} | {name.partition(':')[0]} | {row.critic:+.3f} | {row.pairs} | "
            f"{row.gain:+.4f} ± {row.error:.4f} | {likelihood:+.3f} ± {error:.3f} |"
        )
    return "\n".join(page) + "\n"
