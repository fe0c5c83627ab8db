"""The verdict in sentences: which arm won, by how much, how certain that is, and what the data cannot show.

sentence(verdict) → "Best on dev: hybrid. On test, nDCG@10 0.360 against 0.309 of base: +0.051 [+0.032, +0.070],
                     significant (p = 0.0002). Hybrid is not significantly different from mined (+0.002, …)."
"""

from __future__ import annotations

from collections.abc import Iterator

from syneg.core.counts import counted
from syneg.data.splits import TELLING

from .records import BASE, Comparison, Interval, Verdict

MINED = "mined"  # the arm that others have to beat at the boundary
NEAR_MISSES, _POINTS = 400, 0.06  # a difference of 6 points shows from 400 near-misses on


def sentence(verdict: Verdict) -> str:
    """The verdict as several sentences: what the queries are, the winner, other comparisons, the gain from the LM."""
    if not verdict.queries.get("test") or not verdict.arms[BASE].test:
        return "There are no judged test queries, so the arms cannot be compared."
    parts = [*written_note(verdict), _winner(verdict)]
    if verdict.folds:
        tested = (
            f"Cross-fitted in {verdict.folds} folds: each of the {verdict.queries['test']} queries was tested once, by "
            "models that were not trained on it"
        )
        parts.append(tested + ("." if verdict.best == BASE else "; the saved model is that of the run's own split."))
    dev = verdict.queries.get("dev", 0)
    if dev < TELLING["dev"]:
        parts.append(f"With {counted(dev, 'dev query')}, which arm is best on dev is largely chance.")
    parts += [_other(verdict, row) for row in verdict.comparisons if _worth_telling(verdict, row)]
    parts += [_at_equal_calls(verdict, row) for row in verdict.comparisons if _is_equal(row)]
    if is_small := _small_boundary(verdict):
        parts.append(f"The boundary test is {is_small}.")
    if (worth := verdict.worth) is not None and worth.without_lm != BASE:
        parts.append(lm_sentence(verdict))
    return " ".join(parts)


def written_note(verdict: Verdict) -> list[str]:
    """A sentence that tells which queries are synthetic; [] if no LM wrote any."""
    wrote = verdict.written_queries
    if wrote is None:
        return []
    kinds = ", ".join(f"{kind} {count}" for kind, count in wrote.kinds.items())
    by = f"written by {wrote.program} with {wrote.lm.split('@')[0]} ({kinds})"
    if not wrote.tested:
        return [f"The train queries are synthetic, {by}; the test queries are yours."]
    total = verdict.queries.get("test", 0)
    if wrote.tested < total:
        yours = total - wrote.tested
        return [
            f"{wrote.tested} of {total} test queries are synthetic (ids w-…), {by}, and {yours} yours: how real "
            "queries fare cannot be told from them."
        ]
    return [f"The test queries are synthetic, {by}: how real queries fare cannot be told from them."]


def _winner(verdict: Verdict) -> str:
    """The best arm on dev, and how it did on test against the untuned encoder."""
    best, choice = verdict.best, verdict.choice
    if best == BASE and choice is not None and choice.top != BASE and choice.gain is not None:
        return (
            f"Best on dev: base. {choice.top} has a higher nDCG@10 on dev, but what is best on four fifths of the "
            f"dev queries gains nothing on the last fifth ({choice.gain:+.3f}), so the base is what is saved."
            f"{_against_base(verdict, choice.top)}"
        )
    if best == BASE:
        return "Best on dev: base. No fine-tuned arm beat the untuned encoder on dev, so the base is what is saved."
    return f"Best on dev: {best}.{_against_base(verdict, best)}"


def _against_base(verdict: Verdict, arm: str) -> str:
    """An arm on test against the untuned encoder, as one or two sentences; "" where they were not compared."""
    row = verdict.against(BASE, arm)
    if row is None:
        return ""
    delta = row.delta if row.a == BASE else -row.delta
    ours, theirs = verdict.arms[arm].test[verdict.metric], verdict.arms[BASE].test[verdict.metric]
    name = "nDCG@10" if arm == verdict.best else f"{arm} has nDCG@10"
    text = (
        f" On test, {name} {ours:.3f} against {theirs:.3f} of base: {delta:+.3f}"
        f"{interval_text(row.interval, delta != row.delta)}, {certainty(verdict, row)}."
    )
    if delta <= 0:
        text += f" On test, {arm} is not better than base."
    return text


def certainty(verdict: Verdict, row: Comparison) -> str:
    """Whether a difference is significant, in words; if not, which difference would have been."""
    if row.p_holm is None:
        least = f"; a difference of {row.detectable:.3f} would show" if row.detectable is not None else ""
        return f"too few queries to tell ({verdict.queries.get('test', 0)}{least})"
    if row.significant:
        return f"significant ({p_text(row.p_holm)})"
    least = f"; {row.detectable:.3f} would show" if row.detectable is not None else ""
    return f"no significant difference ({_p_of(verdict, row)}{least})"


def _is_equal(row: Comparison) -> bool:
    """Whether two arms were given the same number of LM calls."""
    return all("@calls=" in arm for arm in (row.a, row.b))


