"""Settings: each with its default and its limits, in sections.

    Config().generate.pairs → 40

Secrets have no key here: they stay in the provider's own environment variables. A CLI flag, its key and its field share
one name. How they are read and written: `syneg.core.settings`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectionConfig(Section):
    """What to read, and how the queries of a set without splits are divided (by a hash of seed and query text).

    `on_leak`: a query that stands in two splits stops the run (`fail`) or leaves the earlier split with a warning
    (`drop`); `auto` drops in published sets, which nobody can mend (SciFact has two), and fails on one's own files.
    """

    dataset: str = "python-docs"
    corpus: str | None = None
    task: str | None = None
    dev: Fraction = 0.15
    confirm: Fraction = 0.10
    test: Fraction = 0.25
    max_bad_rows: Fraction = 0.01
    on_leak: Literal["auto", "fail", "drop"] = "auto"


class EncoderConfig(Section):
    """Any sentence-transformers model; prompts default to the model's own, then to those of its family."""

    model: str = "local/minilm"
    query_prompt: str | None = None
    passage_prompt: str | None = None
    max_tokens: Positive = 192
    batch_size: Positive = 64
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class MineConfig(Section):
    """`margin`: a mined passage must score under this share of the positive's score (NV-Retriever, 95 %). `index`: a factory string
    of faiss, or `auto` (`syneg.retrieval.indexes`)."""

    sources: tuple[Literal["dense", "bm25"], ...] = ("dense", "bm25")
    first_rank: Positive = 1
    last_rank: Positive = 50
    per_query: Positive = 12
    margin: Annotated[float, Field(gt=0)] = 0.95
    index: str = "auto"


class LMConfig(Section):
    """`model`: any litellm model string, or `local/NAME`, or `local/PATH.gguf`. How calls flow: see `syneg.llm.flow`; 0 = no
    limit of calls or tokens a minute. `engine` `native` is DSPy's own
    client in place of litellm: less work for each call, fewer providers."""

    model: str = "local/qwen2.5-coder-1.5b"
    api_base: str | None = None
    adapter: Literal["auto", "compact", "json", "chat", "xml"] = "auto"
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    max_tokens: Positive = 320
    timeout_s: Annotated[float, Field(gt=0)] = 180.0
    retries: Count = 4
    concurrency: Positive = 4
    max_rpm: Count = 0
    max_tpm: Count = 0
    breaker: Positive = 8
    engine: Literal["litellm", "native"] = "litellm"


FLOW = ("timeout_s", "retries", "concurrency", "max_rpm", "max_tpm", "breaker", "engine")  # decide no answer


class ExecutorConfig(Section):
    """Where LM calls and the encoder's forward passes run: in this process, or on Ray (`syneg.run.cluster`). `address` is that of
    a running cluster (`auto` finds one on this machine), without it Ray starts on this machine; `workers` are processes
    of each kind, 0 = one for each node."""

    use: Literal["threads", "ray"] = "threads"
    address: str | None = None
    workers: Count = 0


class GenerateConfig(Section):
    """`pairs`: how many train pairs get synthetic negatives (0 = all); `passage_words` cuts the passages shown.

    `shard` `2/8` writes for every eighth pair from the second on, so that eight machines share the work; their negatives.jsonl are
    joined by `given`. `given` is a JSONL of negatives to take in place of writing any (`syneg.negatives.given`). `program` `auto` goes by the measured strength of the LM (`syneg.negatives.strength`). Without `domains` a task's own are
    used, or, with `plan`, those that the LM names from a sample of the corpus.
    """

    program: str = "auto"
    given: str | None = None
    pairs: Count = 40
    shard: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] = "1/1"
    per_pair: Positive = 1
    attempts: Positive = 2
    passage_words: Positive = 200
    plan: bool = False
    domains: tuple[str, ...] = ()
    difficulties: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


class GatesConfig(Section):
    """Thresholds of the gates, in the order in which they are tried; 0 switches one off.

    `script`: share of letters of scripts foreign to the corpus; `language`: frequent trigrams, relative to the corpus;
    `length_*`: words relative to the positive shown; `query_words`: queries at least this long must not be repeated;
    `*_ngram`: share of word 4-grams copied; `*_cosine`, and query cosine relative to that of the positive: `floor`,
    `margin` (where no trusted judge decides).
    """

    min_words: Count = 5
    script: Fraction = 0.1
    language: Annotated[float, Field(ge=0)] = 0.92
    length_low: Annotated[float, Field(ge=0)] = 0.25
    length_high: Annotated[float, Field(ge=0)] = 4.0
    query_words: Count = 3
    positive_ngram: Fraction = 0.3
    parent_ngram: Fraction = 0.5
    sibling_ngram: Fraction = 0.5
    positive_cosine: Fraction = 0.95
    sibling_cosine: Fraction = 0.95
    floor: Annotated[float, Field(ge=0)] = 0.4
    margin: Annotated[float, Field(ge=0)] = 0.95


class JudgeConfig(Section):
    """`use` `auto`: where the LM's measured strength is enough to be worth its calls. `model` is the writer's if not given.

    A judge is trusted when its agreement with `sample` labelled passages of the collection has a Cohen's kappa of at
    least `min_kappa` and is better than chance (binomial test, p < .05).
    """

    use: Literal["auto", "on", "off"] = "auto"
    model: str | None = None
    sample: Annotated[int, Field(ge=8)] = 40
    min_kappa: Annotated[float, Field(ge=0, le=1)] = 0.6


