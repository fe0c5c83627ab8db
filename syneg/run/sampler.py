"""`compile --target sampler`: choose the settings of mining and mixing by races on held-out queries.

    choice = SamplerChoice(workspace, negatives, readings)
    choice.settings        → {"mine.margin": 1e9, …, "mix.negatives": 1, "mix.ratio": 0.0, "arm": "graded"}
    choice.plan(arms)      → the arms to train: with these settings (those in an arm's name stay), and the arm `graded`

The races run one after the other; each starts from the winner of the race before (`syneg.optimizers.racing`):
  1. margin, rank window and sources (`syneg.run.windows`)
  2. negatives in a row
  3. how written negatives enter, if there are any: their arm, ratio, weight, order and share, or none
  4. how the grades of a trusted reader enter, if there are any: as negatives and positives, in an order, or not at all;
     each with and without written negatives, if there are any
A setting changes only if its race is decisive. The arm that won the last race is trained with what was chosen, also if
it is not among the arms of the run. sampler-compiled.json and sampler-program.md hold the choice and the measurements.
A run with `compile.target = sampler` takes its settings from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from syneg.core.config import Config
from syneg.core.records import MARGIN_RULE, HardNegative, MinedNegative, fingerprint
from syneg.core.storage import read_json, write_json, write_text
from syneg.negatives.grounding import ground
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
_VERSION = 3  # of the procedure; part of the key
_PLACES = (1, 5)  # numbers of negatives in a row, raced against `mix.negatives`
_WINDOW = ("margin", "first_rank", "sources")
_FAIR = 0.1  # weight of the term for a fair share
_ARM = "arm"  # the chosen arm among the chosen settings


@dataclass(frozen=True)
class Step:
    """One race: what it decides, and its samplers. The first sampler stays if the race is not decisive."""

    about: str
    samplers: Sequence[Sampler]


@dataclass(frozen=True)
class Raced:
    """A step and the race that decided it."""

    step: Step
    race: Race

    @property
    def changed(self) -> bool:
        """Whether another sampler than the first won."""
        return self.race.winner != self.race.standings[0].name

    def best(self, before: Sampler) -> Sampler:
        """The winner; `before` with the arm of the first sampler if that one stays."""
        won = next(sampler for sampler in self.step.samplers if sampler.name == self.race.winner)
        return won if self.changed else replace(before, arm=won.arm)

    def lines(self) -> list[str]:
        """The choice with its reason, then the measurements."""
        return [f"{self.step.about}: {self.race.winner}; {self.race.why}", self.race.line("over the first")]


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
        material = Material(self._written, grounded=self._grounded)
        if not any(each.reads for each in arms(self._workspace.config)) or self._readings.reader.refusal():
            return material
        fed = self._readings.fed
        return replace(material, graded=fed.mined, extra=fed.extra, masked=fed.masked)

    @cached_property
    def _grounded(self) -> Mapping[str, Sequence[MinedNegative]]:
        """The real passages near the texts of the run's program, by query_id; {} if no arm takes them."""
        workspace, program = self._workspace, self._workspace.config.generate.program
        if not any(each.grounds for each in arms(workspace.config)):
            return {}
        near = self._readings.near.of(program, self._negatives.of(program).drafts)
        return ground(
            workspace.collection, workspace.encoder, workspace.pairs, near.doc_ids, near.grades, workspace.mining
        )

    @property
    def _key(self) -> str:
        workspace, material = self._workspace, self._material
        return stage_key(
            "compile", workspace.config, workspace.collection.fingerprint, workspace.encoder.fingerprint,
            workspace.encoder.prompts, [pair.query_id for pair in workspace.pairs_to_mine],
            workspace.mining.model_dump(), _VERSION,
            fingerprint(material.written, material.graded, material.extra, material.masked, material.grounded),
        )  # fmt: skip

    def _places(self, best: Sampler) -> Step:
        counts = dict.fromkeys((self._workspace.config.mix.negatives, *_PLACES))
        return Step("places of a row", [_over(best, f"{n} places", {"mix.negatives": n}, "mined") for n in counts])

    def _of_written(self, best: Sampler) -> Step:
        """How written negatives enter, built from the user's settings; on `verified` if `mix.base` says so."""
        ways: dict[str, dict[str, object]] = {
            "as set": {}, "weight 0.3": {"mix.weight": 0.3}, "ratio 1": {"mix.ratio": 1.0},
            "listwise order": {"train.order": "listwise"}, "pairwise order": {"train.order": "pairwise"},
            "weight 0.3, pairwise order": {"mix.weight": 0.3, "train.order": "pairwise"},
            "weight 0.3, listwise order": {"mix.weight": 0.3, "train.order": "listwise"},
            "fair share": {"train.regulariser": _FAIR},
        }  # fmt: skip
        alone = "verified" if self._workspace.config.mix.base == "verified" else "mined"
        others = [_over(best, "none", {"mix.ratio": 0.0}, alone)]
        if self._material.grounded:
            others.append(_over(best, "the real passages near them", {}, "grounded"))
        first, *rest = [_over(best, name, settings, "hybrid") for name, settings in ways.items()]
        return Step("written negatives", [first, *others, *rest])

    def _of_grades(self, best: Sampler) -> Step:
        """How the grades enter, with written negatives and without. What was chosen before stays in doubt."""
        config = self._workspace.config
        none: dict[str, object] = {"mix.ratio": 0.0} if self._material.written else {}
        candidates = [
            _over(best, "neither" if none else "not read", none, "mined"),
            _over(best, "read, none written" if none else "read", none, "verified"),
            # without a text, `graded` would have one written
            _over(best, "graded order, none written" if none else "graded order", {"mix.ratio": 0.0}, "graded"),
        ]  # fmt: skip
        if none and (ratio := best.of(config).mix.ratio or config.mix.ratio):
            some: dict[str, object] = {"mix.ratio": ratio}
            candidates += [
                _over(best, "written, not read", {**some, "mix.base": "mined"}, "hybrid"),
                _over(best, "written and read", {**some, "mix.base": "verified"}, "hybrid"),
                _over(best, "graded order, written", some, "graded"),
            ]  # fmt: skip
        same = [each for each in candidates if (each.arm, each.of(config)) == (best.arm, best.of(config))]
        first = same[0] if same else replace(best, name="as chosen")
        return Step("grades of the reader", [first, *(each for each in candidates if each is not first)])

    def _raced(self) -> tuple[list[Raced], Sampler]:
        """Run the races that follow that of the window; return them and the sampler that won them all."""
        workspace, material = self._workspace, self._material
        mining = workspace.mining.model_dump()
        raced, best = list[Raced](), Sampler("", {f"mine.{key}": mining[key] for key in _WINDOW})
        if too_small(workspace):
            return raced, best
        steps = [self._places]
        steps += [self._of_written] if material.written else []
        steps += [self._of_grades] if material.graded else []
        with workspace.progress.stage("compile", "probes") as line:
            trials = trials_of(workspace, material)
            for make in steps:
                step = make(best)
                raced.append(Raced(step, trials.race(step.samplers, line)))
                best = raced[-1].best(best)
            line.note = f"{sum(each.race.measurements for each in raced)} probes"
        return raced, best

    def _make(self) -> None:
        workspace, window = self._workspace, chosen(self._workspace)
        raced, best = self._raced()
        settings, lines = dict(best.settings), [text for each in raced for text in each.lines()]
        if raced and (self._material.written or self._material.graded):
            settings[_ARM] = best.arm
            lines.append(f"the arm that the races chose: {best.arm}")
        for text in lines:
            workspace.progress.say(f"  {text}")
        rows, notes = _rows(raced), (*window.lines(), *lines)
        won = _differs(workspace.config, best.settings) or any(each.changed for each in raced)
        used = {"probes": sum(each.race.measurements for each in raced)}
        outcome = Outcome(
            program="sampler", optimizer="racing", state=settings, won=won, confirmed=None, stopped="", used=used,
            candidates=tuple(rows), target="sampler", baseline="the first of its race", notes=notes,
        )  # fmt: skip
        write_json(self._path, outcome.to_json())
        write_json(workspace.folder.program(PREFIX), {"settings": settings})
        write_text(workspace.folder.prompts(PREFIX), _page(settings, notes, rows))

    def plan(self, planned: Sequence[Arm]) -> list[Arm]:
        """The arms to train in place of `planned`; these themselves for any other target. Runs the races if needed."""
        if self._workspace.config.compile.target != "sampler":
            return list(planned)
        return self._with(self.settings, planned, self._workspace.progress.say)

    def expected(self, planned: Sequence[Arm]) -> list[Arm]:
        """The same for an estimate: by sampler-compiled.json as it is, and `planned` without one."""
        if self._workspace.config.compile.target != "sampler" or not self._path.exists():
            return list(planned)
        return self._with(Outcome.from_json(read_json(self._path)).state, planned, lambda _: None)

    def _with(self, chosen: Mapping[str, Any], planned: Sequence[Arm], say: Callable[[str], None]) -> list[Arm]:
        """Give `planned` the `chosen` settings, leave out arms that have no written negatives by them, and add the arm
        that won if it is not among the others."""
        own = self._workspace.config
        settings = {key: value for key, value in chosen.items() if key != _ARM}
        # the workspace mines by what was chosen
        config = Sampler("chosen", settings).of(own).model_copy(update={"mine": own.mine})
        won = arm(chosen[_ARM], config) if _ARM in chosen else None
        trained = list[Arm]()
        for each in planned:
            settled = each.over(config)
            if each.wants_synthetic and not settled.wants_synthetic and settled != won:
                say(f"  {each.name} is left out: by the compiled sampler written negatives do not enter")
            else:
                trained.append(settled)
        if won is not None and won not in [replace(each, name=won.name) for each in trained]:
            say(f"  {won.name} is trained, too: the compiled sampler chose it")
            trained.append(won)
        return trained


