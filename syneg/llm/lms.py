"""Build LMs: litellm under DSPy, with every call kept in the ledger. No other module builds an LM.

    writer = LanguageModel.open(LMConfig(model="openai/gpt-4o-mini"), ledger)
    with dspy.context(lm=writer.lm, adapter=writer.adapter): program(...)

By default DSPy 3.4 calls providers without litellm. Here it gets an engine of ours that calls litellm
(`LedgerEngine`). DSPy's own cache stays off, because its key ignores the endpoint and it replays answers that cannot be
parsed. `local/NAME` and `local/PATH.gguf` start the embedded server on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import LMConfigurationError

from syneg.core.config import LMConfig
from syneg.core.errors import ConfigError
from syneg.core.fetch import gguf_of
from syneg.core.storage import JsonObject

from .addresses import connected
from .capabilities import ADAPTERS, adapter_for
from .endpoints import Client, Endpoint
from .engine import Calling, LedgerEngine, Terms
from .ledger import Ledger
from .room import is_reasoning_model, room_for
from .rows import CallRow

for _name in ("LiteLLM", "dspy.clients.lm", "dspy.utils.parallelizer", "httpx"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_REPAIR_TEMPERATURE = 0.7
_USUAL = Terms()
Connect = Callable[[LMConfig], tuple[Client, LMConfig]]
"""Makes the client of an LM; returns it with the settings to use."""


class _Forgetful(dspy.LM):
    """An LM without DSPy's history, which keeps 10,000 prompts and answers in memory per LM and again for all LMs."""

    def update_history(self, entry: Any) -> None:
        """Do nothing; the ledger has the calls."""


class LanguageModel:
    """An LM with its adapter. `identity` names the model and its endpoint (or the hash of its weights)."""

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
        """Build the LM of `config`. This makes no call and starts no server.

        `log` is the log file of an embedded server. `server_of` is an LM whose endpoint to share. `connect` makes the
        client on other machines. Raises ConfigError for a model or sampling that cannot be used, and BackendError for
        missing weights.
        """
        embedded = config.model.startswith("local/") and terms.recorded is None
        gguf = gguf_of(config.model) if embedded else None
        shared = server_of.engine if server_of else None
        if shared is not None:  # the settings may differ, because each request carries them
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
        """The LM for one attempt (from 0) at a number of negatives.

        The token limit grows with the number. A second attempt never runs at temperature 0, because it would return the
        same answer.
        """
        config, settings = self.engine.config, JsonObject()
        reasons = is_reasoning_model(config.model)
        if negatives > 1:
            settings["max_completion_tokens" if reasons else "max_tokens"] = room_for(config, self._words, negatives)
        if attempt and not config.temperature and not reasons:
            settings["temperature"] = _REPAIR_TEMPERATURE
        return self.lm.copy(**settings) if settings else self.lm

    def rows_of(self, keys: Iterable[str]) -> list[CallRow]:
        """The ledger rows of these keys; keys without an answer are left out."""
        return [row for key in keys if (row := self.engine.ledger.find(key)) is not None]

    def adopt(self, rows: Iterable[CallRow]) -> None:
        """Copy rows of calls from another run into the ledger, so that it is complete for a replay."""
        for row in rows:
            if self.engine.ledger.find(row["key"]) is None:
                self.engine.ledger.keep(row)

    def close(self) -> None:
        self.engine.close()
