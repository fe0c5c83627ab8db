"""What every package shares: records, errors, settings and files on disk.

    load_config(None, ["train.epochs=2"]) → Config(…)      write_rows(path, rows) → one JSONL, whole or not at all

Nothing here knows a corpus, an LM or an encoder.
"""
