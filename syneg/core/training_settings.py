"""Settings of training, compiling, evaluation and the verdict.

TrainConfig().arms → ("mined", "hybrid")
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .section import Above, Count, Fraction, NonNegative, OwnProgram, Positive, Section, own_program


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands twice: the same training would count as two")
    return seeds


def _own_programs(arms: tuple[str, ...]) -> tuple[str, ...]:
    """Arms with the saved programs that they name as absolute paths; an @ in a path would end it."""

    def own(part: str) -> str:
        path = own_program(part.removeprefix("program="))
        return f"program={path}" if part.startswith("program=") and "@" not in path else part

    return tuple("@".join(map(own, arm.split("@"))) for arm in arms)


class MixConfig(Section):
    """How mined and synthetic negatives share a training row."""

    negatives: Positive = 3
    "Hard negatives in each training row."
    ratio: NonNegative = 0.5
    "Synthetic to retrieved negatives inside a row (SyNeg draws 1 + 2 = 0.5, and finds 0.7 best)."
    weight: Above = 1.0
    "Weight of a synthetic negative in the softmax; a retrieved one has 1."
    confidence: bool = False
    "Weigh a synthetic negative less as its score approaches the positive's: such texts are more often relevant."


class TrainConfig(Section):
    """Fine-tuning the encoder, the same way for every arm."""

    pairs: Count = 0
    "Train queries used by every arm, each with all its positives; 0 = all."
    arms: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_own_programs)] = ("mined", "hybrid")
    (
        "Arms: in-batch, bm25, mined, verified, graded, synthetic, dataset-mix or hybrid, each also with settings of "
        "its own."
    )
    seeds: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_distinct)] = (0,)
    "Seeds that each arm is trained with."
    positives: Literal["draw", "rows", "first"] = "draw"
    "A query with several positives: one drawn each epoch (draw), a row for each (rows), or the highest graded (first)."
    epochs: Above = 2.0
    "Passes over the training rows; each draws the negatives of a row anew where more are mined than it has places."
    batch_size: Positive = 16
    "Rows of a batch."
    learning_rate: Above | Literal["auto"] = "auto"
    "Peak learning rate; auto goes by the size of the encoder (syneg.training.weights)."
    warmup: Fraction = 0.1
    "Share of the steps in which the learning rate rises."
    temperature: Above = 0.05
    "Temperature of the softmax (InfoNCE) over cosines."
    scale: Above = 1.0
    "Factor of the scores of an encoder of dot-product similarity, in place of the temperature."
    dropout: Fraction = 0.0
    "Dropout of the encoder in training."
    evals: Positive = 2
    "Evaluations on dev in one training; the best of them is kept."
    patience: Count = 0
    "Evaluations without gain after which a training stops early; 0 = never. Needs more evals than this."
    dev_passages: Positive = 1000
    "Passages of the corpus that dev evaluations rank."
    guide: NonNegative = 0.0
    "Mask in-batch texts that the base encoder puts over this share of the positive's score; 0 = off."
    regulariser: NonNegative = 0.0
    "Weight of the term that keeps synthetic negatives from taking more than their share of the softmax; 0 = off."
    order: Literal["softmax", "pairwise", "listwise", "graded"] = "softmax"
    (
        "Synthetic negatives as wrong as any passage (softmax), or under the positive and above other rows (listwise, "
        "graded)."
    )
    order_weight: Above = 0.1
    "Weight of the term that keeps that order."
    distil: NonNegative = 0.0
    "Weight of the term that keeps the ranking of a row near the base encoder's; 0 = off."
    curriculum: bool = False
    "Train from easy rows to hard ones."
    alphas: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (1.0,)
    "Shares of the tuned weights to try on dev, mixed with those of the base; 1 alone keeps them as trained."
    frozen_layers: Count | Literal["half"] = 0
    "Lower layers that are not trained, with their output cached: a number, or half."
    cached_chunk: Count = 0
    "Texts embedded at once under a gradient cache, for batches that do not fit; 0 = off."
    processes: Count = 1
    "Training processes on this machine, or GPUs; 0 = only write the jobs down, to be launched by hand."


class CompileConfig(Section):
    """Compiling the program (`syneg.run.compile`). `calls`, `tokens`, `usd` and `minutes` limit proposing and
    choosing."""

    target: Literal["writer", "reader", "sampler"] = "writer"
    (
        "What is improved: the program that writes negatives (writer), the one that grades passages (reader), or how "
        "negatives are chosen and mixed (sampler, which needs no optimizer)."
    )
    optimizer: Literal["none", "search", "gepa", "mipro", "simba", "copro", "bootstrap"] = "none"
    "Recipe that proposes programs."
    pairs: Annotated[int, Field(ge=4)] = 16
    "Train queries that candidates are tried on."
    proposals: Positive = 6
    "Programs to propose."
    calls: Count = 600
    "Most LM calls; 0 = no limit."
    tokens: Count = 0
    "Most tokens; 0 = no limit."
    usd: NonNegative = 0.0
    "Most dollars; 0 = no limit."
    minutes: NonNegative = 12.0
    "Most minutes; 0 = no limit."
    threshold: Fraction | Literal["auto"] = "auto"
    "Value of an answer from which it may become a demo; auto is .5 for a writer and .9 for a reader."
    confirm: bool = True
    "Let queries that no proposal has seen decide between the program that won and the first one; for a writer by full training."
    confirm_seeds: Positive = 2
    "Seeds of that training."
    confirm_queries: Count | Literal["auto"] = "auto"
    (
        "Labelled queries that decide between two readers: train, dev and confirm, beside those of the proposals; 0 = "
        "all; auto is 300, or 60 with an embedded LM."
    )

    def improves(self, target: str) -> bool:
        """Whether the program of `target` is compiled."""
        return self.optimizer != "none" and self.target == target


class ProbeConfig(Section):
    """The stand-in for full training (`syneg.optimizers.probe`)."""

    layers: Positive = 3
    "Upper layers that are trained."
    max_tokens: Positive = 128
    "Tokens of a text."
    queries: Positive = 400
    (
        "Held-out queries: dev, then train queries beside the pairs, then, where these are too few, the pairs' own in "
        "folds."
    )
    passages: Positive = 1000
    "Passages that are ranked."
    folds: Annotated[int, Field(ge=2)] = 2
    "Folds of the pairs' own queries."
    seeds: Positive = 1
    "Seeds of a probe."
    epochs: Above = 2.0
    "Passes over the rows."
    steps: Positive = 16
    "Fewest steps."
    learning_rate: Above | Literal["auto"] = "auto"
    "Learning rate; auto is that of training with frozen layers."


class BoundaryConfig(Section):
    """The boundary test: near-misses for held-out queries, put into the corpus."""

    queries: Count | Literal["auto"] = "auto"
    "Held-out queries that get near-misses; auto is as many as train queries are written for, 16 to 400; 0 = off."
    program: OwnProgram = "auto"
    "Program that writes them; auto is one that no arm trains on."


class EvaluateConfig(Section):
    """Evaluation and its test of significance."""

    depth: Annotated[int, Field(ge=100)] = 100
    "Passages kept of each ranking; recall@100 looks at 100."
    folds: Count = 5
    "Folds in which every query is tested once, where a test split cut here would have under 50 queries; 0 = off."
    alpha: Fraction = 0.05
    "Level of significance after Holm's correction over the comparisons of the verdict."


class TrackConfig(Section):
    """Trackers that a finished run is logged to (`syneg.verdict.tracking`)."""

    mlflow: str | None = None
    "MLflow experiment."
