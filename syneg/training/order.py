"""A term of the loss that ranks a written near-miss: below the positive of its query, above the passages of other rows.

A plain softmax treats a near-miss as wrong as any other passage, although it shares the query's words. On a collection
of broad topics, one such text among four negatives cost 1 to 2 points of nDCG@10 (docs/lab_notes.md). Given scores
(divided by the temperature) of the positive p, a near-miss m and the passages of other rows r1, r2 …:

    pairwise    log(1 + exp(m - p))                              m below p
    listwise    pairwise + log(1 + exp(lse(r) - m))              m below p and above r1, r2 … together
    graded      KL of softmax(grades / .3), p 3, m 1, r 0        the softmax of the scores follows the grades

Passages that a reader graded 1 count as near-misses, passages graded 0 as passages of other rows. A row's other
retrieved negatives take no part, because nobody graded them. `pairwise` and `listwise` are means over near-misses,
`graded` is a mean over rows. The same divergence teaches a row's own candidates a teacher's scores (`taught_term`,
`train.teacher`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_AWAY = -1e4  # in place of -inf: a logsumexp over nothing but -inf has no gradient
_TEACHER_TEMPERATURE = 0.3


@dataclass(frozen=True)
class Standing:
    """The scores of a batch by what they belong to.

    `positive` (rows,): each row's positive. `near` (rows, n): its negatives, of which `present` (rows, n) marks the
    near-misses. `rest` (rows, candidates): the passages of other rows and own passages graded 0; all others hold -1e4.
    """

    positive: Tensor
    near: Tensor
    present: Tensor
    rest: Tensor

    @classmethod
    def of(cls, scores: Tensor, own: Tensor, near: Tensor, masked: Tensor, other: Tensor | None = None) -> Standing:
        """Sort `scores` (rows, candidates) into a Standing.

        `own` (rows, 1 + n) are the places of a row's own candidates, its positive first. `near` (rows, n) marks the
        negatives that are near-misses, `other` (rows, n) those graded 0. `masked` (rows, candidates) marks candidates
        that take no part.
        """
        mine = scores.gather(1, own)
        kept = torch.full_like(mine, _AWAY)
        if other is not None:
            kept[:, 1:] = torch.where(other, mine[:, 1:], kept[:, 1:])
        rest = scores.masked_fill(masked, _AWAY).scatter(1, own, kept)
        return cls(mine[:, 0], mine[:, 1:], near, rest)


def order_term(order: str, standing: Standing) -> Tensor:
    """The term for `order` (pairwise, listwise or graded), a scalar; 0 for a batch without near-misses."""
    if order == "graded":
        return _graded(standing)
    term = nn.functional.softplus(standing.near - standing.positive.unsqueeze(1))
    if order == "listwise":
        rest = standing.rest.logsumexp(1, keepdim=True)
        term = term + nn.functional.softplus(rest - standing.near)
    count = standing.present.sum().clamp_min(1)
    return torch.where(standing.present, term, torch.zeros_like(term)).sum() / count


def _graded(standing: Standing) -> Tensor:
    """KL divergence of the scores' softmax from the grades' softmax, the mean over rows with a near-miss."""
    near = standing.near.masked_fill(~standing.present, _AWAY)
    # (rows, 1 + n + candidates): the positive, its near-misses, the passages of other rows
    scores = torch.cat([standing.positive.unsqueeze(1), near, standing.rest], dim=1)
    # the target: softmax of the grades over all candidates that take part
    grades = torch.zeros_like(scores)
    grades[:, 0] = 3.0
    grades[:, 1 : 1 + near.shape[1]] = 1.0
    return _divergence(scores, grades, scores > _AWAY / 2, standing.present.any(1))


def taught_term(scores: Tensor, grades: Tensor) -> Tensor:
    """KL divergence of the softmax of `scores` (rows, 1 + n), a row's own candidates, from that of a teacher's `grades`
    (0 to 3; NaN where it gave none). Rows with one grade or none take no part."""
    known = ~torch.isnan(grades)
    away = scores.masked_fill(~known, _AWAY)
    return _divergence(away, grades.nan_to_num(), known, known.sum(1) > 1)


def _divergence(scores: Tensor, grades: Tensor, kept: Tensor, rows: Tensor) -> Tensor:
    """Mean over `rows` (rows,) of the KL divergence between softmax(grades / .3) and softmax(scores) over what is
    `kept` (rows, candidates); scores elsewhere are very low."""
    target = (grades / _TEACHER_TEMPERATURE).masked_fill(~kept, -torch.inf).log_softmax(1)
    target = target.masked_fill(~kept, 0.0)  # a row of which nothing is kept has a softmax of no numbers
    ours = scores.log_softmax(1)
    divergence = torch.where(kept, target.exp() * (target - ours), torch.zeros_like(ours))
    return torch.where(rows, divergence.sum(1), torch.zeros_like(divergence[:, 0])).sum() / rows.sum().clamp_min(1)
