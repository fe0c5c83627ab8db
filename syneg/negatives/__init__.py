"""Where hard negatives come from, mined or written, and which of them are kept.

    mine(collection, pairs, encoder, config) → mined negatives      judge_text(text, context) → accepted, or a reason

Training and the verdict live elsewhere.
"""
