"""The recipe `search`, and the final choice among candidates: successive halving on the target's score.

    search(compiling)   rounds of proposals side by side, each tried on the same few examples while it may still win
    choose(compiling)   the best by mean value → scored on half of the examples → on all → [Candidate, …], best first
    ordered(candidates, first, enough=False)   orders by score and mean value together

What is proposed, and what the reflection LM sees, is in `syneg.optimizers.proposing`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from scipy.stats import fisher_exact

from syneg.core.progress import Tick
from syneg.core.threads import in_order

from .compiling import Compiling
from .proposing import Proposal, planned, proposed
from .register import SURE, Candidate, chance

_KEEP = 4  # candidates in the last round of the choice
_LEAST_RACE = 4  # examples from which a candidate can be stopped
_PERFECT = 1 - 1e-9  # value of an answer that cannot be better


def search(compiling: Compiling) -> None:
    """Propose `compile.proposals` programs, `compile.width` side by side, and try each on the same third of the
    examples.

    A round takes the best programs so far as parents; every third proposal goes back to the first program. Nothing is
    proposed if the first program is perfect on all examples.
    """
    draw = random.Random(compiling.seed)
    few = draw.sample(sorted(compiling.ids), max(2, len(compiling.ids) // 3))
    compiling.run(compiling.first.program, few)
    few = telling(compiling, few)
    if not few:
        compiling.say(
            f"the first program is perfect on all {len(compiling.ids)} examples: no proposal can be better, so none is "
            "asked for (more examples: compile.pairs)"
        )
        return
    demos = list(compiling.target.demos())
    for start in range(0, compiling.config.proposals, compiling.width):
        numbers = range(start, min(start + compiling.width, compiling.config.proposals))
        race(compiling, _round(compiling, planned(compiling, few, demos, numbers, draw)), few)


def telling(compiling: Compiling, few: Sequence[str]) -> list[str]:
    """The examples to try proposals on: `few`, or as many of the worst if the first program is perfect on `few`.

    [] if it is perfect on all examples.
    """
    first = compiling.first
    if any(first.answers[example].value < _PERFECT for example in few):
        return list(few)
    compiling.answer([first], compiling.ids)
    worst = sorted(first.answers, key=lambda example: (first.answers[example].value, example))
    return worst[: len(few)] if first.answers[worst[0]].value < _PERFECT else []


def _round(compiling: Compiling, proposals: Sequence[Proposal]) -> list[Candidate]:
    """The new programs of a round, asked for side by side; what is known or quotes the examples is left out."""

    programs = in_order(lambda proposal: proposed(compiling, proposal), proposals, compiling.width)
    candidates: list[Candidate] = []
    for program, proposal in zip(programs, proposals, strict=True):
        if program is None or compiling.register.knows(program):  # small models often repeat the old instruction
            continue
        candidate = compiling.register.note(program)
        candidate.origin = proposal.origin
        if not compiling.copied(candidate):
            candidates.append(candidate)
    return candidates


def race(compiling: Compiling, candidates: Sequence[Candidate], few: Sequence[str]) -> None:
    """Try candidates side by side: all on half of the examples, then those that may still be the best on the rest."""
    half = few[: max(_LEAST_RACE, len(few) // 2)]
    compiling.run_all([(candidate.program, half) for candidate in candidates])
    leader = compiling.ranked()[0] if compiling.ranked() else compiling.first
    going = [candidate for candidate in candidates if not behind(candidate, leader)]
    for candidate in candidates:
        if candidate not in going:
            candidate.stopped = f"behind program {leader.number} after {len(half)} examples"
            compiling.say(f"program {candidate.number} is stopped: {candidate.stopped}")
    compiling.run_all([(candidate.program, few[len(half) :]) for candidate in going])


def behind(candidate: Candidate, leader: Candidate) -> bool:
    """Whether a candidate is worse than the leader on the examples that both have answered (paired t-test, one-sided,
    p < .05)."""
    leads = candidate.leads(leader)
    return candidate is not leader and len(leads) >= _LEAST_RACE and chance([-lead for lead in leads]) < SURE


def choose(compiling: Compiling, tick: Tick = lambda done, total: None) -> list[Candidate]:
    """The best candidates and the first program, best first (`ordered`). `tick` counts answers and scores.

    Needs no new LM calls if all answers exist. A candidate is ranked last if it answered fewer than half of the
    examples, or if fewer of its answers are usable than of the first program's (so few negatives barely move the
    weights, and that is not a merit), or if its score is refused (`Scored.refusal`).
    """
    ids, enough = sorted(compiling.ids), compiling.enough
    going = [candidate for candidate in compiling.ranked() if not candidate.stopped]
    ranked = going[: 2 * _KEEP if enough else _KEEP]
    half = ids[: max(2, len(ids) // 2)]
    if len(ranked) > _KEEP:
        _score_alike(compiling, ranked, half, tick)
        ranked = ordered(ranked, compiling.first, enough=enough)[:_KEEP]
    if compiling.first not in ranked:
        ranked.append(compiling.first)
    _score_alike(compiling, ranked, ids, tick)
    for candidate in ranked:
        assert candidate.score is not None
        if candidate is not compiling.first and compiling.first.score is not None:
            candidate.refused = candidate.score.refusal(compiling.first.score)
        gain = f"{compiling.target.measure} over {compiling.target.baseline}"
        figures = {gain: (candidate.score.gain, candidate.score.error), **candidate.score.figures}
        shown = ", ".join(f"{name} {mean:+.4f} ± {error:.4f}" for name, (mean, error) in figures.items())
        refused = f"; refused: {candidate.refused}" if candidate.refused else ""
        compiling.say(f"candidate {candidate.number}: value {candidate.mean:.3f}, {shown}{refused}")
    return sorted(
        ordered(ranked, compiling.first, enough=enough),
        key=lambda c: (len(c.answers) < len(half), writes_less(c, compiling.first), bool(c.refused)),
    )


def _score_alike(compiling: Compiling, candidates: Sequence[Candidate], ids: Sequence[str], tick: Tick) -> None:
    """Score all candidates on the same examples: those of `ids` that each of them has answered.

    A spent budget may leave examples unanswered. Candidates that answered fewer than half of `ids` are ranked last
    anyway, so they do not reduce the examples of the others.
    """
    total = len(candidates) + sum(example not in c.answers for c in candidates for example in ids)
    compiling.answer(candidates, ids, lambda done, _: tick(done, total))
    for place, candidate in enumerate(candidates):
        tick(total - len(candidates) + place, total)
        candidate.score = compiling.score(candidate, ids)
    compared = [c for c in candidates if 2 * sum(example in c.answers for example in ids) >= len(ids)]
    common = [example for example in ids if all(example in c.answers for c in compared)]
    if len(common) < len(ids):
        for candidate in compared:
            candidate.score = compiling.score(candidate, common)


def writes_less(candidate: Candidate, first: Candidate) -> bool:
    """Whether a candidate has no usable answer, or a significantly smaller share of them than the first program.

    The test is Fisher's exact test, one-sided, p < .05.
    """
    if candidate is first:
        return False
    (accepted, rejected), own = _accepted(candidate), _accepted(first)
    return not accepted or bool(fisher_exact([[accepted, rejected], own], alternative="less").pvalue < SURE)


def _accepted(candidate: Candidate) -> tuple[int, int]:
    """How many of a candidate's results are usable, and how many are not."""
    counts = [worth.counts for worth in candidate.answers.values()]
    return sum(usable for usable, _ in counts), sum(unusable for _, unusable in counts)


def ordered(candidates: Sequence[Candidate], first: Candidate, *, enough: bool) -> list[Candidate]:
    """The candidates, best first. With `enough` examples the score alone orders them.

    Otherwise the sum of two ranks does: by score, and by lead over the first program. Ties go to the greater lead. With
    few examples, neither of the two alone orders sets of negatives well on all collections.
    """

    def rank(value: float, values: Sequence[float]) -> int:
        return sum(other > value for other in values)

    objective = [c.score.value if c.score else -1.0 for c in candidates]
    leads = [c.lead(first) for c in candidates]
    keys = [
        (rank(value, objective) + (0 if enough else rank(lead, leads)), -lead, c.number)
        for c, value, lead in zip(candidates, objective, leads, strict=True)
    ]
    return [c for _, c in sorted(zip(keys, candidates, strict=True), key=lambda pair: pair[0])]
