"""The verdict as text for a terminal: two tables, and the notes under them.

    print(table(verdict))         arm, seeds, nDCG@10, MRR@10, recall@100, dev, difference to base, p, won, lost
    print(second_table(verdict))  arm, interval of the difference, spread over seeds, boundary, seconds, tokens, dollars

Tables are 80 columns wide, or up to 100 if names of arms are long. The HTML page is in `page`, the cards are in `card`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from syneg.core.counts import counted
from syneg.core.lines import COLUMNS, wrapped

from .records import BASE, ArmResult, Comparison, Generation, Verdict
from .sentences import boundary_note, lm_sentence


def table(verdict: Verdict) -> str:
    """The first table: the metrics of every arm, and its difference to the base. A star marks the best arm on dev."""
    width = _name_width(verdict)
    rows = [
        f"{'arm':<{width}}{'seeds':>5}{'nDCG@10':>9}{'MRR@10':>7}{'recall@100':>11}{'dev nDCG':>9}{'vs base':>9}"
        f"{'p (Holm)':>9}{'won/lost':>9}"
    ]
    for arm, result in verdict.arms.items():
        row = verdict.against(BASE, arm) if arm != BASE else None
        mark = "*" if arm == verdict.best else " "
        figures = "".join(
            f"{number(result.test.get(metric)):>{wide}}"
            for metric, wide in (("ndcg@10", 9), ("mrr@10", 7), ("recall@100", 11))
        )
        rows.append(
            f"{short(arm, width - 1) + mark:<{width}}{result.seeds:>5}{figures}"
            f"{number(result.dev.get('ndcg@10')):>9}{f'{row.delta:+.4f}' if row else '':>9}"
            f"{_p(row) if row else '':>9}{f'{row.wins}/{row.losses}' if row else '':>9}"
        )
    counts = verdict.queries
    rows.append(f"test: {counts.get('test', 0)} queries, dev: {counts.get('dev', 0)}; * best on dev")
    if any(row.p_holm is not None for row in verdict.comparisons):
        rows.append("p: paired t-test over queries, Holm-corrected; won/lost: queries, against base")
    elif verdict.comparisons:
        rows.append("too few test queries for a p-value; won/lost: queries, against base")
    if all(result.seeds == 1 for result in verdict.arms.values()) and len(verdict.arms) > 1:
        rows.append("one seed: the spread over seeds is not known (--seeds 3)")
    if verdict.left_out:
        rows.append(f"left out, without accepted negatives or a trusted reader: {', '.join(verdict.left_out)}")
    return "\n".join(rows)


def second_table(verdict: Verdict) -> str:
    """The second table, with the notes below it.

    Columns: the interval of the difference to the base, half the width of the interval over seeds, accuracy in the
    boundary test, seconds of a training, LM tokens and dollars.
    """
    width = _name_width(verdict)
    rows = [
        f"{'arm':<{width}}{'vs base, 95 %':>17}{'seeds ±':>9}{'boundary':>19}{'train s':>8}{'LM tokens':>10}{'$':>5}"
    ]
    for arm, result in verdict.arms.items():
        row = verdict.against(BASE, arm) if arm != BASE else None
        interval = f"[{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]" if row and row.interval else ""
        spread = result.seed_interval
        tokens = result.input_tokens + result.output_tokens
        rows.append(
            f"{short(arm, width - 1):<{width}}{interval:>17}{f'{(spread[1] - spread[0]) / 2:.4f}' if spread else '':>9}"
            f"{_boundary(result):>19}{result.seconds:>8.0f}{tokens:>10}"
            f"{'?' if result.usd is None else f'{result.usd:.2f}':>5}"
        )
    return "\n".join((*rows, *(wrapped(note, columns=max(COLUMNS, len(rows[0]))) for note in notes(verdict))))


def arm_cells(verdict: Verdict, arm: str) -> tuple[str, ...]:
    """The figures of an arm from both tables, in the columns of the page (`page`)."""
    result, row = verdict.arms[arm], verdict.against(BASE, arm) if arm != BASE else None
    spread, interval = result.seed_interval, row.interval if row else None
    return (
        arm + ("*" if arm == verdict.best else ""),
        *(number(result.test.get(metric)) for metric in ("ndcg@10", "mrr@10", "recall@100")),
        number(result.dev.get("ndcg@10")), f"{row.delta:+.4f}" if row else "",
        f"[{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "", _p(row) if row else "",
        f"{row.wins}/{row.losses}" if row else "", str(result.seeds),
        f"{(spread[1] - spread[0]) / 2:.4f}" if spread else "", _boundary(result), f"{result.seconds:.0f}",
        str(result.input_tokens + result.output_tokens), "?" if result.usd is None else f"{result.usd:.2f}",
    )  # fmt: skip


def notes(verdict: Verdict) -> Iterator[str]:
    """Notes on the boundary test, the source probe, the gain from the LM, and synthetic negatives in training."""
    near = verdict.near_misses
    if near:
        number = counted(near.accepted, "near-miss", "near-misses")
        by = near.lm.split("@")[0]
        if verdict.generation and verdict.generation.lm == near.lm:
            by += ", the LM of the negatives, too,"
        yield (
            f"boundary: {number} for {counted(near.covered, 'held-out query')}, written by {near.program} with "
            f"{by} and put into the corpus: share ranked below the positive, with its 95 % interval"
        )
        if note := boundary_note(verdict):
            yield note
    elif verdict.no_boundary:
        yield f"no boundary test: {verdict.no_boundary}"
    if verdict.source_probe:
        views = ", ".join(f"{view} {auc:.2f}" for view, auc in verdict.source_probe.items())
        yield f"source probe, AUC of telling synthetic from mined (.5 = indistinguishable): {views}"
    worth = lm_sentence(verdict)
    if worth and worth not in verdict.sentence:  # said once: the sentence stands under the notes
        yield worth
    for arm, result in verdict.arms.items():
        shares = [training.shares for training in result.training if training.shares]
        if any("synthetic" in third for run in shares for third in run):
            thirds = [np.mean([run[min(i, len(run) - 1)].get("synthetic", 0.0) for run in shares]) for i in range(3)]
            by_third = ", ".join(f"{share:.0%}" for share in thirds)
            yield f"gradient share of synthetic in {short(arm, 30)}, by third of training: {by_third}"


def generation_line(generation: Generation | None) -> str:
    """One sentence on the synthetic negatives: how many were accepted, tokens, dollars, reasons of rejections."""
    if generation is None:
        return "No arm of this run uses synthetic negatives"
    money = "price unknown" if generation.usd is None else f"${generation.usd:.4f}"
    if generation.lm == "given":
        source, spent = f"from {generation.program}", ""
    else:
        source = f"by {generation.program} with {generation.lm}"
        spent = f"; {generation.input_tokens} + {generation.output_tokens} tokens, {money}"
    most = sorted(generation.reasons.items(), key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{reason} {count}" for reason, count in most)
    return (
        f"{generation.accepted} of {generation.written} negatives accepted for {generation.covered} of "
        f"{generation.pairs} pairs {source}{spent}" + (f"; rejected: {reasons}" if reasons else "")
    )


def coverage_table(generation: Generation) -> str:
    """A table of at most 80 columns: how many negatives were wanted and accepted for each value of an attribute.

    Attributes with one value are left out; "" if nothing is left.
    """
    lines = [f"{'attribute':<12}{'value':<50}{'wanted':>8}{'got':>8}"]
    for key, values in generation.coverage.items():
        if len(values) > 1:
            lines += [f"{key:<12}{value[:48]:<50}{n[0]:>8}{n[1]:>8}" for value, n in values.items()]
    return "\n".join(lines) if len(lines) > 1 else ""


def short(name: str, width: int) -> str:
    """A name of at most `width` letters; a longer one ends in "…"."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _name_width(verdict: Verdict) -> int:
    return max(12, min(31, 1 + max(map(len, verdict.arms))))


def number(value: float | None) -> str:
    """A metric with four decimals; "" for None."""
    return "" if value is None else f"{value:.4f}"


def _boundary(result: ArmResult) -> str:
    edge = result.boundary
    if edge is None:
        return ""
    interval = edge.accuracy_interval
    return f"{edge.accuracy:.3f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _p(row: Comparison) -> str:
    if row.p_holm is None:
        return "few"
    return "< .0001" if row.p_holm < 0.0001 else f"{row.p_holm:.4f}"
