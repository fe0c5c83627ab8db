from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syneg.loss import Guide, HybridInfoNCE, embed_by_length
from syneg.records import Instance, Pair


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
    ours = HybridInfoNCE(Lookup(), rows(5), {}, temperature=0.05).from_embeddings(anchor, texts, torch.arange(5))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_two_rows_by_hand() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = HybridInfoNCE(Lookup(), rows(2), {}, temperature=1.0).from_embeddings(
        query, [query, query, query], torch.arange(2)
    )
    # each query: 3 candidates of its own direction (score 1) and 3 of the other's (score 0), one of them the target
    assert loss.item() == pytest.approx(-math.log(math.e / (3 * math.e + 3)), abs=1e-6)


def test_known_positives_and_padding_are_masked() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    relevant = {"q0": ["Positive 1!", "A0"], "q1": []}
    loss = HybridInfoNCE(Lookup(), rows(2, (1.0, 0.0)), relevant, temperature=1.0)
    bias = loss._bias([0, 1], 3)
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
    bias = HybridInfoNCE(Lookup(), rows(2, positive="one text"), {}, temperature=1.0)._bias([0, 1], 1)
    assert torch.isinf(bias).tolist() == [[False, True], [True, False]]


def test_a_weight_scales_its_share() -> None:
    query = torch.tensor([[1.0, 0.0]])
    loss = HybridInfoNCE(Lookup(), rows(1, (0.5, 1.0)), {}, temperature=1.0).from_embeddings(
        query, [query] * 3, torch.tensor([0])
    )
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

    found = embed_by_length(Sum(), [column([3, 9, 1]), column([2, 50, 4])], chunk=2)
    assert [part.view(-1).tolist() for part in found] == [[6, 45, 1], [3, 1275, 10]]
    assert Sum.widths == [2, 4, 50]


def test_a_guide_masks_what_it_takes_for_relevant_in_other_rows_only() -> None:
    instances = rows(2)
    near, far = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    texts = {text: far for row in instances for text in (row.pair.positive, *row.negatives)}
    texts |= {"positive 0": near * 0.9, "positive 1": near * 0.9, "a0": near, "a1": near}
    guide = Guide(np.stack([near, near]), texts, margin=0.95)
    anchor, *embedded = vectors(2, 4)
    loss = HybridInfoNCE(Lookup(), instances, {}, 0.05, guide)
    bias = loss._bias([0, 1], 3)  # columns: p0 p1 a0 a1 b0 b1
    # a row's own negatives stay, those of the other row and its positive go where the guide puts them over .95 * .9
    assert torch.isinf(bias).tolist() == [
        [False, True, False, True, False, False],
        [True, False, True, False, False, False],
    ]
    assert torch.isfinite(loss.from_embeddings(anchor, embedded, torch.arange(2)))
    loose = HybridInfoNCE(Lookup(), instances, {}, 0.05, Guide(np.stack([near, near]), texts, margin=2.0))
    assert not torch.isinf(loose._bias([0, 1], 3)).any()
    padded = [Instance(r.pair, ("a0", ""), ("dense", "padding"), (1.0, 0.0), (None, None)) for r in instances]
    HybridInfoNCE(Lookup(), padded, {"q0": ["known elsewhere"]}, 0.05, Guide(np.stack([near, near]), {"a0": far, "positive 0": near, "positive 1": near}, 0.95))  # fmt: skip
