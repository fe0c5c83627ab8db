"""Embed texts, search a corpus, and score rankings.

    Encoder.load(config).encode(["close a socket"], "query") → array of shape (1, dimension)

Nothing here calls an LM.
"""
