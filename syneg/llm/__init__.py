"""Calling an LM: adapters, retries, limits, budget, and a ledger of every call.

    LanguageModel.open(LMConfig(model="openai/gpt-4o-mini"), ledger) → an LM whose answers are kept and replayed

Nothing here knows a corpus or an encoder.
"""