class BudgetConfig(Section):
    """Hard limits of one command on what all its LMs use together, answers from the ledger aside; 0 = none."""

    calls: Count = 0
    tokens: Count = 0
    usd: Annotated[float, Field(ge=0)] = 0.0
    minutes: Annotated[float, Field(ge=0)] = 0.0


class MixConfig(Section):
    """`ratio`: synthetic to retrieved inside an instance (SyNeg draws 1 + 2 = 0.5, and finds 0.7 best).

    `weight`: of a synthetic negative in the softmax, where a retrieved one has 1; with `confidence` it is less the nearer
    the text comes to the score of the positive, as the texts that do so are more often relevant.
    """

    negatives: Positive = 3
    ratio: Annotated[float, Field(ge=0)] = 0.5
    weight: Annotated[float, Field(gt=0)] = 1.0
    confidence: bool = False


class TrainConfig(Section):
    """`pairs`: train pairs used by every arm (0 = all); `evals`: dev evaluations per run, for the early stop.

    `learning_rate` `auto` goes by the size of the encoder (`syneg.training.weights.learning_rate`).

    `arms`: see `syneg.run.arms`. `guide`: in-batch texts that the base encoder puts over this share of the positive's score
    are masked (0 = off). `regulariser` and `distil` weigh what `syneg.training.loss` adds under these names. `curriculum`: rows from
    easy to hard. `alphas`: shares of the tuned weights to try on dev, mixed with those of the base; 1 alone leaves them as
    trained. `frozen_layers`: lower layers that stay as they are (a number or `half`), with their output kept. `cached_chunk`: texts embedded at
    once under a gradient cache, for batches that do not fit (0 = off). `processes`: on this machine, or GPUs.
    """

    pairs: Count = 400
    arms: Annotated[tuple[str, ...], Field(min_length=1)] = ("mined", "hybrid")
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    epochs: Annotated[float, Field(gt=0)] = 2.0
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    warmup: Fraction = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.05
    dropout: Fraction = 0.0
    evals: Positive = 2
    patience: Positive = 2
    dev_passages: Positive = 1000
    guide: Annotated[float, Field(ge=0)] = 0.0
    regulariser: Annotated[float, Field(ge=0)] = 0.0
    distil: Annotated[float, Field(ge=0)] = 0.0
    curriculum: bool = False
    alphas: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (1.0,)
    frozen_layers: Count | Literal["half"] = 0
    cached_chunk: Count = 0
    processes: Positive = 1


class CompileConfig(Section):
    """Compiling the program (`syneg.run.compile`): by what `optimizer`, on how many train `pairs`, with how many `proposals`.

    `calls`, `tokens`, `usd` and `minutes` are hard limits (0 = none) of proposing and choosing. `near`: dev queries that get
    near-misses, for the boundary as a second objective (0 = none). `reflection` is the LM that proposes, the writer's if
    not given. `threshold`: value of an answer from which it may become a demo. `confirm`: full training decides, with
    `confirm_seeds` seeds; the program that wins and the first one write for it as `generate` does.
    """

    optimizer: Literal["none", "search", "gepa", "mipro", "simba", "copro", "bootstrap"] = "none"
    pairs: Annotated[int, Field(ge=4)] = 16
    proposals: Positive = 6
    calls: Count = 600
    tokens: Count = 0
    usd: Annotated[float, Field(ge=0)] = 0.0
    minutes: Annotated[float, Field(ge=0)] = 12.0
    near: Count = 12
    reflection: str | None = None
    reflection_tokens: Positive = 700
    threshold: Fraction = 0.5
    confirm: bool = True
    confirm_seeds: Positive = 2


class ProbeConfig(Section):
    """The stand-in for full training (`syneg.optimizers.probe`): the last `layers` layers, trained for `epochs` and at least
    `steps`, with `seeds` seeds, and scored on `queries` held-out queries (dev, then train queries beside the pairs, then, where
    these are too few, the pairs' own in `folds` folds) over `passages` passages of at most `max_tokens` tokens. `learning_rate`
    `auto` is that of training with frozen layers."""

    layers: Positive = 3
    max_tokens: Positive = 128
    queries: Positive = 400
    passages: Positive = 1000
    folds: Annotated[int, Field(ge=2)] = 2
    seeds: Positive = 1
    epochs: Annotated[float, Field(gt=0)] = 2.0
    steps: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"


class BoundaryConfig(Section):
    """The boundary test: near-misses for `queries` held-out queries (0 = off) by `program`; `auto` is one that no arm trains
    on."""

    queries: Count = 16
    program: str = "auto"


class EvaluateConfig(Section):
    """`alpha`: the level of significance after Holm's correction over the comparisons of the verdict."""

    depth: Positive = 100
    alpha: Fraction = 0.05


class TrackConfig(Section):
    """`mlflow`: the experiment that a finished run is logged to (`syneg.verdict.tracking`)."""

    mlflow: str | None = None


class Config(Section):
    """All settings of a run."""

    seed: int = 0
    collection: CollectionConfig = CollectionConfig()
    encoder: EncoderConfig = EncoderConfig()
    mine: MineConfig = MineConfig()
    lm: LMConfig = LMConfig()
    executor: ExecutorConfig = ExecutorConfig()
    generate: GenerateConfig = GenerateConfig()
    gates: GatesConfig = GatesConfig()
    judge: JudgeConfig = JudgeConfig()
    budget: BudgetConfig = BudgetConfig()
    mix: MixConfig = MixConfig()
    train: TrainConfig = TrainConfig()
    compile: CompileConfig = CompileConfig()
    probe: ProbeConfig = ProbeConfig()
    boundary: BoundaryConfig = BoundaryConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    track: TrackConfig = TrackConfig()
