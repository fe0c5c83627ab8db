"""The one place that builds LMs: litellm under DSPy, with every call kept in the ledger and replayed from it.

    writer = LanguageModel.open(LMConfig(model="openai/gpt-4o-mini"), ledger)
    with dspy.context(lm=writer.lm, adapter=writer.adapter): program(...)

DSPy 3.4 would bypass litellm; here it gets an engine of ours (`complete(Request) -> Response`) that calls litellm, so
what is sent, kept, priced and replayed is decided in one function. DSPy's own cache stays off: its key ignores the
endpoint, and it replays unparseable answers. `local/NAME` and `local/PATH.gguf` start the embedded server on first use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing litellm asks the network for prices

import dspy
from dspy.utils.exceptions import LMConfigurationError

from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import gguf_of

from .addresses import connected
from .capabilities import ADAPTERS, adapter_for
from .endpoints import Client, Endpoint
from .engine import Calling, LedgerEngine, Terms
from .ledger import Ledger
from .room import is_reasoning_model, room_for

for _name in ("LiteLLM", "dspy.clients.lm", "dspy.utils.parallelizer", "httpx"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_REPAIR_TEMPERATURE = 0.7
_USUAL = Terms()
Connect = Callable[[LMConfig], tuple[Client, LMConfig]]
"""Makes the client of an LM, and says with which settings it is to be asked."""


class _Forgetful(dspy.LM):
    """DSPy would keep the last 10,000 prompts and answers in memory, for each LM and once more for all."""

    def update_history(self, entry: Any) -> None:
        """Keep nothing: calls are in the ledger."""


class LanguageModel:
    """An LM with its adapter. `identity` names the model and its endpoint, or the hash of its weights."""

    def __init__(self, lm: dspy.LM, adapter: dspy.Adapter, engine: LedgerEngine, words: int) -> None:
        self.lm, self.adapter, self.engine, self._words = lm, adapter, engine, words
        self.identity = engine.identity

    @classmethod
    def open(
        cls,
        config: LMConfig,
        ledger: Ledger,
        *,
        log: Path | None = None,
        server_of: LanguageModel | None = None,
        connect: Connect | None = None,
        terms: Terms = _USUAL,
    ) -> LanguageModel:
        """Build the LM of `config`. Nothing is called and no server started yet.

        `server_of` shares its embedded server; `connect` makes the client elsewhere (on the workers of a cluster).

        Raises ConfigError for a model string or sampling that cannot be used, BackendError for missing weights.
        """
        embedded = config.model.startswith("local/") and terms.recorded is None
        gguf = gguf_of(config.model) if embedded else None
        shared = server_of.engine if server_of else None
        if shared is not None:  # one endpoint, other settings: these are in each request
            client: Client = shared.endpoint
        elif connect is not None and terms.recorded is None:
            client, config = connect(connected(config, terms.section))
        else:
            client = Endpoint(config, gguf, log, terms.say)
        call = Calling(client, shared.flow if shared else None, gguf, shared is None, terms)
        engine = LedgerEngine(config, ledger, call)
        limit = room_for(config, terms.words)
        temperature = None if is_reasoning_model(config.model) else config.temperature
        try:
            lm = _Forgetful(
                config.model, engine=engine, cache=False, num_retries=0, temperature=temperature, max_tokens=limit
            )
        except (ValueError, LMConfigurationError) as error:
            engine.close()
            raise ConfigError(f"{terms.section}.model {config.model!r}: {str(error).splitlines()[0]}") from error
        return cls(lm, ADAPTERS[adapter_for(config)](), engine, terms.words)

    def lm_for(self, attempt: int, negatives: int) -> dspy.LM:
        """The LM for the `attempt`-th try of a call that writes so many negatives: room for them all, and no second try
        at temperature 0, which would only say the same again."""
        config, settings = self.engine.config, dict[str, Any]()
        reasons = is_reasoning_model(config.model)
        if negatives > 1:
            settings["max_completion_tokens" if reasons else "max_tokens"] = room_for(config, self._words, negatives)
        if attempt and not config.temperature and not reasons:
            settings["temperature"] = _REPAIR_TEMPERATURE
        return self.lm.copy(**settings) if settings else self.lm

    def rows_of(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """The ledger rows of answered calls."""
        return [row for key in keys if (row := self.engine.ledger.find(key)) is not None]

    def adopt(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put rows of calls made for another run into the ledger, so that it holds all that this run goes by."""
        for row in rows:
            if self.engine.ledger.find(row["key"]) is None:
                self.engine.ledger.keep(row)

    def close(self) -> None:
        self.engine.close()
