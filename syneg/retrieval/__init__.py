"""Embed, search and score.

    Encoder.load(config).encode(["close a socket"], "query") → array of shape (1, dimension)

Nothing here knows an LM.
"""
