"""Make one typed test call to each LM of a run: does it answer, does it keep the schema, how fast, at what price?

    probe(LMConfig(model="openai/gpt-4o-mini"), folder)
      → Probed(model="openai/gpt-4o-mini", endpoint="default", answers=True, schema="enforced", …)

The call uses the same adapter, ledger and retries as the calls of a run, so an LM that passes here works in a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dspy

from syneg.core.config import Config, LMConfig
from syneg.core.errors import SynegError, one_line
from syneg.core.secrets import masked_address
from syneg.llm.addresses import connected
from syneg.llm.calls import PROGRAM_ERRORS, purpose
from syneg.llm.capabilities import adapter_for, enforces_schema
from syneg.llm.engine import Terms
from syneg.llm.ledger import Ledger
from syneg.llm.lms import LanguageModel
from syneg.llm.prices import price_per_million
from syneg.llm.role_settings import SECTIONS, all_roles, endpoint_of


class TestCall(dspy.Signature):
    # A prompt: this docstring is sent to the LM.
    """Read the text and fill in the fields."""

    __test__ = False  # pytest must not collect this class as a test
    text: str = dspy.InputField()
    colour: Literal["red", "green", "blue"] = dspy.OutputField()
    wheels: int = dspy.OutputField()
    animals: list[str] = dspy.OutputField()


_TEXT = "A green cart with four wheels, drawn by a horse and a mule."


@dataclass(frozen=True)
class Probed:
    """Result of one test call.

    `schema` is one of four words. `enforced`: the provider guarantees the schema. `taken`: the server accepted the
    schema as a parameter. `followed`: the schema stood in the prompt only, and the answer fits it. `broken`: no
    readable answer came. `right` says whether the values are correct. `notes` name the parameters that the endpoint
    refused.
    """

    role: str
    model: str
    endpoint: str
    adapter: str
    answers: bool
    schema: str
    right: bool
    seconds: float
    tokens_per_s: float
    price: str
    error: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal: the LM, notes, then the answer's figures or the error."""
        head = f"{self.role}: {self.model} at {self.endpoint}, {self.adapter} layout, price {self.price}"
        if not self.answers:
            return [head, f"  no answer: {self.error}"]
        facts = f"  answers in {self.seconds:.1f} s, {self.tokens_per_s:.0f} tokens/s, schema {self.schema}"
        return [
            head,
            *(f"  {note}" for note in self.notes),
            facts + ("" if self.right else f", and misread the test{': ' + self.error if self.error else ''}"),
        ]


def lms_of(config: Config) -> dict[str, LMConfig]:
    """Map each role to the settings of its LM. A role that shares the writer's endpoint is left out."""
    shared = endpoint_of(config.lm)
    return {role: lm for role, lm in all_roles(config).items() if role == "writer" or endpoint_of(lm) != shared}


def probe(config: LMConfig, folder: Path, role: str = "writer") -> Probed:
    """Call the LM of `config` once; write its ledger to `{folder}/{role}.jsonl`.

    Raises ConfigError for an invalid model string. An error of the call itself is reported in `Probed.error`.
    """
    ledger = Ledger(folder / f"{role}.jsonl")
    try:
        notes: list[str] = []
        terms = Terms(SECTIONS.get(role, role), say=lambda line: notes.append(line.strip()))
        writer = LanguageModel.open(config, ledger, log=folder / f"{role}.log", terms=terms)
    except SynegError:
        ledger.close()
        raise
    facts = {
        "role": role, "model": config.model, "endpoint": _place(config),
        "adapter": adapter_for(config), "price": price_per_million(config.model),
    }  # fmt: skip
    takes_schema = "enforced" if enforces_schema(config.model) else "taken"
    try:
        with purpose("") as current, dspy.context(lm=writer.lm, adapter=writer.adapter):
            error, right = "", False
            try:
                answer = dspy.Predict(TestCall)(text=_TEXT)
                right = (answer.colour, answer.wheels) == ("green", 4)
            except PROGRAM_ERRORS as problem:
                error = one_line(problem)
            except SynegError as problem:
                error = str(problem)
        calls = current.calls
        seconds = sum(call.seconds for call in calls)
        tokens = sum(call.output_tokens for call in calls)
        taken = writer.engine.supports_response_schema and not any("JSON" in note for note in notes)
        schema = "broken" if error else takes_schema if taken else "followed"
        return Probed(
            **facts, answers=bool(calls), schema=schema, right=right, seconds=seconds,
            tokens_per_s=tokens / seconds if seconds else 0.0, error=error, notes=tuple(notes),
        )  # fmt: skip
    finally:
        writer.close()
        ledger.close()


def _place(config: LMConfig) -> str:
    """Say where calls go: this machine, the API base with credentials masked, or the provider."""
    if config.model.startswith("local/"):
        return "this machine"
    return masked_address(connected(config).api_base or "the provider's own address")
