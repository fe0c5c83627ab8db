"""Settings of the LMs, of the texts that they write, and of the gates that accept or reject these texts.

LMConfig(model="openai/gpt-4o-mini").concurrency → 4
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from .section import Above, Count, Fraction, NonNegative, OwnModel, OwnPath, OwnProgram, Positive, Section
from .storage import JsonObject


def _a_share(shard: str) -> str:
    if not re.fullmatch(r"[1-9]\d*/[1-9]\d*", shard, re.ASCII):
        raise ValueError("takes PART/PARTS, as in 2/8")
    return shard


class LMConfig(Section):
    """The writer: the LM that writes negatives and queries. Limits and retries of its calls: `syneg.llm.flow`."""

    model: OwnModel = "local/qwen2.5-coder-1.5b"
    "litellm model string, or local/NAME, or local/PATH.gguf."
    api_base: str | None = None
    "Address of your own LM server."
    adapter: Literal["auto", "compact", "json", "chat", "xml"] = "auto"
    "Layout of prompts and answers; auto is compact for embedded models and DSPy's JSONAdapter for all others."
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    "Sampling temperature."
    max_tokens: Count = 0
    "Most tokens of an answer; 0 = by the length asked for. A cut answer is asked for once more with a higher limit."
    timeout_s: Above = 180.0
    "Seconds until an unanswered call counts as failed."
    retries: Count = 4
    "How often a call is repeated after a passing failure (429, 5xx, timeout, dropped connection)."
    concurrency: Positive = 4
    "LM calls at the same time."
    max_rpm: Count = 0
    "Most calls a minute; 0 = no limit."
    max_tpm: Count = 0
    "Most tokens a minute; 0 = no limit."
    breaker: Positive = 8
    "Failed calls in a row until the endpoint counts as down and the run stops."
    engine: Literal["litellm", "native"] = "litellm"
    "Client for the calls; native is DSPy's own, with less overhead per call and fewer providers."
    extra: JsonObject = Field(default_factory=dict)
    "Further parameters of each call, as in {top_p = 0.9, num_ctx = 8192}; $NAME is read from the environment."


class RoleLM(Section):
    """An LM with a role of its own. A setting that is not given is the writer's.

    The writer's address, rate limits and further parameters are used only if the provider is the same, so that no key
    goes to the server of another provider.
    """

    model: OwnPath | None = None
    "litellm model string; the writer's model if not given."
    api_base: str | None = None
    'Address of its server; "" is the provider\'s own address.'
    adapter: Literal["auto", "compact", "json", "chat", "xml"] | None = None
    "Layout of prompts and answers."
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    "Sampling temperature."
    max_tokens: Count | None = None
    "Most tokens of an answer; 0 = by the length asked for."
    timeout_s: Above | None = None
    "Seconds until an unanswered call counts as failed."
    retries: Count | None = None
    "How often a call is repeated after a passing failure."
    concurrency: Positive | None = None
    "LM calls at the same time."
    max_rpm: Count | None = None
    "Most calls a minute; 0 = no limit."
    max_tpm: Count | None = None
    "Most tokens a minute; 0 = no limit."
    breaker: Positive | None = None
    "Failed calls in a row until the endpoint counts as down."
    engine: Literal["litellm", "native"] | None = None
    "Client for the calls."
    extra: JsonObject | None = None
    "Further parameters of each call."

    def beside(self, writer: LMConfig, **defaults: Any) -> LMConfig:
        """Complete settings of this LM: its own, then `defaults`, then the writer's."""
        own = {name: value for name in RoleLM.model_fields if (value := getattr(self, name)) is not None}
        inherited = writer.model_dump()
        if self.model is not None and self.model.partition("/")[0] != writer.model.partition("/")[0]:
            for name in ("api_base", "max_rpm", "max_tpm", "extra"):
                del inherited[name]
        if self.model not in (None, writer.model):
            inherited.pop("max_tokens", None)
        return LMConfig.model_validate({**inherited, **defaults, **own})


# settings of an LM that change no answer, so that no key of a stage depends on them
FLOW = ("timeout_s", "retries", "concurrency", "max_rpm", "max_tpm", "breaker", "engine")


class ExecutorConfig(Section):
    """The machines for LM calls and for the encoder's forward passes (`syneg.run.cluster`)."""

    use: Literal["threads", "ray"] = "threads"
    "threads runs them in this process, ray on the workers of a Ray cluster."
    address: str | None = None
    "Address of a running Ray cluster; auto finds one on this machine; if not given, Ray is started here."
    replay: OwnPath | None = None
    (
        "Ledger of another run (calls.jsonl, also packed) to take all answers from. No LM is called; a call that "
        "it does not hold is an error."
    )
    workers: Count = 0
    "Ray workers of each kind; 0 = one per node."


class QueriesConfig(Section):
    """Writing queries for a corpus without any (`--corpus` without `--dataset`)."""

    passages: Positive = 200
    "Passages to write a query for, one from each cluster of the corpus."
    examples: OwnPath | None = None
    (
        "File of real queries to imitate (column query). Pairs (query, positive) are tested with first, and never "
        "trained on."
    )
    program: OwnProgram = "write_queries"
    "Program for the queries: write_queries, module:Class, or a saved program.json."
    round_trip: Count = 20
    "Keep a query only if the encoder or BM25 ranks its passage this high or higher; 0 = keep all."
    near_duplicate: Fraction = 0.95
    "Highest cosine to another query; 0 = keep all."


