"""Estimate what a stage still costs, without an LM call: calls, tokens, dollars and minutes, by LM use and by stage.

    estimate(run, "verdict").line()
      → "estimate: 52 LM calls (at most 80), 31k tokens in, 9.1k out, $0.02 (at most $0.05), 6 minutes"

The writer, the judge and the LM that reflects are counted and priced separately. Results that the run folder holds for
the same settings are not counted: sets of negatives, answers in the ledger (looked up for a sample of pairs), the
judge's calibration, a compilation, trained models. Tokens, attempts and seconds of a call come from the ledger if it
has enough calls of the same use. If not, they come from prompts rendered for a sample and from the assumptions in
`notes`. "most" counts every allowed attempt, with answers as long as `max_tokens` allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from syneg.core.config import LMConfig
from syneg.core.storage import read_rows
from syneg.llm.role_settings import judge_settings, reader_settings, reflection_settings, strong_reader_settings
from syneg.llm.roles import DOUBT, GRADES_WORDS, JUDGE, READ_TEXTS, REFLECT
from syneg.negatives.given_rows import count_rows
from syneg.negatives.reading import passages_in_a_list
from syneg.negatives.strength import TESTS
from syneg.optimizers import RECIPES

from .call_estimates import CallEstimates
from .compile import COMPILE, CONFIRM
from .deciding import deciding
from .figures import NOTHING, Estimate, Figure, Part
from .machine_time import MachineTime
from .near_misses import STRONG_PROGRAM
from .near_readings import GROUNDING
from .negative_sets import FOLDS, NEAR_TO_COMPILE
from .parts import Parts
from .prompt_sizes import Size, Sizes, expected_attempts
from .rates import Rates
from .reader import MEASURE
from .readings import READING
from .remaining import Remaining, SetLeft
from .second_looks import LOOK
from .workspace import STRENGTH

_ORDER = ("queries", "mine", "read", "calibrate", "compile", "generate", "train", "evaluate", "verdict")
# Assumptions until a value is measured; the notes of an estimate name them.
_PASSING, _EMBEDDED_PASSING, _LEAST_PASSING = 0.85, 0.6, 0.3  # share of negatives that pass the gates on text
_OVER_MARGIN, _TEXTS = 0.3, 2  # share of written texts over the margin, and passages in a list of them
_DOUBTED = 0.3  # share of the lists that the strong LM reads again
_NEW_3S = 0.5  # passages graded 3 that nobody judged, in a list (.14 on SciFact; several where few are judged)
_GRADE = 25  # tokens written for the grade of one passage, with its quote
_QUERY = (500.0, 20.0)  # tokens read and written for one query
_REFLECTION, _PLAN = (1800.0, 500.0), (1100.0, 60.0)  # tokens read and written


def estimate(parts: Parts, stage: str) -> Estimate:
    """Estimate the LM calls and the minutes that are left up to and including `stage` (a key of STAGES)."""
    return _Estimator(parts, stage).estimate()


class _Estimator:
    def __init__(self, parts: Parts, stage: str) -> None:
        self._config, self._stage = parts.workspace.config, stage
        self._rates = Rates.of(read_rows(parts.workspace.folder.ledger))
        self._left = Remaining(parts, self._rates)
        self._sizes = Sizes(parts.workspace)
        self._time = MachineTime(parts, self._left)
        self._calls = CallEstimates(self._config, self._rates)
        self._found: list[str] = []  # notes

    def estimate(self) -> Estimate:
        mining, *later = self._time.parts(self._stage)
        asked = [*self._reading(), *(self._asked() if self._asks else ())]
        parts = [part for part in (mining, *asked, *later) if part.calls.most or part.minutes != NOTHING]
        notes = [*self._time.notes, *self._found]
        if self._config.executor.replay:
            notes.append(f"no LM is called: {self._config.executor.replay} answers")
        if self._calls.assumed:
            notes.append(f"assumed, as nothing measured it yet: {'; '.join(self._calls.assumed)}")
        return Estimate(tuple(parts), tuple(notes))

    def _reaches(self, stage: str) -> bool:
        return _ORDER.index(self._stage) >= _ORDER.index(stage)

    @property
    def _asks(self) -> bool:
        """Whether the stage calls writing LMs: always if it writes, later only if an arm has synthetic negatives."""
        if self._config.executor.replay:
            return False
        synthetic = any(arm.wants_synthetic for arm in self._left.arms)
        if self._samples:
            return synthetic
        return self._stage in ("calibrate", "compile", "generate") or (self._reaches("train") and synthetic)

    @property
    def _samples(self) -> bool:
        """Whether the stage ends with the races of the sampler, which need the written negatives of arms."""
        return self._stage == "compile" and self._config.compile.target == "sampler"

    def _reading(self) -> Iterator[Part]:
        """Estimate compiling the reader, measuring it on dev queries, then one call for each train query if it may be
        used, and one for each query with a text that real passages are looked for near."""
        reader, left, lm = self._config.reader, self._left, reader_settings(self._config)
        uses = self._samples or self._reaches("generate")  # the races of the sampler use grades
        listed = self._stage == "read" or (uses and any(arm.reads for arm in left.arms))
        grounds = (self._samples or self._reaches("train")) and any(arm.grounds for arm in left.arms)
        measures = self._stage == "read" or (self._stage == "compile" and self._config.compile.improves("reader"))
        wanted = listed or grounds
        compiles = self._config.compile.improves("reader") and (wanted or measures)
        if compiles and not self._config.executor.replay and not left.is_reader_compiled:
            yield from self._compiling_reader()
        asks = not reader.cross_encoder or reader.strong
        if reader.given or not asks or self._config.executor.replay or not (wanted or measures):
            return
        if reader.use == "off" and self._stage != "compile":
            return
        strong = strong_reader_settings(self._config) if reader.strong else None
        models = [each.model for each in (None if reader.cross_encoder else lm, strong) if each]
        count = passages_in_a_list(reader, models)
        size = Size(1, self._sizes.of_lists(self._config, count), _GRADE * count)
        lists = queries = near = looks = 0
        if left.measured_reader is None and (reader.use == "auto" or measures):
            if not measures and lm.model.startswith("local/") and not reader.cross_encoder:
                return  # an embedded LM reads for a run only after `syneg-dspy read` measured it
            lists = min(reader.sample, left.queries("dev"))
        if reader.use == "on" or left.measured_reader is None or left.measured_reader.trusted:
            queries, near = listed * left.queries_to_read, grounds * left.queries_to_ground
            looks = listed * reader.looks_again * left.queries_to_look_at
        for use, number in ((MEASURE, lists), (READING, queries), (GROUNDING, near)):
            if number and not reader.cross_encoder:
                yield self._calls.part(use, lm, Figure(number, 2.0 * number), size, words=GRADES_WORDS)
        if strong:
            yield self._calls.part(
                DOUBT, strong, self._in_doubt(lists + queries + near, strong), size, words=GRADES_WORDS
            )
        if looks:
            yield self._looking_again(strong or lm, looks, count)

    def _in_doubt(self, lists: int, strong: LMConfig) -> Figure:
        """Calls of the strong LM, if `lists` lists are still to be read."""
        measured = self._left.measured_reader
        if measured is not None and measured.in_doubt is not None:
            share = measured.in_doubt / max(1, measured.agreement.lists)
        else:
            share = _DOUBTED
            if lists:
                self._calls.assumed[f"{share:.0%} of the lists are in doubt and read by {strong.model}"] = None
        return Figure(share * lists, 2.0 * lists)

    def _looking_again(self, lm: LMConfig, queries: int, count: int) -> Part:
        """Estimate the calls for passages graded 3 in the lists of `queries`, of `count` passages each."""
        done = self._rates.calls(LOOK, lm.model)
        self._calls.assumed[f"{_NEW_3S} passages of a list are graded 3 and looked at again"] = None
        calls = Figure(max(0.0, _NEW_3S * queries - done), 2.0 * count * queries)
        size = Size(1, self._sizes.of_lists(self._config, 2), _GRADE * 2)
        return self._calls.part(LOOK, lm, calls, size, words=GRADES_WORDS)

    def _asked(self) -> Iterator[Part]:
        """Estimate every use of an LM except reading, in the order of the path."""
        config, left = self._config, self._left
        if self._stage == "calibrate":
            yield from self._calibrating()
            return
        if self._stage == "compile" and config.compile.target in ("reader", "queries"):
            if config.compile.improves("queries") and not left.are_queries_compiled:
                yield from self._compiling_queries()
            return
        if config.generate.given:
            if config.judge.use == "on" and self._reaches("generate"):
                rows = float(count_rows(Path(config.generate.given)))
                yield from self._calibrating()
                yield self._judging(Figure(rows, 2 * rows))
            return
        if left.needs_strength and left.strength is None:
            yield self._calls.part(STRENGTH, config.lm, Figure(TESTS, TESTS), self._sizes.of(STRONG_PROGRAM, config))
        if left.task is None:
            yield self._calls.part("plan", config.lm, Figure(1, 3), Size(1, *_PLAN))
        sets = [left.set_of(name) for name in self._programs]
        if config.compile.improves("writer") and not left.is_compiled:
            yield from self._compiling(sets[0])
        if not self._reaches("generate") and not self._samples:
            return
        of_folds = left.fold_sets(sets) if self._stage == "verdict" else []
        sets += [*(left.near_misses() if self._reaches("evaluate") else []), *of_folds]
        yield from (self._writing(each) for each in sets if each.left)  # rendering takes seconds
        if left.judges and not all(each.made for each in sets):
            yield from self._calibrating()
            yield self._judging(self._to_judge(sets))
        elif left.text_reader and not all(each.made for each in sets):
            yield self._reading_texts(self._to_judge(sets))

    @property
    def _programs(self) -> list[str]:
        """Names of the programs that write for the stage, without repeats."""
        if not self._reaches("train"):
            return [self._config.generate.program]
        return list(dict.fromkeys(arm.config.generate.program for arm in self._left.arms if arm.wants_synthetic))

    def _writing(self, planned: SetLeft) -> Part:
        """Estimate the calls that complete one set of negatives."""
        generate, size = planned.config.generate, self._sizes.of(planned.name, planned.config)
        tries = expected_attempts(self._passing(planned), generate.per_pair, generate.attempts * generate.per_pair)
        likely, most = size.steps * tries, float(size.steps * generate.attempts * generate.per_pair)
        rate = self._rates.find(planned.use, planned.config.lm.model)
        if rate is not None:
            likely = min(rate.calls_each, most)
        elif planned.left:
            self._calls.assumed[
                f"{self._passing(planned):.0%} of what {planned.name} writes passes the gates on text"
            ] = None
        calls = Figure(planned.left, planned.left).times(likely, most)
        part = self._calls.part(planned.use, planned.config.lm, calls, size, answers=generate.per_pair)
        if planned.stem == NEAR_TO_COMPILE:
            return replace(part, name=f"{part.name}, to compile")
        return replace(part, name=f"{part.name}, folds") if planned.stem.startswith(FOLDS) else part

    def _passing(self, planned: SetLeft) -> float:
        """Share of written negatives that pass the gates on text: as measured by the strength test, else assumed."""
        strength = self._left.strength
        if strength is not None and strength.written:
            return max(_LEAST_PASSING, strength.passed / strength.written)
        return _EMBEDDED_PASSING if planned.config.lm.model.startswith("local/") else _PASSING

    def _to_judge(self, sets: Sequence[SetLeft]) -> Figure:
        """Calls of the judge for the negatives in `sets`: one for each that passes, at most two for each wanted."""
        lm = judge_settings(self._config)
        wanted = [(planned.pairs * planned.config.generate.per_pair, self._passing(planned)) for planned in sets]
        measured = self._left.calibration.asked if self._left.calibration else 0
        asked = max(0, self._rates.calls(JUDGE, lm.model) - measured)
        likely = sum(count * passing for count, passing in wanted) - asked
        return Figure(max(0.0, likely), 2.0 * sum(count for count, _ in wanted))

    def _compiling(self, first: SetLeft) -> Iterator[Part]:
        """Estimate compiling the writer: near-misses, runs of the program within `compile.calls`, reflection and
        confirmation."""
        yield from (self._writing(each) for each in self._left.near_misses_to_compile() if each.left)
        config, lm = self._config.compile, self._config.lm
        size = self._sizes.of(first.name, first.config)
        wanted = size.steps * RECIPES[config.optimizer].runs(min(config.pairs, self._left.pairs), config.proposals)
        most = float(config.calls) or 4 * wanted
        likely = max(0.0, min(wanted, most) - self._rates.calls(COMPILE, lm.model))
        yield self._calls.part(COMPILE, lm, Figure(likely, most), size)
        if RECIPES[config.optimizer].reflects:
            proposals = Figure(config.proposals, 2.0 * config.proposals)
            yield self._calls.part(REFLECT, reflection_settings(self._config), proposals, Size(1, *_REFLECTION))
        if config.confirm:
            pairs, line = self._left.confirmation()
            self._found.append(line)
            each = Figure(pairs * size.steps, 2.0 * pairs * size.steps)
            yield self._calls.part(CONFIRM, lm, each.times(1.0, first.config.generate.attempts), size)

    def _compiling_reader(self) -> Iterator[Part]:
        """Estimate compiling the reader: the optimizer on train lists, then both programs on the deciding lists."""
        lm = reader_settings(self._config)
        count = passages_in_a_list(self._config.reader, [lm.model])
        size = Size(1, self._sizes.of_lists(self._config, count), _GRADE * count)
        yield from self._proposing(lm, size, self._left.queries("train"), words=GRADES_WORDS)
        if self._config.compile.confirm:
            tested = self._left.queries("test") if self._config.compile.test else 0
            lists = 2.0 * (self._left.deciding_queries + tested)
            yield self._calls.part(CONFIRM, lm, Figure(lists, 2 * lists), size, words=GRADES_WORDS)

    def _compiling_queries(self) -> Iterator[Part]:
        """Estimate compiling the writer of queries: the optimizer, then both programs for the deciding passages."""
        config, size = self._config, Size(1, *_QUERY)
        passages = len(self._left.passages)
        yield from self._proposing(config.lm, size, passages)
        if config.compile.confirm:
            left = max(0, passages - config.compile.pairs)
            each = min(left, deciding(config, config.lm.model) or left)
            yield self._calls.part(CONFIRM, config.lm, Figure(2.0 * each, 2.0 * each), size)

    def _proposing(self, lm: LMConfig, size: Size, examples: int, words: int = 0) -> Iterator[Part]:
        """Estimate an optimizer's calls to `lm`, one for each example that it runs, and to the LM that reflects."""
        config = self._config.compile
        wanted = RECIPES[config.optimizer].runs(min(config.pairs, examples), config.proposals)
        most = float(config.calls) or 4 * wanted
        likely = max(0.0, min(wanted, most) - self._rates.calls(COMPILE, lm.model))
        yield self._calls.part(COMPILE, lm, Figure(likely, most), size, words=words)
        if RECIPES[config.optimizer].reflects:
            proposals = Figure(config.proposals, 2.0 * config.proposals)
            yield self._calls.part(REFLECT, reflection_settings(self._config), proposals, Size(1, *_REFLECTION))

    def _calibrating(self) -> Iterator[Part]:
        if self._left.calibration is None:
            sample = min(self._config.judge.sample, 2 * self._left.queries("train"))
            lm = judge_settings(self._config)
            part = self._calls.part(JUDGE, lm, Figure(sample, 2.0 * sample), self._sizes.of_judge(self._config))
            yield replace(part, name="calibrate judge")

    def _reading_texts(self, texts: Figure) -> Part:
        """Estimate the reader's calls for texts over the margin, of which each list takes one or more."""
        lm = reader_settings(self._config)
        self._calls.assumed[f"{_OVER_MARGIN:.0%} of the texts score over the margin"] = None
        calls = Figure(_OVER_MARGIN * texts.likely, texts.most)
        size = Size(1, self._sizes.of_lists(self._config, _TEXTS), _GRADE * _TEXTS)
        return self._calls.part(READ_TEXTS, lm, calls, size, words=GRADES_WORDS)

    def _judging(self, calls: Figure) -> Part:
        return self._calls.part(JUDGE, judge_settings(self._config), calls, self._sizes.of_judge(self._config))
