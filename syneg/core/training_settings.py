"""Settings of training, compiling, evaluation and the verdict.

TrainConfig().arms → ("mined", "hybrid")
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .section import (
    Above,
    Count,
    Fraction,
    NonNegative,
    OwnModel,
    OwnPath,
    OwnProgram,
    Positive,
    Section,
    items_of,
    own_program,
)


def _no_number(seeds: Any) -> Any:
    """Refuse a number alone. `--seeds 3` and an arm's `seeds=3` are three seeds, which it could mean here as well."""
    if isinstance(seeds, int) or (isinstance(seeds, str) and seeds.strip().isdecimal()):
        raise ValueError(f"takes a list of seeds, as in 0,1,2; their number is --seeds {seeds}")
    return items_of(seeds)


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed occurs twice: the same training would count as two")
    return seeds


Seeds = Annotated[tuple[int, ...], Field(min_length=1), BeforeValidator(_no_number), AfterValidator(_distinct)]


def _own_programs(arms: tuple[str, ...]) -> tuple[str, ...]:
    """Arms with the saved programs that they name as absolute paths; an @ in a path would end it."""

    def own(part: str) -> str:
        path = own_program(part.removeprefix("program="))
        return f"program={path}" if part.startswith("program=") and "@" not in path else part

    return tuple("@".join(map(own, arm.split("@"))) for arm in arms)


class MixConfig(Section):
    """Mixing mined and synthetic negatives in a training row."""

    negatives: Positive = 3
    "Hard negatives in each training row."
    ratio: NonNegative = 0.5
    "Synthetic negatives per mined negative in a row. SyNeg uses 0.5 (1 synthetic, 2 mined) and finds 0.7 best."
    weight: Above = 1.0
    "Weight of a synthetic negative in the softmax; a mined one has 1."
    confidence: bool = False
    "Lower the weight of a synthetic negative as its score nears the positive's, because it is more often relevant."
    base: Literal["mined", "verified", "grounded"] = "mined"
    "The arm from which hybrid takes the negatives beside its synthetic ones."


class TrainConfig(Section):
    """Fine-tuning the encoder. Every arm is trained with the same settings."""

    pairs: Count = 0
    "Train queries for every arm, each with all its positives; 0 = all."
    arms: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_own_programs)] = ("mined", "hybrid")
    (
        "Arms: in-batch, bm25, mined, verified, graded, grounded, synthetic, dataset-mix or hybrid. An arm may have "
        "its own settings, as in hybrid@ratio=0.7."
    )
    seeds: Seeds = (0,)
    "Seeds to train each arm with."
    positives: Literal["draw", "rows", "first"] = "draw"
    "For a query with several positives: draw one each epoch (draw), a row for each (rows), or the best only (first)."
    epochs: Above = 2.0
    "Passes over the training rows. Each pass draws the negatives of a row again if more are mined than fit."
    remine: Count = 0
    (
        "Epochs after which mined, hybrid and dataset-mix mine again, with the encoder as trained so far; 0 = never. "
        "Must be less than epochs."
    )
    batch_size: Positive = 16
    "Rows per batch."
    learning_rate: Above | Literal["auto"] = "auto"
    "Peak learning rate; auto chooses by the size of the encoder (syneg.training.weights)."
    warmup: Fraction = 0.1
    "Share of the steps in which the learning rate rises."
    temperature: Above = 0.05
    "Temperature of the softmax (InfoNCE) over cosines."
    scale: Above = 1.0
    "Factor for the scores of a dot-product encoder, in place of the temperature."
    dropout: Fraction = 0.0
    "Dropout of the encoder during training."
    evals: Positive = 2
    "Evaluations on dev per training; the best model of them is kept."
    patience: Count = 0
    "Stop a training after this number of evaluations without gain; 0 = never. Must be less than evals."
    dev_passages: Positive = 1000
    "Passages to rank in an evaluation on dev."
    guide: NonNegative = 0.0
    "Mask an in-batch text if the base encoder scores it over this share of the positive's score; 0 = off."
    regulariser: NonNegative = 0.0
    "Weight of a loss term that limits synthetic negatives to their share of the softmax; 0 = off."
    order: Literal["softmax", "pairwise", "listwise", "graded"] = "softmax"
    (
        "softmax treats a synthetic negative like any other passage; pairwise also keeps it under the positive; "
        "listwise and graded also above the passages of other rows."
    )
    order_weight: Above = 0.1
    "Weight of the loss term for that order."
    distil: NonNegative = 0.0
    "Weight of a loss term that keeps the ranking of a row close to the teacher's; 0 = off."
    teacher: OwnModel = "base"
    (
        "Teacher of that ranking: base (the untuned encoder), reader (its grades), cross-encoder "
        "(reader.cross_encoder), or a JSONL of query_id, doc_id, score. Its order has to beat the encoder's on dev."
    )
    curriculum: bool = False
    "Train on easy rows first, then on hard ones."
    alphas: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.5, 0.75, 1.0)
    "Shares of the tuned weights to try on dev in a mix with the base weights; 1 alone keeps the tuned weights."
    frozen_layers: Count | Literal["half"] = 0
    "Lower layers that are not trained and whose output is cached: a number, or half."
    cached_chunk: Count = 0
    "Texts embedded at a time under a gradient cache, for batches that do not fit into memory; 0 = off."
    processes: Count = 1
    "Training processes on this machine, one per GPU; 0 = only write the jobs, for you to launch."


