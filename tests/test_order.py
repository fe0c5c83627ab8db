"""The order of near-misses, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from syneg.core.config import TrainConfig
from syneg.core.records import Instance, Pair
from syneg.training.loss import HybridInfoNCE
from syneg.training.order import Standing, order_term, taught_term

# two rows of a positive, a near-miss and a mined negative; candidates p0 p1 m0 m1 d0 d1; row 1 has no near-miss
SCORES = torch.tensor([[2.0, 0.5, 1.0, 0.0, 1.5, -1.0], [0.0, 2.0, 0.3, 0.2, 0.1, 0.4]])
OWN = torch.tensor([[0, 2, 4], [1, 3, 5]])
NEAR = torch.tensor([[True, False], [False, False]])
REST = [0.5, 0.0, -1.0]  # of row 0: what row 1 brings


def standing(scores: torch.Tensor = SCORES) -> Standing:
    return Standing.of(scores, OWN, NEAR, torch.zeros(2, 6, dtype=torch.bool))


def test_pairwise_and_listwise_by_hand() -> None:
    under = math.log(1 + math.exp(1.0 - 2.0))
    assert order_term("pairwise", standing()).item() == pytest.approx(under, abs=1e-6)
    above = math.log(1 + sum(map(math.exp, REST)) / math.exp(1.0))
    assert order_term("listwise", standing()).item() == pytest.approx(under + above, abs=1e-6)


def test_graded_is_sentence_transformers_distillation_of_the_grades() -> None:
    grades, scores = [3.0, 1.0, 0.0, 0.0, 0.0], [2.0, 1.0, *REST]
    target = torch.tensor(grades).div(0.3).softmax(0)
    ours = torch.tensor(scores).log_softmax(0)
    by_hand = sum(t * (math.log(t) - o) for t, o in zip(target.tolist(), ours.tolist(), strict=True))
    # DistillKLDivLoss computes the same: kl_div of log-softmax scores against softmax targets, batchmean
    theirs = torch.nn.KLDivLoss(reduction="batchmean")(ours.unsqueeze(0), target.unsqueeze(0)).item()
    assert (
        order_term("graded", standing()).item() == pytest.approx(by_hand, abs=1e-5) == pytest.approx(theirs, abs=1e-5)
    )


@pytest.mark.parametrize("order", ["pairwise", "listwise", "graded"])
def test_a_near_miss_is_moved_between_positive_and_rest(order: str) -> None:
    scores = SCORES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(order_term(order, standing(scores)), scores)
    assert slope[0, 0] < 0  # the positive goes up
    if order != "graded":  # which moves it to a share of .001, that of each passage of the rest being .00005
        assert (slope[0, 2] > 0) == (order == "pairwise")  # with the rest in view the near-miss rises, too
    assert slope[0, 4] == 0  # a mined negative that nobody graded takes no part
    assert torch.isfinite(slope).all()
    assert (slope[1] == 0).all()
    alone = Standing.of(SCORES[:1, :5].clone(), OWN[:1], NEAR[:1], torch.tensor([[False, True, False, True, False]]))
    assert torch.isfinite(order_term(order, alone))  # a batch of one row has no rest


def test_graded_rests_where_scores_are_grades() -> None:
    scores = torch.tensor([[3.0, 0.0, 1.0, 0.0, 0.7, 0.0]]).div(0.3).requires_grad_()
    term = order_term("graded", Standing.of(scores, OWN[:1], NEAR[:1], torch.zeros(1, 6, dtype=torch.bool)))
    assert term.item() == pytest.approx(0, abs=1e-6)
    (slope,) = torch.autograd.grad(term, scores)
    assert slope.abs().max() < 1e-5


def test_a_near_miss_leaves_the_softmax() -> None:
    class Lookup(torch.nn.Module):
        pass

    rows = [Instance(Pair(f"q{i}", "q", "d", f"p{i}"), (f"m{i}", f"d{i}"), ("synthetic", "dense"), (1.0, 1.0), (None,) * 2) for i in range(2)]  # fmt: skip
    torch.manual_seed(0)
    query, *texts = (torch.randn(2, 5) for _ in range(4))
    values = {}
    for order in ("softmax", "pairwise", "listwise", "graded"):
        config = TrainConfig(temperature=0.5, order=order, order_weight=1e-9)
        values[order] = HybridInfoNCE(Lookup(), rows, {}, config).from_embeddings(query, texts, torch.arange(2)).item()
    unit = [torch.nn.functional.normalize(t, dim=1) for t in (query, *texts)]
    scores = unit[0] @ torch.cat(unit[1:]).T / 0.5
    scores[0, 2] = scores[1, 3] = -torch.inf
    without = torch.nn.functional.cross_entropy(scores, torch.arange(2)).item()
    assert [values[order] for order in ("pairwise", "listwise", "graded")] == [pytest.approx(without, abs=1e-6)] * 3
    assert values["softmax"] > without


def test_a_passage_that_was_graded_takes_part_and_stays_in_the_softmax() -> None:
    rows = [
        Instance(Pair(f"q{i}", "q", "d", f"p{i}"), (f"m{i}", f"d{i}", f"e{i}"), ("related", "read", "dense"), (1.0,) * 3, (None,) * 3)
        for i in range(2)
    ]  # fmt: skip
    torch.manual_seed(0)
    query, *texts = (torch.randn(2, 5) for _ in range(5))

    def loss(order: str, weight: float) -> float:
        config = TrainConfig(temperature=0.5, order=order, order_weight=weight)
        module = HybridInfoNCE(torch.nn.Module(), rows, {}, config)
        return float(module.from_embeddings(query, texts, torch.arange(2)))

    assert loss("listwise", 1e-9) == pytest.approx(loss("softmax", 1.0), abs=1e-6)  # a grade of 1 is a real negative
    unit = [torch.nn.functional.normalize(t, dim=1) for t in (query, *texts)]
    scores = (unit[0] @ torch.cat(unit[1:]).T / 0.5).tolist()  # p0 p1 m0 m1 d0 d1 e0 e1
    by_hand = []
    for row, (own, other) in zip(scores, ((0, 1), (1, 0)), strict=True):
        rest = [row[4 + own], *(row[place + other] for place in (0, 2, 4, 6))]  # graded 0, and the other row; not e
        lse = math.log(sum(map(math.exp, rest)))
        by_hand.append(math.log(1 + math.exp(row[2 + own] - row[own])) + math.log(1 + math.exp(lse - row[2 + own])))
    assert loss("listwise", 1.0) - loss("softmax", 1.0) == pytest.approx(sum(by_hand) / 2, abs=1e-5)


def test_a_teachers_scores_are_learnt_on_a_rows_own_candidates() -> None:
    rows = [
        Instance(Pair(f"q{i}", "q", "d", f"p{i}"), (f"m{i}", f"d{i}"), ("dense",) * 2, (1.0,) * 2, (None,) * 2)
        for i in range(3)
    ]
    # row 1 has one score, row 2 none: neither takes part
    taught = {"q0": {"p0": 3.0, "M0": 1.5, "d0": 0.0, "elsewhere": 2.0}, "q1": {"p1": 3.0}}
    torch.manual_seed(0)
    query, *texts = (torch.randn(3, 5, requires_grad=True) for _ in range(4))
    config = TrainConfig(temperature=0.5, distil=2.0, teacher="reader")

    def loss(teacher: dict[str, dict[str, float]] | None, settings: TrainConfig) -> torch.Tensor:
        relevant = {"q0": ["m0"]}  # masked in the softmax, and taught all the same
        module = HybridInfoNCE(torch.nn.Module(), rows, relevant, settings, teacher)
        return module.from_embeddings(query, texts, torch.arange(3))

    unit = [torch.nn.functional.normalize(t.detach(), dim=1) for t in (query, *texts)]
    own = torch.stack([(unit[0][0] * text[0]).sum() for text in unit[1:]]) / 0.5
    target = torch.tensor([3.0, 1.5, 0.0]).div(0.3).softmax(0)
    by_hand = torch.nn.functional.kl_div(own.log_softmax(0), target, reduction="sum")
    whole, plain = loss(taught, config), loss(None, TrainConfig(temperature=0.5))
    assert (whole - plain).item() == pytest.approx(2 * float(by_hand), abs=1e-5)
    gradients = torch.autograd.grad(whole, [query, *texts])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_row_without_a_teachers_scores_passes_on_no_gradient_that_is_not_a_number() -> None:
    unknown = math.nan
    scores = torch.tensor([[1.0, 0.5, -0.5], [1.0, 0.5, -0.5], [1.0, 0.5, -0.5]], requires_grad=True)
    grades = torch.tensor([[3.0, 1.5, unknown], [3.0, unknown, unknown], [unknown] * 3])
    with torch.autograd.set_detect_anomaly(True):  # looks at every step back, also where a mask hides its result
        (slope,) = torch.autograd.grad(taught_term(scores, grades), scores)
    assert (slope[1:] == 0).all() and slope[0, 2] == 0
    assert slope[0, 0] < 0 < slope[0, 1]
