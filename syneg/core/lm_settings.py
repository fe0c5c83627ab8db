"""Settings of the LMs, of what they write, and of the gates that keep or reject it.

LMConfig(model="openai/gpt-4o-mini").concurrency → 4
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .section import Above, Count, Fraction, NonNegative, OwnPath, OwnProgram, Positive, Section


class LMConfig(Section):
    """The LM that writes, and how calls to it flow (`syneg.llm.flow`)."""

    model: OwnPath = "local/qwen2.5-coder-1.5b"
    "litellm model string, or local/NAME, or local/PATH.gguf."
    api_base: str | None = None
    "Address of your own LM server."
    adapter: Literal["auto", "compact", "json", "chat", "xml"] = "auto"
    "Layout of prompts and answers; auto is compact for embedded models and DSPy's JSONAdapter for others."
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    "Sampling temperature of the writer."
    max_tokens: Count = 0
    "Room for one answer, in tokens; 0 = from the length asked for. What is cut is asked for once more with more room."
    timeout_s: Above = 180.0
    "Seconds after which a call is given up."
    retries: Count = 4
    "How often a call that failed for the moment is tried again."
    concurrency: Positive = 4
    "LM calls at once."
    max_rpm: Count = 0
    "Most calls a minute; 0 = no limit."
    max_tpm: Count = 0
    "Most tokens a minute; 0 = no limit."
    breaker: Positive = 8
    "After how many failures in a row the endpoint counts as down."
    engine: Literal["litellm", "native"] = "litellm"
    "Client that makes the calls; native is DSPy's own: less work for each call, fewer providers."
    extra: dict[str, Any] = Field(default_factory=dict)
    "Further parameters of each call, as in {top_p = 0.9, num_ctx = 8192}; $NAME is read from the environment."


class RoleLM(Section):
    """An LM beside the writer's. What is not given is as for the writer; its address, its limits of rate and its
    further parameters only where the provider is the same, so that no key is sent to another's server."""

    model: OwnPath | None = None
    "litellm model string; the writer's if not given."
    api_base: str | None = None
    'Address of its server; "" is the provider\'s own.'
    adapter: Literal["auto", "compact", "json", "chat", "xml"] | None = None
    "Layout of prompts and answers."
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    "Sampling temperature."
    max_tokens: Count | None = None
    "Room for one answer, in tokens; 0 = from the length asked for."
    timeout_s: Above | None = None
    "Seconds after which a call is given up."
    retries: Count | None = None
    "How often a call that failed for the moment is tried again."
    concurrency: Positive | None = None
    "LM calls at once."
    max_rpm: Count | None = None
    "Most calls a minute; 0 = no limit."
    max_tpm: Count | None = None
    "Most tokens a minute; 0 = no limit."
    breaker: Positive | None = None
    "After how many failures in a row the endpoint counts as down."
    engine: Literal["litellm", "native"] | None = None
    "Client that makes the calls."
    extra: dict[str, Any] | None = None
    "Further parameters of each call."

    def beside(self, writer: LMConfig, **defaults: Any) -> LMConfig:
        """Its settings in full; `defaults` stand before those of the writer."""
        own = {name: value for name in RoleLM.model_fields if (value := getattr(self, name)) is not None}
        inherited = writer.model_dump()
        if self.model is not None and self.model.partition("/")[0] != writer.model.partition("/")[0]:
            for name in ("api_base", "max_rpm", "max_tpm", "extra"):
                del inherited[name]
        if self.model not in (None, writer.model):
            inherited.pop("max_tokens", None)
        return LMConfig.model_validate({**inherited, **defaults, **own})


FLOW = ("timeout_s", "retries", "concurrency", "max_rpm", "max_tpm", "breaker", "engine")  # decide no answer


class ExecutorConfig(Section):
    """Where LM calls and the encoder's forward passes run (`syneg.run.cluster`)."""

    use: Literal["threads", "ray"] = "threads"
    "This process (threads), or the workers of a Ray cluster (ray)."
    address: str | None = None
    "Address of a running Ray cluster; auto finds one on this machine. Without it Ray starts here."
    replay: OwnPath | None = None
    (
        "Ledger of another run to answer from, as calls.jsonl or calls.jsonl.gz; what is not in it is refused, no LM "
        "is called."
    )
    workers: Count = 0
    "Ray workers of each kind; 0 = one for each node."


class QueriesConfig(Section):
    """Writing queries for a corpus that has none (`--corpus` without `--dataset`)."""

    passages: Positive = 200
    "Passages that get a written query, one from each cluster of the corpus."
    examples: OwnPath | None = None
    "File of a few real queries to imitate (query); with ten pairs or more (query, positive) these are dev and test."
    program: OwnProgram = "write_queries"
    "Program that writes queries: write_queries, module:Class, or a saved program.json."
    round_trip: Count = 20
    "Rank up to which a query has to find its own passage, by the encoder or BM25; 0 = any."
    near_duplicate: Fraction = 0.95
    "Highest cosine to another query; 0 = any."