class GenerateConfig(Section):
    """Writing synthetic negatives."""

    program: OwnProgram = "auto"
    "Program for the negatives: a name, module:Class, or program.json; auto chooses by the measured strength of the LM."
    given: OwnPath | None = None
    "JSONL of negatives (query_id, text) to use; no negatives are then written."
    pairs: Count = 40
    "Train pairs that get synthetic negatives; 0 = all."
    shard: Annotated[str, AfterValidator(_a_share)] = "1/1"
    "2/8 writes for pairs 2, 10, 18, … only, so that eight machines can share the work; join their files with given."
    per_pair: Positive = 1
    "Synthetic negatives to ask for per pair."
    attempts: Positive = 2
    "Most attempts per pair until an answer can be used."
    passage_words: Positive = 200
    "Most words of a passage that the LM is shown."
    plan: bool = False
    "Let the LM name domains from a sample of the corpus if the task has none."
    domains: tuple[str, ...] = ()
    "Domains to draw from; empty = the task's."
    difficulties: tuple[str, ...] = ()
    "Reading levels to draw from; empty = the task's."
    lengths: tuple[str, ...] = ()
    "Lengths, relative to the positive, to draw from; empty = the task's."
    kinds: tuple[str, ...] = ()
    "Kinds of negative to draw from; empty = the task's."


class GatesConfig(Section):
    """Thresholds of the gates, in the order in which they are applied; 0 switches a gate off."""

    min_words: Count = 5
    "Fewest words of a negative. If its positive has fewer words, length_low decides instead."
    script: Fraction = 0.1
    "Largest share of letters in scripts that the corpus does not use."
    language: NonNegative = 0.92
    "Smallest share of letter trigrams that are frequent in the corpus, relative to the corpus's own passages."
    length_low: NonNegative = 0.25
    "Smallest length, relative to the positive as shown."
    length_high: NonNegative = 4.0
    "Largest length, relative to the positive as shown."
    query_words: Count = 3
    "A negative must not repeat a query of this many words or more."
    positive_ngram: Fraction = 0.3
    "Largest share of word 4-grams copied from a positive."
    parent_ngram: Fraction = 0.5
    "Largest share of word 4-grams copied from the passage that was rewritten."
    sibling_ngram: Fraction = 0.5
    "Largest share of word 4-grams shared with another negative of the pair."
    positive_cosine: Fraction = 0.95
    "Highest cosine to a positive."
    sibling_cosine: Fraction = 0.95
    "Highest cosine to another negative of the pair."
    floor: NonNegative = 0.4
    "Lowest cosine to the query, as a share of the positive's cosine."
    margin: NonNegative = 0.95
    "Highest cosine to the query, as a share of the positive's cosine; not applied if a trusted judge decides."


class JudgeConfig(RoleLM):
    """The judge: the LM that says whether a written text still answers the query.

    A judge is trusted if it agrees with labelled passages of the collection: Cohen's kappa is at least `min_kappa`, and
    the agreement is better than chance (binomial test, p < .05).
    """

    use: Literal["auto", "on", "off"] = "auto"
    "auto asks the judge if the measured strength of the LM makes its calls worthwhile."
    sample: Annotated[int, Field(ge=8)] = 40
    "Labelled passages to measure the judge on."
    min_kappa: Annotated[float, Field(ge=0, le=1)] = 0.6
    "Lowest Cohen's kappa of a trusted judge."


class ReaderConfig(RoleLM):
    """The reader: an LM that grades the nearest passages of a query from 0 to 3, up to 20 in one call (`syneg-dspy
    read`).

    It is measured on dev queries first, and trusted if both hold: its grades 2-3 agree with known positives and
    negatives (Cohen's kappa at least `min_kappa`, 95 % interval over 0), and its order of the passages has a higher
    nDCG@10 than the encoder's (95 % interval over queries not under 0).
    """

    use: Literal["auto", "on", "off"] = "auto"
    "auto uses a trusted reader, and calls an embedded LM only in `syneg-dspy read`; on trusts a reader untested."
    program: OwnProgram = "grade_list"
    "Program that grades: grade_list, module:Class, or a saved reader-program.json."
    given: OwnPath | None = None
    "JSONL of grades to use instead of calls: (query_id, doc_id, grade), or query_id with lists doc_ids and grades."
    cross_encoder: OwnPath | None = None
    "sentence-transformers CrossEncoder to use in place of an LM."
    strong: OwnPath | None = None
    "litellm model string of a second LM, for lists in doubt (the rule is printed); none if not given."
    strong_api_base: str | None = None
    "Address of its server."
    second_look: Literal["auto", "on", "off"] = "auto"
    "Ask again about a passage graded 3 that nobody judged, before it is a positive; auto asks the strong LM, if any."
    pairs: Count = 400
    "Train queries to grade passages for, one call each; 0 = all train queries of the run."
    candidates: Annotated[int, Field(ge=2, le=20)] = 20
    "Passages of a query in one call; at most 5 for an embedded LM."
    sample: Annotated[int, Field(ge=8)] = 40
    "Dev queries to measure the reader on."
    min_kappa: Annotated[float, Field(ge=0, le=1)] = 0.4
    "Lowest Cohen's kappa of a trusted reader."

    @property
    def looks_again(self) -> bool:
        """Whether an LM is asked once more about passages graded 3 that nobody judged."""
        if self.second_look == "off" or self.given:
            return False
        return self.second_look == "on" or self.strong is not None


class ReflectionConfig(RoleLM):
    """The reflection LM: it proposes instructions while a program is compiled."""


class BudgetConfig(Section):
    """Hard limits of one command on all its LMs together; 0 = no limit. Answers from the ledger cost nothing."""

    calls: Count = 0
    "Most LM calls."
    tokens: Count = 0
    "Most tokens, read and written."
    usd: NonNegative = 0.0
    "Most dollars."
    minutes: NonNegative = 0.0
    "Most minutes of wall-clock time."