class CompileConfig(Section):
    """Compiling a program (`syneg.run.compile`). `calls`, `tokens`, `usd` and `minutes` limit the search, not the
    confirmation."""

    target: Literal["writer", "reader", "queries", "sampler"] = "writer"
    (
        "What is improved: the program that writes negatives (writer), grades passages (reader) or writes queries "
        "(queries), or how negatives are chosen and mixed (sampler, which needs no optimizer)."
    )
    optimizer: Literal["none", "search", "gepa", "mipro", "simba", "copro", "bootstrap"] = "none"
    "Recipe that proposes programs."
    pairs: Annotated[int, Field(ge=4)] = 16
    "Train queries that candidates are tried on."
    proposals: Positive = 6
    "Programs to propose."
    width: Positive | Literal["auto"] = "auto"
    "Proposals side by side (recipe search); auto is 4, or 1 with an embedded LM."
    calls: Count = 600
    "Most LM calls; 0 = no limit."
    tokens: Count = 0
    "Most tokens; 0 = no limit."
    usd: NonNegative = 0.0
    "Most dollars; 0 = no limit."
    minutes: NonNegative = 12.0
    "Most minutes; 0 = no limit."
    threshold: Fraction | Literal["auto"] = "auto"
    "Lowest value of an answer that may become a demo; auto is .5 for a writer, and .9 for queries or a reader."
    confirm: bool = True
    "Compare the winner with the original program on queries that no proposal has seen; for a writer by full training."
    confirm_seeds: Positive = 3
    "Seeds of that training."
    confirm_queries: Count | Literal["auto"] = "auto"
    (
        "Labelled queries that decide between two programs, none of them seen by a proposal: for readers from train, "
        "dev and confirm, for writers from confirm and train; for writers of queries passages; 0 = all; auto is 300, "
        "or 60 with an embedded LM."
    )
    test: bool = False
    "Compare a reader that won once more with the first one, on the test queries. It changes nothing."

    def improves(self, target: str) -> bool:
        """Whether the program of `target` is compiled."""
        return self.optimizer != "none" and self.target == target


class ProbeConfig(Section):
    """The probe: a short training that takes the place of full training during a search (`syneg.optimizers.probe`)."""

    layers: Positive = 3
    "Upper layers to train."
    max_tokens: Positive = 128
    "Most tokens of a text."
    queries: Positive = 400
    "Held-out queries: from dev, then other train queries; if these are too few, the pairs' own queries in folds."
    passages: Positive = 1000
    "Passages to rank."
    folds: Annotated[int, Field(ge=2)] = 2
    "Folds of the pairs' own queries."
    seeds: Positive = 1
    "Seeds per probe."
    epochs: Above = 2.0
    "Passes over the rows."
    steps: Positive = 16
    "Fewest steps."
    learning_rate: Above | Literal["auto"] = "auto"
    "Learning rate; auto is the rate of training with frozen layers."


class BoundaryConfig(Section):
    """The boundary test: it adds written near-misses for held-out queries to the corpus.

    A compilation of the writer has near-misses of its own: as many as `queries` says for the queries that compare its
    candidates, and for those that decide. auto is then 250 and 375, and more where the gates leave under 200 and 300;
    or none if an embedded LM would write them.
    """

    queries: Count | Literal["auto"] = "auto"
    (
        "Held-out queries with near-misses; auto is 500, of which 400 pass the gates, or with an embedded LM as many "
        "as train queries get negatives, from 16 on; 0 = off."
    )
    program: OwnProgram = "auto"
    "Program that writes the near-misses; auto is one that no arm trains on."
    model: OwnPath | None = None
    "litellm model string of another LM for the near-misses; the writer if not given."
    api_base: str | None = None
    "Address of its server."


class EvaluateConfig(Section):
    """Evaluation and its significance test."""

    depth: Annotated[int, Field(ge=100)] = 100
    "Passages to keep of each ranking; recall@100 needs 100."
    folds: Count = 5
    "Folds for cross-fitting if a test split cut here would have under 50 queries; each query is tested once; 0 = off."
    alpha: Fraction = 0.05
    "Significance level after Holm's correction for the number of comparisons."


class TrackConfig(Section):
    """Logging a finished run to a tracker (`syneg.verdict.tracking`)."""

    mlflow: str | None = None
    "Name of the MLflow experiment."
