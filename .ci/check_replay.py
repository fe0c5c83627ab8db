"""Fails where a replayed run did not go by the whole ledger: check_replay.py RUN_FOLDER LEDGER.zst."""

import io
import json
import sys
from pathlib import Path

import pyarrow

run, ledger = map(Path, sys.argv[1:])
with pyarrow.CompressedInputStream(str(ledger), "zstd") as file:
    recorded = {row["prompt"]: row["answer"] for row in map(json.loads, io.TextIOWrapper(file, "utf-8"))}
replayed = {row["prompt"]: row["answer"] for row in map(json.loads, (run / "ledger" / "calls.jsonl").open())}
negatives = [json.loads(line) for line in (run / "negatives.jsonl").open()]
problems = []
if replayed != recorded:
    problems.append(f"{len(recorded)} calls are recorded, {len(replayed)} were replayed, or answers differ")
if not any(row["accepted"] for row in negatives):
    problems.append("no synthetic negative was accepted")
if not (run / "verdict.json").is_file():
    problems.append("there is no verdict")
print("\n".join(problems) or f"{len(replayed)} calls replayed to a verdict without an LM")
sys.exit(bool(problems))
