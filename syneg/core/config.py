"""Every setting with its default, its limits and a description, grouped in sections.

    Config().generate.pairs → 40
    GenerateConfig.model_fields["pairs"].description → "Train pairs that get synthetic negatives; 0 = all."

A CLI flag, its key in TOML and its field share one name. API keys have no setting: they stay in the environment
variables of their provider. `syneg.core.settings` reads and writes settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

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
from .section import Above, Count, Fraction, Name, NonNegative, OwnModel, OwnPath, Positive, Section
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
    """Which data to read, and how to divide the queries of a data set without splits."""

    dataset: OwnPath = "python-docs"
    (
        "A file of pairs, a folder (BEIR, TREC, or train.jsonl and test.jsonl), an id of ir_datasets or the Hugging "
        "Face hub, python-docs, or python-docs-small."
    )
    corpus: OwnPath | None = None
    "File of passages (CSV, TSV, JSONL, Parquet) for a file of pairs. Without pairs an LM writes queries for it."
    columns: str = ""
    "Your names for columns that are not recognised, as in query=title,positive=body."
    encoding: Name = "auto"
    "Encoding of text files that are no UTF-8, such as cp1252; a byte order mark selects UTF-8, UTF-16 or UTF-32."
    min_relevance: Above | None = None
    (
        "Lowest grade that counts as relevant; 1 if not given. Grades may be fractions only where it is given. nDCG "
        "uses every grade as judged."
    )
    task: str | None = None
    "Definition of relevant: the name of a known task, or your own words."
    dev: Fraction = 0.15
    "Share of the queries cut for dev if the data set has no dev split."
    confirm: Fraction = 0.10
    "Share of the queries cut for confirm, which only compiling uses."
    test: Fraction = 0.25
    "Share of the queries cut for test if the data set has no test split."
    max_bad_rows: Fraction = 0.01
    "Largest share of unusable rows in a file; above it reading stops."
    on_leak: Literal["auto", "fail", "drop"] = "auto"
    (
        "For a query in two splits: fail stops, drop removes it from the earlier split, auto drops in published sets "
        "and fails on your files."
    )
    divide_test: bool = False
    "Divide your own data set if all its queries are test queries. Without this setting such a set is refused."

    @model_validator(mode="before")
    @classmethod
    def _corpus_alone(cls, tree: Any) -> Any:
        """Replace the default data set by none where only a corpus is given."""
        alone = isinstance(tree, Mapping) and tree.get("corpus") and not tree.get("dataset")
        return {**tree, "dataset": ""} if alone else tree


class EncoderConfig(Section):
    """The encoder to fine-tune: any sentence-transformers model."""

    model: OwnModel = "local/minilm"
    "sentence-transformers model, on disk or on the hub, or local/minilm."
    revision: str | None = None
    "Branch, tag or commit of a model on the hub."
    trust_remote_code: bool = False
    "Run the Python code in the model's repository; read it first."
    device: Name = "auto"
    "cpu, cuda, cuda:1 or mps; auto prefers a GPU."
    query_prompt: str | None = None
    "Text put before each query; empty for none. If not given: the model's own prompt, or that of its family."
    passage_prompt: str | None = None
    "Text put before each passage; empty for none. If not given: the model's own prompt, or that of its family."
    max_tokens: Count = 0
    "Most tokens of a text; longer texts are cut. 0 = the model's own limit, which no setting raises."
    pooling: Literal["auto", "cls", "mean", "max", "lasttoken", "weightedmean"] = "auto"
    "How token vectors are pooled into one vector; auto follows the model."
    similarity: Literal["auto", "cosine", "dot"] = "auto"
    "How a query and a passage are compared; auto follows the model, or is cosine if the model names none."
    batch_size: Positive = 64
    "Texts embedded in one forward pass; a GPU takes more where they are shorter than the model's limit."
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    "Number format of forward passes; auto is bf16 if the hardware computes in it, else fp32."
    cache_gb: NonNegative = 20.0
    "Largest size of the embedding cache in GB; the oldest use is removed first; 0 = no limit."


class MineConfig(Section):
    """Mining hard negatives from the corpus."""

    sources: Annotated[tuple[Literal["dense", "bm25"], ...], Field(min_length=1)] = ("dense", "bm25")
    "Rankings to take negatives from."
    first_rank: Positive = 1
    "First rank of a ranking to consider."
    last_rank: Positive = 50
    "Last rank of a ranking to consider."
    per_query: Positive = 12
    "Most mined negatives per query."
    margin: Above | Literal["auto"] = "auto"
    (
        "Highest score of a negative, as a share of the positive's score (NV-Retriever: 0.95); 10 switches it off; "
        "auto chooses by a race of several on dev. In doubt it is 0.95, or off if a trusted reader finds few unjudged "
        "answers."
    )
    index: Name = "auto"
    (
        "faiss factory string of the index for mining, gates, judging and dev sets, or auto. Evaluation always "
        "searches exactly."
    )


class Config(Section):
    """All settings of a run."""

    seed: int = 0
    "Seed of splits, shuffles and sampling."

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

    @property
    def writes_queries(self) -> bool:
        """Whether an LM has to write queries, because only a corpus is given."""
        return not self.collection.dataset and self.collection.corpus is not None

    @property
    def source(self) -> str:
        """The data set, or the corpus if no data set is given; "" if neither is."""
        return self.collection.dataset or self.collection.corpus or ""


__all__ = [
    "FLOW", "BoundaryConfig", "BudgetConfig", "CollectionConfig", "CompileConfig", "Config", "EncoderConfig",
    "EvaluateConfig", "ExecutorConfig", "GatesConfig", "GenerateConfig", "JudgeConfig", "LMConfig", "MineConfig",
    "MixConfig", "ProbeConfig", "QueriesConfig", "ReaderConfig", "ReflectionConfig", "RoleLM", "Section", "TrackConfig",
    "TrainConfig",
]  # fmt: skip