def _at_equal_calls(verdict: Verdict, row: Comparison) -> str:
    counts = " and ".join(str(verdict.arms[arm].calls) for arm in (row.a, row.b))
    return f"At equal LM calls ({counts}): {_other(verdict, row)}"


def _worth_telling(verdict: Verdict, row: Comparison) -> bool:
    few = len(verdict.arms) <= 3
    if _is_equal(row):
        return False  # told apart
    return BASE not in (row.a, row.b) and (few or verdict.best in (row.a, row.b))


def _other(verdict: Verdict, row: Comparison) -> str:
    name = row.b[:1].upper() + row.b[1:] if row.b.islower() and row.b.replace("-", "").isalnum() else row.b
    numbers = f"{row.delta:+.3f}{interval_text(row.interval)}"
    if row.p_holm is None:
        return f"{name} against {row.a}: {numbers}, too few queries to tell."
    side = "better than" if row.delta > 0 else "worse than"
    word = side if row.significant else "not significantly different from"
    return f"{name} is {word} {row.a} ({numbers}, {_p_of(verdict, row)})."


def lm_sentence(verdict: Verdict) -> str:
    """How much the best arm with an LM's negatives or grades gains over the best one without; "" if no arm uses any.

    An arm without a call has them from a file. Only a significant difference is called a gain, and divided by its cost.
    """
    worth = verdict.worth
    if worth is None:
        return ""
    called = bool(verdict.arms[worth.with_lm].calls)
    row = verdict.against(worth.without_lm, worth.with_lm)
    best = f"Best on dev with given negatives or grades: {worth.with_lm}; without any: {worth.without_lm}"
    if called:
        best = f"Best on dev with an LM: {worth.with_lm}; without one: {worth.without_lm}"
    if row is not None and not row.significant:
        subject = "What the LM adds" if called else "What the given texts or grades add"
        numbers = f"{worth.gain:+.3f}{interval_text(row.interval, row.a == worth.with_lm)}"
        if row.p_holm is None:
            return f"{best}. {subject} on test cannot be told from so few queries: {numbers}."
        return f"{best}. {subject} on test cannot be told from zero: {numbers}, {_p_of(verdict, row)}."
    if not called:
        return f"{best}. What was given adds {worth.gain:+.3f} on test."
    rates = [f"{worth.per_1000_calls:+.4f} per 1,000 calls"] if worth.per_1000_calls is not None else []
    rates += [f"{worth.per_dollar:+.4f} per dollar"] if worth.per_dollar is not None else []
    cost = f" ({', '.join(rates)})" if rates else ""
    return f"{best}. The LM adds {worth.gain:+.3f} on test{cost}."


def _small_boundary(verdict: Verdict) -> str:
    """What the boundary test is too small to tell; "" with enough near-misses, or without the test."""
    edge = verdict.arms[BASE].boundary
    if edge is None or edge.near_misses >= NEAR_MISSES:
        return ""
    least = 100 * _POINTS * (NEAR_MISSES / max(1, edge.near_misses)) ** 0.5
    what = f"differences under about {least:.0f} points" if least < 100 else "any difference"
    number = counted(edge.near_misses, "near-miss", "near-misses")
    return f"too small to tell {what}: {number} ({NEAR_MISSES} show {100 * _POINTS:.0f} points)"


def boundary_note(verdict: Verdict) -> str:
    """Whether the boundary test has enough near-misses, and each arm's difference to base and mined; "" without a
    test."""
    if verdict.arms[BASE].boundary is None:
        return ""
    parts = [small] if (small := _small_boundary(verdict)) else []
    for reference in (BASE, MINED):
        if differences := list(_at_the_boundary(verdict, reference)):
            parts.append(f"against {reference}: {', '.join(differences)}")
    return "; ".join(parts)


def _at_the_boundary(verdict: Verdict, reference: str) -> Iterator[str]:
    """Yield each trained arm with its boundary accuracy less that of `reference`, paired by query."""
    for row in verdict.comparisons:
        if row.boundary_delta is None or reference not in (row.a, row.b) or (row.a == BASE != reference):
            continue
        turned = row.b == reference
        delta = -row.boundary_delta if turned else row.boundary_delta
        yield f"{row.a if turned else row.b} {delta:+.3f}{interval_text(row.boundary_interval, turned)}"


def interval_text(interval: Interval | None, turned: bool = False) -> str:
    """An interval in brackets, to follow a number; "" for None. `turned` is for a difference with its sign changed."""
    if interval is None:
        return ""
    low, high = (-interval[1], -interval[0]) if turned else interval
    return f" [{low:+.3f}, {high:+.3f}]"


def _p_of(verdict: Verdict, row: Comparison) -> str:
    """The corrected p-value. Where only the correction lifts it over alpha, the interval may lie on one side of 0, so
    the sentence names the correction and the p-value before it."""
    assert row.p_holm is not None
    if row.p is None or not row.p < verdict.alpha <= row.p_holm:
        return p_text(row.p_holm)
    return f"{p_text(row.p_holm)} after Holm's correction and {p_text(row.p).removeprefix('p = ')} before it"


def p_text(value: float) -> str:
    """A p-value as "p = 0.0312" or "p < .0001"."""
    return "p < .0001" if value < 0.0001 else f"p = {value:.4f}"
