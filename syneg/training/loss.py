"""InfoNCE over the positive, the row's negatives and all other texts of the batch (van den Oord et al., 2018).

    rows 0 and 1 in a batch, 2 negatives each: query 0 is scored against 6 texts, [p0 p1 n00 n10 n01 n11], target p0

Padding is masked, and so is every text that is known to be relevant to the query, compared by normalised text. A weight
w multiplies a negative's share of the softmax: log w is added to its score. With weights of 1 and without masks and
options, this is sentence-transformers' MultipleNegativesRankingLoss with scale = 1 / temperature. If the encoder uses
dot products, scores are dot products times `train.scale`. Options:

- guide: mask texts of other rows that the untuned encoder scores over a share of the positive's score (the 95 % rule
  inside the batch; compare GISTEmbed, arXiv 2402.16829);
- regulariser: pull the synthetic negatives towards the share of the softmax that their number gives them, evenly, so
  that recognising who wrote a text does not pay (after CausalNeg, arXiv 2606.01304);
- order: take written near-misses out of the softmax, and rank them and graded passages by a term (`order`);
- distillation: stay near the untuned encoder's softmax over the same texts (listwise, as in arXiv 2010.11386), or learn
  the order in which another teacher has the row's own texts (`train.teacher`).

With several processes, all texts of all processes are candidates, as with sentence-transformers'
`gather_across_devices`; each process brings the same number of rows. A step reads from the device only once: the row
numbers of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn

from syneg.core.config import TrainConfig
from syneg.core.records import READ, RELATED, Instance, margin_limit

from .batch_loss import BatchLoss
from .course import Course
from .merging import Embed
from .numbers import RowNumbers
from .order import Standing, order_term, taught_term
from .regulariser import fair_share
from .sampling import SYNTHETIC


@dataclass(frozen=True)
class BaseView:
    """Embeddings by the untuned encoder: `queries` (rows, dim), and `texts[text]` (dim,)."""

    queries: np.ndarray
    texts: Mapping[str, np.ndarray]


Taught = Mapping[str, Mapping[str, float]]
"""query_id → text → score from 0 to 3 by a teacher."""


@dataclass(frozen=True)
class Batch:
    """The rows of this process, and the candidates of all processes.

    Candidates are `columns` texts of each row, sorted by process, column and row. `everyone` (all rows,) are the row
    numbers of all processes. `numbers` (candidates,) are numbers of texts (`RowNumbers`), `places` (rows,) the place of
    each row's positive among the candidates, `owners` (candidates,) the row that a candidate comes from, and `own`
    (rows,) the places of this process's rows among all rows.
    """

    rows: list[int]
    everyone: Tensor
    columns: int
    numbers: np.ndarray
    places: Tensor
    owners: Tensor
    own: Tensor


class HybridInfoNCE(BatchLoss):
    """The loss as a module for sentence-transformers' trainer; labels are row numbers of `instances`.

    `relevant[query_id]` are the texts of all passages known to be relevant. `teacher` is required if `config` has a
    guide or distillation: the untuned encoder's view, or the scores of another teacher. `embed` replaces the call of
    the model. The similarity is the model's `similarity_fn_name`; a model without one uses cosines.
    """

    _log_weights: Tensor
    _sources: Tensor
    _taught: Tensor
    _base_texts: Tensor
    _base_queries: Tensor

    def __init__(
        self,
        model: nn.Module,
        instances: Sequence[Instance],
        relevant: Mapping[str, Iterable[str]],
        config: TrainConfig,
        teacher: BaseView | Taught | None = None,
        embed: Embed | None = None,
    ) -> None:
        super().__init__(model, config, embed)
        self.cosine = getattr(model, "similarity_fn_name", "cosine") != "dot"
        self.scale = 1 / config.temperature if self.cosine else config.scale
        self.numbers = RowNumbers(instances, relevant)
        self.course = Course(["in-batch", *self.numbers.source_names[1:]])
        base = teacher if isinstance(teacher, BaseView) else None
        taught = {} if teacher is None or isinstance(teacher, BaseView) else teacher
        shape = (0, 0)
        if base is not None:
            shape = (self.numbers.count, base.queries.shape[1])
        vectors = np.zeros(shape, np.float32)  # padding stays at zero
        for text, vector in (base.texts if base is not None else {}).items():
            vectors[self.numbers.of(text)] = vector
        with np.errstate(divide="ignore"):
            self._keep("_log_weights", np.log(self.numbers.weights))
        self._keep("_sources", self.numbers.sources)
        self._keep("_taught", self._scores_of(instances, taught))
        self._keep("_base_texts", vectors)
        self._keep("_base_queries", base.queries if base is not None else vectors)

    def _scores_of(self, instances: Sequence[Instance], taught: Taught) -> np.ndarray:
        """(rows, 1 + n): the teacher's score of each row's positive and negatives; NaN where it gave none."""
        if not taught:
            return np.zeros((0, 0), np.float32)
        scores = {q: {self.numbers.of(text): score for text, score in own.items()} for q, own in taught.items()}
        numbers = zip(instances, self.numbers.texts.tolist(), strict=True)
        rows = [[scores.get(row.pair.query_id, {}).get(number, np.nan) for number in own] for row, own in numbers]
        return np.asarray(rows, np.float32)

    def _keep(self, name: str, values: np.ndarray) -> None:
        """Register a buffer that moves to the device with the loss, but is not saved in checkpoints."""
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def from_embeddings(self, queries: Tensor, texts: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss of `queries` (batch, dim) against `texts`, 1 + n tensors (batch, dim)."""
        # float32: a bfloat16 score is off by up to .004, and a temperature of .05 turns that into .08
        with torch.autocast(queries.device.type, enabled=False):
            candidates = torch.cat(list(texts)).float()
            if torch.distributed.is_initialized():
                candidates = all_gather_with_grad(candidates)
            batch = self._batch(labels, len(texts), queries.device)
            # (batch, candidates): scores, then log weights, with -inf for masked texts
            scores = self._scores(queries.float(), candidates)
            bias = self._bias(batch)
            logits = scores + bias
            if self.config.order != "softmax":
                # written near-misses leave the softmax; the term added below ranks them
                own = self._own(batch)
                written, related, other = (
                    self._from(source, own, batch, bias) for source in (SYNTHETIC, RELATED, READ)
                )
                kept = logits.gather(1, own[:, 1:]).masked_fill(written, -torch.inf)
                logits = logits.scatter(1, own[:, 1:], kept)
            # (batch, candidates): log of each candidate's share of its query's softmax
            log_shares = logits.log_softmax(1)
            target = log_shares.gather(1, batch.places.unsqueeze(1))
            self._note_mass(log_shares.detach(), target.detach(), batch)
            loss = -target.mean()
            if self.config.regulariser:
                negatives = logits.scatter(1, batch.places.unsqueeze(1), -torch.inf)
                synthetic = self._sources_of(batch) == self._code(SYNTHETIC)
                loss = loss + self.config.regulariser * fair_share(negatives, bias, synthetic)
            if self.config.order != "softmax":
                standing = Standing.of(scores, own, written | related, torch.isinf(bias), other)
                loss = loss + self.config.order_weight * order_term(self.config.order, standing)
            if self.config.distil and len(self._taught):
                own = scores.gather(1, self._own(batch))
                grades = self._taught[torch.as_tensor(batch.rows, device=self._taught.device)].to(own.device)
                loss = loss + self.config.distil * taught_term(own, grades[:, : batch.columns])
            elif self.config.distil:
                loss = loss + self.config.distil * self._distilled(log_shares, bias, batch)
            self.course.losses.append(loss.detach())
        return loss

    def _batch(self, labels: Tensor, columns: int, device: torch.device) -> Batch:
        """The batch for this process's `labels` (rows,), with the rows of all processes."""
        mine = labels.view(-1)
        everyone = (all_gather(mine) if torch.distributed.is_initialized() else mine).to(device)
        size, first = len(mine), get_rank() * len(mine) if torch.distributed.is_initialized() else 0
        by_process = everyone.tolist()  # the only wait for the device in a step
        rows = by_process[first : first + size]
        processes = len(by_process) // size
        numbers = self.numbers.texts[by_process, :columns].reshape(processes, size, columns).transpose(0, 2, 1)
        owners = torch.arange(processes * size, device=device).view(processes, 1, size).expand(-1, columns, -1)
        own = torch.arange(first, first + size, device=device)
        places = torch.arange(size, device=device) + first * columns
        return Batch(rows, everyone, columns, numbers.reshape(-1), places, owners.reshape(-1), own)

    def _own(self, batch: Batch) -> Tensor:
        """(rows, 1 + n): the places of each row's own candidates, its positive first."""
        size = len(batch.rows)
        return batch.places.unsqueeze(1) + torch.arange(batch.columns, device=batch.places.device) * size

    def _from(self, source: str, own: Tensor, batch: Batch, bias: Tensor) -> Tensor:
        """(rows, n): True for the negatives of a row that come from `source` and are not masked."""
        places = own[:, 1:]
        return (self._sources_of(batch) == self._code(source))[places] & torch.isfinite(bias.gather(1, places))

    def _by_candidate(self, values: Tensor, batch: Batch) -> Tensor:
        """One value (candidates,) for each candidate, from `values` (instances, 1 + n)."""
        size = len(batch.rows)
        chosen = values[batch.everyone, : batch.columns].view(-1, size, batch.columns)
        return chosen.transpose(1, 2).reshape(-1)

    def _scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """(batch, candidates): cosines divided by the temperature, or dot products times the scale."""
        if self.cosine:
            queries, candidates = nn.functional.normalize(queries, dim=-1), nn.functional.normalize(candidates, dim=-1)
        return queries @ candidates.T * self.scale

    def _base_scores(self, batch: Batch) -> Tensor:
        """(batch, candidates): scores by the untuned encoder, without temperature or scale."""
        queries = self._base_queries[torch.as_tensor(batch.rows, device=self._base_queries.device)]
        texts = self._base_texts[torch.as_tensor(batch.numbers, device=self._base_texts.device)]
        return (queries @ texts.T).to(batch.places.device)

    def _bias(self, batch: Batch) -> Tensor:
        """(batch, candidates): log weight of each candidate, -inf where it is masked for the row's query."""
        device = batch.places.device
        bias = self._by_candidate(self._log_weights.to(device), batch).repeat(len(batch.rows), 1)
        # mask all texts known to be relevant to the query, but keep the row's own positive: it is the target
        known = self.numbers.known_places(batch.rows, batch.numbers)
        i, j = (torch.from_numpy(places).to(device, non_blocking=True) for places in known)
        target = bias.gather(1, batch.places.unsqueeze(1))
        bias[i, j] = -torch.inf
        bias.scatter_(1, batch.places.unsqueeze(1), target)
        if self.config.guide:
            # mask texts of other rows that the untuned encoder takes for relevant
            scores = self._base_scores(batch)
            limit = margin_limit(scores.gather(1, batch.places.unsqueeze(1)), self.config.guide)
            foreign = batch.owners.unsqueeze(0) != batch.own.unsqueeze(1)
            bias = bias.masked_fill((scores > limit) & foreign, -torch.inf)
        return bias

    def _distilled(self, log_shares: Tensor, bias: Tensor, batch: Batch) -> Tensor:
        """KL divergence of our softmax from the untuned encoder's over the unmasked candidates, the mean over rows."""
        kept = torch.isfinite(bias)
        target = (self._base_scores(batch) * self.scale).masked_fill(~kept, -torch.inf).softmax(1)
        ours = log_shares.masked_fill(~kept, 0.0)
        return (target * (target.clamp_min(1e-12).log() - ours)).sum(1).mean()

    def _note_mass(self, log_shares: Tensor, own: Tensor, batch: Batch) -> None:
        """Record the gradient on negatives by source: on a score it equals the share of the softmax.

        Positives of other rows count as `in-batch`.
        """
        # shares over all candidates, the positive included: a query that is learnt already gives little gradient
        mass = log_shares.exp().sum(0).index_add(0, batch.places, -own.exp().view(-1))
        by_source = torch.zeros(len(self.numbers.source_names), device=mass.device)
        self.course.mass.append(by_source.index_add(0, self._sources_of(batch), mass.clamp_min(0)))

    def _sources_of(self, batch: Batch) -> Tensor:
        return self._by_candidate(self._sources.to(batch.places.device), batch)

    def _code(self, source: str) -> int:
        """The number of a source; -1 if no row has it."""
        names = self.numbers.source_names
        return names.index(source) if source in names else -1

    def get_config_dict(self) -> dict[str, float]:
        """The settings that sentence-transformers writes into a model card."""
        return {"scale": self.scale}
