"""Call an LM: adapters, retries, rate limits, budgets, and a ledger of every call.

    LanguageModel.open(LMConfig(model="openai/gpt-4o-mini"), ledger) → an LM whose answers are kept and replayed

Nothing here knows a collection or an encoder.
"""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing litellm asks the network for prices
