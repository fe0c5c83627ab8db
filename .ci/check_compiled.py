"""Fails where a replayed compilation left out calls of the ledger, was not confirmed, or was not tested.

check_compiled.py RUN LEDGER.zst
"""

import io
import json
import sys
from pathlib import Path

import pyarrow

run, ledger = map(Path, sys.argv[1:])
with pyarrow.CompressedInputStream(str(ledger), "zstd") as file:
    recorded = {row["prompt"] for row in map(json.loads, io.TextIOWrapper(file, "utf-8"))}
replayed = {row["prompt"] for row in map(json.loads, (run / "ledger" / "calls.jsonl").open())}
compiled = json.loads((run / "reader-compiled.json").read_text())
low, high = compiled["confirmed"]["interval"]
problems = []
if replayed != recorded:
    problems.append(f"{len(recorded)} prompts are recorded, {len(replayed)} were replayed")
if not compiled["won"] or low <= 0:
    problems.append("the compiled reader was not confirmed")
tested = compiled["confirmed"]["test"] or {"delta": 0.0, "queries": 0}
if not tested["queries"]:
    problems.append("the compiled reader was not tested")
print(
    "\n".join(problems)
    or f"{len(replayed)} calls replayed to a confirmed reader, [{low:+.3f}, {high:+.3f}], test {tested['delta']:+.3f}"
)
sys.exit(bool(problems))