class GenerateConfig(Section):
    """Writing synthetic negatives."""

    program: OwnProgram = "auto"
    "Program that writes: a name, module:Class, or program.json; auto goes by the measured strength of the LM."
    given: OwnPath | None = None
    "JSONL of negatives (query_id, text) to take instead of writing any."
    pairs: Count = 40
    "Train pairs that get synthetic negatives; 0 = all."
    shard: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] = "1/1"
    "2/8 writes for pairs 2, 10, 18, … only, so that eight machines can share the work; join their files with given."
    per_pair: Positive = 1
    "Synthetic negatives asked for each pair."
    attempts: Positive = 2
    "Calls for a pair until an answer can be read."
    passage_words: Positive = 200
    "Words of a passage shown to the LM."
    plan: bool = False
    "Let the LM name the domains from a sample of the corpus, where the task has none."
    domains: tuple[str, ...] = ()
    "Domains to draw from; empty = those of the task."
    difficulties: tuple[str, ...] = ()
    "Reading levels to draw from; empty = those of the task."
    lengths: tuple[str, ...] = ()
    "Lengths, relative to the positive, to draw from; empty = those of the task."
    kinds: tuple[str, ...] = ()
    "Kinds of negative to draw from; empty = those of the task."


class GatesConfig(Section):
    """Thresholds of the gates, in the order in which they are tried; 0 switches one off."""

    min_words: Count = 5
    "Fewest words of a negative."
    script: Fraction = 0.1
    "Most letters, as a share, of scripts foreign to the corpus."
    language: NonNegative = 0.92
    "Least share of frequent letter trigrams, relative to the corpus."
    length_low: NonNegative = 0.25
    "Least length, relative to the positive shown."
    length_high: NonNegative = 4.0
    "Greatest length, relative to the positive shown."
    query_words: Count = 3
    "Queries of at least this many words must not be repeated in a negative."
    positive_ngram: Fraction = 0.3
    "Most 4-grams copied from a positive, as a share."
    parent_ngram: Fraction = 0.5
    "Most 4-grams copied from the passage that was rewritten, as a share."
    sibling_ngram: Fraction = 0.5
    "Most 4-grams shared with another negative of the pair, as a share."
    positive_cosine: Fraction = 0.95
    "Highest cosine to a positive."
    sibling_cosine: Fraction = 0.95
    "Highest cosine to another negative of the pair."
    floor: NonNegative = 0.4
    "Least cosine to the query, relative to the positive's."
    margin: NonNegative = 0.95
    "Highest cosine to the query, relative to the positive's, where no trusted judge decides."


class JudgeConfig(RoleLM):
    """The LM that says whether a text still answers the query.

    A judge is trusted when its agreement with labelled passages of the collection has a Cohen's kappa of at least
    `min_kappa` and is better than chance (binomial test, p < .05).
    """

    use: Literal["auto", "on", "off"] = "auto"
    "auto asks where the LM's measured strength is worth the calls."
    sample: Annotated[int, Field(ge=8)] = 40
    "Labelled passages that the judge is measured on."
    min_kappa: Annotated[float, Field(ge=0, le=1)] = 0.6
    "Least Cohen's kappa of a judge that is trusted."


class ReaderConfig(RoleLM):
    """The reader: it grades the nearest passages of a query, up to 20 in one call (`syneg-dspy read`).

    Before it is trusted it grades passages of dev queries. It is trusted where Cohen's kappa of 2-3 against known
    positives and known negatives is at least `min_kappa`, and where its order of the passages has a higher nDCG@10 than
    the encoder's (95 % interval over queries not under 0).
    """

    use: Literal["auto", "on", "off"] = "auto"
    "auto uses what a trusted reader says, and asks an embedded LM only in `syneg-dspy read`; on trusts it untested."
    given: OwnPath | None = None
    "JSONL of grades (query_id, doc_id, grade, or query_id with lists doc_ids and grades) to take instead of asking."
    cross_encoder: OwnPath | None = None
    "sentence-transformers CrossEncoder that reads in place of an LM."
    pairs: Count = 400
    "Train queries that are read for, one call each; 0 = all that are trained on."
    candidates: Annotated[int, Field(ge=2, le=20)] = 20
    "Passages of a query in one call; an embedded LM gets 5 at most."
    sample: Annotated[int, Field(ge=8)] = 40
    "Dev queries that the reader is measured on."
    min_kappa: Annotated[float, Field(ge=0, le=1)] = 0.4
    "Least Cohen's kappa of a reader that is trusted."


class ReflectionConfig(RoleLM):
    """The LM that proposes instructions while compiling."""


class BudgetConfig(Section):
    """Hard limits of one command on what all its LMs use together, answers from the ledger aside; 0 = none."""

    calls: Count = 0
    "Most LM calls."
    tokens: Count = 0
    "Most tokens, read and written."
    usd: NonNegative = 0.0
    "Most dollars."
    minutes: NonNegative = 0.0
    "Most minutes of wall-clock time."
