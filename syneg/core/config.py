"""Settings: each with its default, its limits and a line that describes it, in sections.

    Config().generate.pairs → 40
    GenerateConfig.model_fields["pairs"].description → "Train pairs that get synthetic negatives; 0 = all."

Secrets have no key here: they stay in the provider's own environment variables. A CLI flag, its key and its field share
one name. How settings are read and written: `syneg.core.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from .lm_settings import (
    FLOW,
    BudgetConfig,
    ExecutorConfig,
    GatesConfig,
    GenerateConfig,
    JudgeConfig,
    LMConfig,
    QueriesConfig,
    ReaderConfig,
    ReflectionConfig,
    RoleLM,
)
from .section import Above, Count, Fraction, NonNegative, OwnPath, Positive, Section
from .training_settings import (
    BoundaryConfig,
    CompileConfig,
    EvaluateConfig,
    MixConfig,
    ProbeConfig,
    TrackConfig,
    TrainConfig,
)


class CollectionConfig(Section):
    """What to read, and how the queries of a set without splits are divided."""

    dataset: OwnPath = "python-docs"
    (
        "python-docs(-small), an id of ir_datasets or the Hugging Face hub, a folder (BEIR, TREC, train.jsonl …), or "
        "a file of pairs."
    )
    corpus: OwnPath | None = None
    "File of passages (CSV, TSV, JSONL, Parquet) that goes with a file of pairs; alone, queries are written for it."
    columns: str = ""
    "Names of columns that are not recognised, as in query=title,positive=body."
    encoding: str = "auto"
    "Encoding of the files: auto reads UTF-8, and UTF-16 with its mark; or a name such as cp1252."
    min_relevance: Above | None = None
    (
        "Lowest grade that counts as relevant (1 if not given); nDCG takes grades as judged. With it fractions are "
        "read, too."
    )
    task: str | None = None
    "What relevant means: a known task, or your own words."
    dev: Fraction = 0.15
    "Share of the queries for dev, where the set has no dev split."
    confirm: Fraction = 0.10
    "Share of the queries for confirm, which only compiling uses."
    test: Fraction = 0.25
    "Share of the queries for test, where the set has no test split."
    max_bad_rows: Fraction = 0.01
    "Share of unusable rows of a file from which reading stops."
    on_leak: Literal["auto", "fail", "drop"] = "auto"
    (
        "A query in two splits: fail stops, drop leaves the earlier split; auto drops in published sets, fails on "
        "your files."
    )
    divide_test: bool = False
    "Divide a set of your own that has test queries only; without it such a set is refused."

    @model_validator(mode="before")
    @classmethod
    def _corpus_alone(cls, tree: Any) -> Any:
        """A corpus without a data set has no queries."""
        alone = isinstance(tree, Mapping) and tree.get("corpus") and not tree.get("dataset")
        return {**tree, "dataset": ""} if alone else tree


class EncoderConfig(Section):
    """The encoder that is tuned: any sentence-transformers model."""

    model: OwnPath = "local/minilm"
    "sentence-transformers model, on disk or on the hub, or local/minilm."
    revision: str | None = None
    "Branch, tag or commit of a model on the hub."
    trust_remote_code: bool = False
    "Run the Python code that the model's repository brings; read it first."
    device: str = "auto"
    "cpu, cuda, cuda:1 or mps; auto takes the first that is there."
    query_prompt: str | None = None
    "Text put before each query; the model's own, or its family's, if not given; empty for none."
    passage_prompt: str | None = None
    "Text put before each passage; the model's own, or its family's, if not given; empty for none."
    max_tokens: Count = 0
    "Tokens of a text; longer ones are cut. 0 = the model's own limit, which is never raised."
    pooling: Literal["auto", "cls", "mean", "max", "lasttoken", "weightedmean"] = "auto"
    "How token vectors become one vector; auto is what the model says."
    similarity: Literal["auto", "cosine", "dot"] = "auto"
    "How a query and a passage are compared; auto is what the model says, else cosine."
    batch_size: Positive = 64
    "Texts embedded at once."
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    "Number format of forward passes; auto is bf16 where the hardware computes in it."
    cache_gb: NonNegative = 20.0
    "Largest size of the embedding cache in GB; what was used longest ago goes first; 0 = no limit."


class MineConfig(Section):
    """Hard negatives out of the corpus."""

    sources: tuple[Literal["dense", "bm25"], ...] = ("dense", "bm25")
    "Rankings that passages are taken from."
    first_rank: Positive = 1
    "First rank of the window."
    last_rank: Positive = 50
    "Last rank of the window."
    per_query: Positive = 12
    "Most mined negatives of a query."
    margin: Above | Literal["auto"] = 0.95
    (
        "Highest score, relative to the positive's (NV-Retriever: 95 %; 10 is none); auto tries several on dev, in "
        "some minutes."
    )
    index: str = "auto"
    "faiss factory string of the index that mining, gates, judging and dev sets search, or auto; evaluation is exact."


class Config(Section):
    """All settings of a run."""

    seed: int = 0
    "Seed of splits, shuffles and sampling."

    @property
    def writes_queries(self) -> bool:
        """Whether there is a corpus without queries, which are then written."""
        return not self.collection.dataset and self.collection.corpus is not None

    @property
    def source(self) -> str:
        """The data set, or the corpus where there is nothing else: what a run folder is of."""
        return self.collection.dataset or self.collection.corpus or ""

    collection: CollectionConfig = Field(default_factory=CollectionConfig)
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    mine: MineConfig = Field(default_factory=MineConfig)
    lm: LMConfig = Field(default_factory=LMConfig)
    executor: ExecutorConfig = Field(default_factory=ExecutorConfig)
    queries: QueriesConfig = Field(default_factory=QueriesConfig)
    generate: GenerateConfig = Field(default_factory=GenerateConfig)
    gates: GatesConfig = Field(default_factory=GatesConfig)
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    reader: ReaderConfig = Field(default_factory=ReaderConfig)
    reflection: ReflectionConfig = Field(default_factory=ReflectionConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    mix: MixConfig = Field(default_factory=MixConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    compile: CompileConfig = Field(default_factory=CompileConfig)
    probe: ProbeConfig = Field(default_factory=ProbeConfig)
    boundary: BoundaryConfig = Field(default_factory=BoundaryConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    track: TrackConfig = Field(default_factory=TrackConfig)


__all__ = [
    "FLOW", "BoundaryConfig", "BudgetConfig", "CollectionConfig", "CompileConfig", "Config", "EncoderConfig",
    "EvaluateConfig", "ExecutorConfig", "GatesConfig", "GenerateConfig", "JudgeConfig", "LMConfig", "MineConfig",
    "MixConfig", "ProbeConfig", "QueriesConfig", "ReaderConfig", "ReflectionConfig",
    "RoleLM", "Section",
    "TrackConfig", "TrainConfig",
]  # fmt: skip