def _over(best: Sampler, name: str, settings: Mapping[str, object], arm: str) -> Sampler:
    """Return a sampler with `settings` on top of those chosen so far."""
    return Sampler(name, {**best.settings, **settings}, arm)


def _differs(config: Config, settings: Mapping[str, object]) -> bool:
    """Whether a chosen setting differs from the user's. A margin of `auto` counts as the 95 % rule."""
    set_now = {f"mix.{key}": value for key, value in config.mix} | {
        f"train.{key}": value for key, value in config.train
    }
    set_now |= {f"mine.{key}": value for key, value in config.mine}
    if set_now["mine.margin"] == "auto":
        set_now["mine.margin"] = MARGIN_RULE
    return any(set_now[key] != value for key, value in settings.items())


def _rows(raced: Sequence[Raced]) -> list[CandidateRow]:
    """One row for each candidate of each race, numbered from 0."""
    rows: list[CandidateRow] = []
    for each in raced:
        about, by_name = each.step.about, {sampler.name: sampler for sampler in each.step.samplers}
        rows += [
            CandidateRow(
                len(rows) + place, round(row.worth, 4), row.blocks, round(row.gain, 5), round(row.error, 5), "",
                {about: f"{row.name}: {by_name[row.name].arm} {dict(by_name[row.name].settings)}"}, {about: 0},
                dict(row.others), each.race.why, f"after block {row.blocks}" if row.stopped else "",
            )
            for place, row in enumerate(each.race.standings)
        ]  # fmt: skip
    return rows


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
