"""Records, errors, settings and files on disk, which every package uses.

    load_config(None, ["train.epochs=2"]) → Config(…)
    write_rows(path, [{"query_id": "q1"}]) → a complete JSONL file, or the old file unchanged

This package imports no other package of syneg.
"""
