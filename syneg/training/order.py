"""Where a written near-miss belongs: under the positive of its query, above the passages of other rows.

    a plain softmax takes it for as wrong as any passage, though it shares the query's words: on a collection of broad
    topics one among four negatives cost 1 to 2 points of nDCG@10 (docs/lab_notes.md). Given scores (over the
    temperature) of the positive p, a near-miss m and the passages of other rows r1, r2 …:

    pairwise    log(1 + exp(m - p))                              m under p
    listwise    the same + log(1 + exp(lse(r) - m))              and above the rest, as a list of its own
    graded      KL of softmax(grades / .3), p 3, m 1, r 0        against the softmax of the scores

Passages that a reader graded 1 stand with the near-misses, and those it graded 0 with the rest. A row's other retrieved
negatives take no part: nobody graded them. Each is a mean over near-misses, or rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_AWAY = -1e4  # in place of -inf, whose logsumexp over nothing has no gradient
_TEACHER_TEMPERATURE = 0.3


@dataclass(frozen=True)
class Standing:
    """Scores of a batch: `positive` (rows,), `near` (rows, places) where `present` (rows, places), `rest` (rows,
    candidates) with very low scores for all but the passages of other rows, and own ones graded 0."""

    positive: Tensor
    near: Tensor
    present: Tensor
    rest: Tensor

    @classmethod
    def of(cls, scores: Tensor, own: Tensor, near: Tensor, masked: Tensor, other: Tensor | None = None) -> Standing:
        """From `scores` (rows, candidates): `own` (rows, 1 + n) are a row's candidates, its positive first; `near`
        (rows, n) says which of the negatives are near-misses, and `other` (rows, n) which are known to be of another
        matter; `masked` (rows, candidates) take no part."""
        mine = scores.gather(1, own)
        kept = torch.full_like(mine, _AWAY)
        if other is not None:
            kept[:, 1:] = torch.where(other, mine[:, 1:], kept[:, 1:])
        rest = scores.masked_fill(masked, _AWAY).scatter(1, own, kept)
        return cls(mine[:, 0], mine[:, 1:], near, rest)


def order_term(order: str, standing: Standing) -> Tensor:
    """The term of `order` (pairwise, listwise or graded); 0 for a batch without near-misses."""
    if order == "graded":
        return _graded(standing)
    term = nn.functional.softplus(standing.near - standing.positive.unsqueeze(1))
    if order == "listwise":
        rest = standing.rest.logsumexp(1, keepdim=True)
        term = term + nn.functional.softplus(rest - standing.near)
    count = standing.present.sum().clamp_min(1)
    return torch.where(standing.present, term, torch.zeros_like(term)).sum() / count


def _graded(standing: Standing) -> Tensor:
    """KL divergence of the scores' softmax from that of the grades, over the rows that have a near-miss."""
    near = standing.near.masked_fill(~standing.present, _AWAY)
    # (rows, 1 + n + candidates): the positive, its near-misses, the passages of other rows
    scores = torch.cat([standing.positive.unsqueeze(1), near, standing.rest], dim=1)
    grades = torch.zeros_like(scores)
    grades[:, 0] = 3.0
    grades[:, 1 : 1 + near.shape[1]] = 1.0
    target = (grades / _TEACHER_TEMPERATURE).masked_fill(scores <= _AWAY / 2, -torch.inf).log_softmax(1)
    kept = torch.isfinite(target)
    ours = scores.log_softmax(1)
    divergence = torch.where(kept, target.exp() * (target - ours), torch.zeros_like(ours))
    rows = standing.present.any(1)
    return torch.where(rows, divergence.sum(1), torch.zeros_like(standing.positive)).sum() / rows.sum().clamp_min(1)
