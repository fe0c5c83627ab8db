"""A term of the loss against telling who wrote a text: synthetic negatives get no more than a fair, even share.

    fair_share(negatives, bias, synthetic)      0.0 if two of four equal negatives are synthetic and take half, evenly

If the encoder scores all synthetic negatives lower than mined ones, it may have learnt to recognise the writer instead
of relevance (after CausalNeg, arXiv 2606.01304).
"""

from __future__ import annotations

import torch
from torch import Tensor


def fair_share(negatives: Tensor, bias: Tensor, synthetic: Tensor) -> Tensor:
    """How far the synthetic negatives are from a fair and even part of the softmax over negatives; 0 is best.

    `negatives` (batch, candidates) are scores with -inf for positives and masked texts, `bias` (batch, candidates) log
    weights, `synthetic` (candidates,) marks synthetic texts. The result, a scalar, is the mean over rows of two parts:
    the divergence of the share of synthetic texts from their share by weight, and the entropy among synthetic texts
    that is missing to its maximum. Rows with only one of the two kinds are left out.
    """
    there = torch.isfinite(negatives)
    # (batch,): the share that the number and weights of the synthetic negatives give them
    weight = torch.where(there, bias, torch.full_like(bias, -torch.inf)).exp()
    ours = there & synthetic
    fair = (weight * ours).sum(1) / weight.sum(1).clamp_min(1e-12)
    usable = (fair > 0) & (fair < 1)
    # rows that are left out get harmless numbers: selecting rows would wait for the device to count them
    p = negatives.masked_fill(~usable.unsqueeze(1), 0.0).softmax(1)
    fair = torch.where(usable, fair, torch.full_like(fair, 0.5))
    # (batch,): the share that they really take, and its divergence from the fair one
    mass = (p * ours).sum(1).clamp(1e-6, 1 - 1e-6)
    divergence = fair * (fair / mass).log() + (1 - fair) * ((1 - fair) / (1 - mass)).log()
    # (batch,): how unevenly they share it, 0 if evenly, 1 if one text takes it all
    within = p * ours / mass.unsqueeze(1)
    entropy = -(within * within.clamp_min(1e-12).log()).sum(1)
    most = ours.sum(1).float().log()
    lacking = torch.where(most > 0, 1 - entropy / most.clamp_min(1e-12), torch.zeros_like(entropy))
    return torch.where(usable, divergence + lacking, 0.0).sum() / usable.sum().clamp_min(1)
