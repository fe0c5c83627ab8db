from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from syneg.core.config import TrainConfig
from syneg.core.records import Instance, Pair
from syneg.training.loss import BaseView, HybridInfoNCE
from syneg.training.merging import Chunks, Layout, embed_by_length
from syneg.training.numbers import RowNumbers
from syneg.training.regulariser import fair_share


def hybrid(
    instances: list[Instance],
    relevant: dict[str, list[str]] | None = None,
    temperature: float = 1.0,
    base: BaseView | None = None,
    **settings: float,
) -> HybridInfoNCE:
    return HybridInfoNCE(Lookup(), instances, relevant or {}, TrainConfig(temperature=temperature, **settings), base)


def bias_of(loss: HybridInfoNCE, columns: int) -> Tensor:
    return loss._bias(loss._batch(torch.arange(2), columns, torch.device("cpu")))


class Lookup(nn.Module):
    """Stands for an encoder: features are embeddings already."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["x"]}


def rows(count: int, weights: tuple[float, ...] = (1.0, 1.0), positive: str = "positive {}") -> list[Instance]:
    return [
        Instance(
            Pair(f"q{i}", f"query {i}", f"d{i}", positive.format(i)),
            (f"a{i}", f"b{i}"),
            ("dense", "dense"),
            weights,
            (None, None),
        )
        for i in range(count)
    ]


def vectors(batch: int, columns: int) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(batch, 6) for _ in range(columns)]


def test_without_mask_and_weights_it_is_multiple_negatives_ranking_loss() -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    model = SentenceTransformer(
        modules=[StaticEmbedding(Tokenizer(models.WordLevel({"[UNK]": 0}, "[UNK]")), embedding_dim=4)]
    )
    anchor, *texts = vectors(5, 4)
    theirs = MultipleNegativesRankingLoss(model, scale=20.0).compute_loss_from_embeddings([anchor, *texts], None)
    ours = hybrid(rows(5), temperature=0.05).from_embeddings(anchor, texts, torch.arange(5))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_two_rows_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = hybrid(rows(2)).from_embeddings(query, [query, query, query], torch.arange(2))
    # each query: 3 candidates of its own direction (score 1) and 3 of the other's (score 0), one of them the target
    assert loss.item() == pytest.approx(-math.log(math.e / (3 * math.e + 3)), abs=1e-6)


def test_known_positives_and_padding_are_masked() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    relevant = {"q0": ["Positive 1!", "A0"], "q1": []}
    loss = hybrid(rows(2, (1.0, 0.0)), relevant)
    bias = bias_of(loss, 3)
    #   columns: p0 p1 a0 a1 b0 b1; b is padding; p1 and a0 are relevant to q0, and stay for q1
    assert torch.isinf(bias).tolist() == [
        [False, True, True, False, True, True],
        [False, False, False, False, True, True],
    ]
    value = loss.from_embeddings(query, [query] * 3, torch.tensor([0, 1])).item()
    first = -math.log(math.e / (math.e + 1))  # p0 and a1
    second = -math.log(math.e / (2 * math.e + 2))  # p1, a1 and p0, a0
    assert value == pytest.approx((first + second) / 2, abs=1e-6)


def test_the_same_positive_in_two_rows_is_not_a_negative() -> None:
    bias = bias_of(hybrid(rows(2, positive="one text")), 1)
    assert torch.isinf(bias).tolist() == [[False, True], [True, False]]


def test_a_weight_scales_its_share() -> None:
    query = torch.tensor([[1.0, 0.0]])
    loss = hybrid(rows(1, (0.5, 1.0))).from_embeddings(query, [query] * 3, torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(1 / 2.5), abs=1e-6)


def test_sorting_by_length_changes_no_embedding() -> None:
    class Sum(nn.Module):
        widths: ClassVar[list[int]] = []

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            self.widths.append(features["input_ids"].shape[1])
            return {
                "sentence_embedding": (features["input_ids"] * features["attention_mask"]).sum(1, keepdim=True).float()
            }

    def column(lengths: list[int]) -> dict[str, Tensor]:
        width = max(lengths)
        ids = torch.stack(
            [torch.cat([torch.arange(1, n + 1), torch.zeros(width - n, dtype=torch.long)]) for n in lengths]
        )
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    found = embed_by_length(
        Sum(), [column([3, 9, 1]), column([2, 50, 4])], lambda m, f: m(f)["sentence_embedding"], Chunks(2)
    )
    assert [part.view(-1).tolist() for part in found] == [[6, 45, 1], [3, 1275, 10]]
    assert Sum.widths == [2, 4, 50]


def test_a_guide_masks_what_it_takes_for_relevant_in_other_rows_only() -> None:
    instances = rows(2)
    near, far = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    texts = {text: far for row in instances for text in (row.pair.positive, *row.negatives)}
    texts |= {"positive 0": near * 0.9, "positive 1": near * 0.9, "a0": near, "a1": near}
    base = BaseView(np.stack([near, near]), texts)
    anchor, *embedded = vectors(2, 4)
    loss = hybrid(instances, {}, 0.05, base, guide=0.95)
    bias = bias_of(loss, 3)  # columns: p0 p1 a0 a1 b0 b1
    # a row's own negatives stay, those of the other row and its positive go where the guide puts them over .95 * .9
    assert torch.isinf(bias).tolist() == [
        [False, True, False, True, False, False],
        [True, False, True, False, False, False],
    ]
    assert torch.isfinite(loss.from_embeddings(anchor, embedded, torch.arange(2)))
    assert not torch.isinf(bias_of(hybrid(instances, {}, 0.05, base, guide=2.0), 3)).any()
    padded = [Instance(r.pair, ("a0", ""), ("dense", "padding"), (1.0, 0.0), (None, None)) for r in instances]
    few = BaseView(np.stack([near, near]), {"a0": far, "positive 0": near, "positive 1": near})
    bias = bias_of(hybrid(padded, {"q0": ["known elsewhere"]}, 0.05, few, guide=0.95), 3)
    assert torch.isinf(bias[:, 4:]).all()


def synthetic_rows(count: int) -> list[Instance]:
    return [Instance(r.pair, r.negatives, ("synthetic", "dense"), r.weights, r.doc_ids) for r in rows(count)]


def test_the_regulariser_is_zero_for_a_fair_share_only() -> None:
    bias = torch.zeros(1, 4)
    synthetic = torch.tensor([True, True, False, False])
    even = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert fair_share(even, bias, synthetic).item() == pytest.approx(0, abs=1e-6)
    assert fair_share(torch.tensor([[9.0, 9.0, 1.0, 1.0]]), bias, synthetic).item() > 1  # too much mass
    assert fair_share(torch.tensor([[1.0, 1.0, 9.0, 9.0]]), bias, synthetic).item() > 1  # too little
    uneven = fair_share(torch.log(torch.tensor([[0.4, 0.1, 0.25, 0.25]])), bias, synthetic).item()
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert uneven == pytest.approx(1 - entropy / math.log(2), abs=1e-5)  # the mass is fair, the entropy is not
    assert fair_share(even, bias, torch.tensor([False] * 4)).item() == 0
    masked = torch.tensor([[1.0, -torch.inf, 1.0, -torch.inf]])
    assert fair_share(masked, bias, synthetic).item() == pytest.approx(0, abs=1e-6)


def test_the_regulariser_moves_scores_towards_a_fair_share() -> None:
    scores = torch.tensor([[3.0, 0.5, 0.0, 1.0]], requires_grad=True)
    synthetic = torch.tensor([True, True, False, False])
    (slope,) = torch.autograd.grad(fair_share(scores, torch.zeros(1, 4), synthetic), scores)
    assert slope[0, 0] > 0 > slope[0, 3]


def test_distillation_is_zero_where_ours_is_the_base() -> None:
    instances = synthetic_rows(3)
    anchor, *texts = vectors(3, 4)
    unit = [nn.functional.normalize(column, dim=-1) for column in (anchor, *texts)]
    view = {row.pair.positive: unit[1][i].numpy() for i, row in enumerate(instances)}
    view |= {row.negatives[j]: unit[2 + j][i].numpy() for i, row in enumerate(instances) for j in range(2)}
    base = BaseView(unit[0].numpy(), view)

    def value(distil: float, queries: Tensor) -> float:
        loss = hybrid(instances, {}, 0.1, base, distil=distil)
        return loss.from_embeddings(queries, texts[:3], torch.arange(3)).item()

    assert value(2.0, anchor) == pytest.approx(value(0.0, anchor), abs=1e-5)
    assert value(2.0, -anchor) > value(0.0, -anchor) + 0.1


def test_gradient_shares_are_those_of_autograd() -> None:
    loss = hybrid(synthetic_rows(2), {}, 0.5)
    anchor, *texts = vectors(2, 4)
    loss.from_embeddings(anchor, texts, torch.arange(2))
    query, candidates = (nn.functional.normalize(x, dim=-1) for x in (anchor, torch.cat(texts)))
    scores = (query @ candidates.T / 0.5).requires_grad_()
    nn.functional.cross_entropy(scores, torch.arange(2)).backward()
    assert scores.grad is not None
    gradient = scores.grad.clone()
    gradient[range(2), range(2)] = 0
    expected = {"in-batch": gradient[:, :2], "synthetic": gradient[:, 2:4], "dense": gradient[:, 4:]}
    total = float(gradient.sum())
    assert loss.course.shares() == [
        {name: pytest.approx(float(part.sum()) / total, abs=1e-5) for name, part in expected.items()}
    ]


def test_a_gradient_cache_gives_the_same_loss_and_gradient() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.table = nn.Embedding(40, 6)

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": self.table(features["input_ids"]).mean(1)}

    def columns() -> list[dict[str, Tensor]]:
        torch.manual_seed(2)
        return [
            {"input_ids": torch.randint(0, 40, (6, 3)), "attention_mask": torch.ones(6, 3).long()} for _ in range(4)
        ]

    found = []
    for chunk in (0, 4):
        model = Table()
        config = TrainConfig(temperature=0.1, cached_chunk=chunk, regulariser=0.5)
        loss = HybridInfoNCE(model, synthetic_rows(6), {}, config)
        value = loss(columns(), torch.arange(6))
        value.backward()
        assert model.table.weight.grad is not None
        found.append((value.item(), model.table.weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


def numbered(lengths: list[int]) -> dict[str, Tensor]:
    """A column of texts 1, 2, … n of these lengths, so that texts of one length are equal."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.arange(1, length + 1)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class Masked(nn.Module):
    """The mean of the words under the mask. Afterwards it writes into the mask, as a pooling without prompts does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(40, 6)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"]
        self.shapes.append(tuple(mask.shape))
        words = mask.float().unsqueeze(2)
        vectors = (self.table(features["input_ids"]) * words).sum(1) / words.sum(1)
        mask[:, :1] = 0
        return {"sentence_embedding": vectors}


LENGTHS = [[3, 9], [3, 1], [9, 2], [4, 4]]


def test_short_texts_share_a_chunk_and_equal_ones_a_place() -> None:
    layout = Layout.of([numbered([3, 9, 1]), numbered([2, 50, 4])], Chunks(2, tokens=9))
    assert [tuple(chunk["input_ids"].shape) for chunk in layout.chunks] == [(3, 3), (2, 9), (1, 50)]
    layout = Layout.of([numbered(lengths) for lengths in LENGTHS], Chunks(2, once=True))
    assert [tuple(chunk["input_ids"].shape) for chunk in layout.chunks] == [(2, 2), (2, 4), (1, 9)]
    sums = layout.columns([chunk["attention_mask"].sum(1, keepdim=True) for chunk in layout.chunks])
    assert [part.view(-1).tolist() for part in sums] == LENGTHS


@pytest.mark.parametrize(
    ("chunk", "dropout", "shapes"),
    [
        (0, 0.0, [(5, 9)]),
        (2, 0.0, [(2, 2), (2, 4), (1, 9)] * 2),  # a gradient cache embeds each chunk twice
        (2, 0.1, [(2, 2), (2, 3), (2, 4), (2, 9)] * 2),  # under dropout, equal texts differ
    ],
)
def test_batches_are_embedded_by_length_with_a_gradient_cache_and_without(
    chunk: int, dropout: float, shapes: list[tuple[int, int]]
) -> None:
    def loss_and_gradient(loss: HybridInfoNCE, *, by_column: bool) -> tuple[float, Tensor]:
        columns = [numbered(lengths) for lengths in LENGTHS]
        if by_column:
            queries, *texts = (model(column)["sentence_embedding"] for column in columns)
            value = loss.from_embeddings(queries, texts, torch.arange(2))
        else:
            value = loss(columns, torch.arange(2))
        model.table.weight.grad = None
        value.backward()
        assert model.table.weight.grad is not None
        return value.item(), model.table.weight.grad

    asked: list[int] = []

    def embed(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
        asked.append(len(features["input_ids"]))
        vectors: Tensor = model(features)["sentence_embedding"]
        return vectors

    model = Masked()
    config = TrainConfig(temperature=0.1, cached_chunk=chunk, dropout=dropout)
    loss = HybridInfoNCE(model, synthetic_rows(2), {}, config, embed=embed)
    value, gradient = loss_and_gradient(loss, by_column=False)
    assert model.shapes == shapes and asked == [rows for rows, _ in shapes]  # `embed` keeps what frozen layers give
    by_hand, its_gradient = loss_and_gradient(loss, by_column=True)
    assert value == pytest.approx(by_hand, abs=1e-6) and torch.allclose(gradient, its_gradient, atol=1e-6)


@given(st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 3))
def test_known_texts_are_found_wherever_they_stand(texts: list[list[int]], seed: int) -> None:
    instances = [
        Instance(Pair(f"q{i % 3}", "query", "d", f"text {own}"), (f"Text {a}", f"text {b}"), ("dense",) * 2, (1.0,) * 2, (None,) * 2)
        for i, (own, a, b) in enumerate(texts)
    ]  # fmt: skip
    relevant = {
        f"q{i}": [f"text {(i + seed) % 7}", f"text {(2 * i + seed) % 7}", "nowhere in the rows"] for i in range(2)
    }
    numbers = RowNumbers(instances, relevant)
    batch = list(range(len(texts)))[::-1]
    candidates = numbers.texts[batch].T.reshape(-1)
    known = [{f"text {texts[row][0]}", *relevant.get(f"q{row % 3}", ())} for row in batch]
    at = [f"text {texts[row][column]}" for column in range(3) for row in batch]
    wanted = {(i, j) for i, of_row in enumerate(known) for j, text in enumerate(at) if text in of_row}
    i, j = numbers.known_places(batch, candidates)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == wanted
    assert len(i) == len(wanted)


def test_a_step_asks_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = hybrid(synthetic_rows(8), {"q0": ["a3"]}, 0.1, regulariser=0.1)
    anchor, *texts = vectors(8, 4)
    asked = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "nonzero"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, _n=name, _f=plain: (asked.append(_n), _f(self, *a))[1])
    value = loss.from_embeddings(anchor, texts, torch.arange(8))
    monkeypatch.undo()
    assert torch.isfinite(value)
    assert asked == ["tolist"]  # the row numbers of the batch


def test_scores_are_exact_under_autocast() -> None:
    loss = hybrid(rows(5), temperature=0.02)
    anchor, *texts = vectors(5, 4)
    query, candidates = (nn.functional.normalize(x, dim=-1) for x in (anchor, torch.cat(texts)))
    exact = nn.functional.cross_entropy(query @ candidates.T / 0.02, torch.arange(5)).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert loss.from_embeddings(anchor, texts, torch.arange(5)).item() == pytest.approx(exact, abs=1e-6)


def test_an_encoder_of_dot_products_is_scored_by_them() -> None:
    class Dot(Lookup):
        similarity_fn_name = "dot"

    query = torch.tensor([[2.0, 0.0]])
    config = TrainConfig(temperature=0.05, scale=0.5)
    loss = HybridInfoNCE(Dot(), rows(1), {}, config)
    value = loss.from_embeddings(
        query, [query, torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)], torch.tensor([0])
    ).item()
    # dot products 4, 2 and 0, halved
    assert value == pytest.approx(-math.log(math.e**2 / (math.e**2 + math.e + 1)), abs=1e-6)


def test_a_guide_leaves_room_under_a_positive_below_zero() -> None:
    query, positive = np.array([1.0, 0.0], np.float32), np.array([-0.2, 0.0], np.float32)
    texts = {text: positive * 1.2 for row in rows(2) for text in row.negatives}  # -.24: under -.2 - 5 % of .2
    texts |= {"positive 0": positive, "positive 1": positive}
    bias = bias_of(hybrid(rows(2), {}, 0.05, BaseView(np.stack([query, query]), texts), guide=0.95), 3)
    assert torch.isinf(bias).tolist() == [
        [False, True, False, False, False, False],
        [True, False, False, False, False, False],
    ]
