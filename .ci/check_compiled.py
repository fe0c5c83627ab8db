"""Fails where a replayed compilation left out calls of the ledger, was not confirmed, or was not tested.

Prints what the calls cost, and how many lists have the same grades by both programs.

check_compiled.py RUN LEDGER.zst
"""

import io
import json
import sys
from pathlib import Path

import pyarrow

run, ledger = map(Path, sys.argv[1:])
with pyarrow.CompressedInputStream(str(ledger), "zstd") as file:
    rows = list(map(json.loads, io.TextIOWrapper(file, "utf-8")))
recorded = {row["prompt"] for row in rows}
replayed = {row["prompt"] for row in map(json.loads, (run / "ledger" / "calls.jsonl").open())}
graded: dict[str, list[dict[int, int]]] = {}
for row in rows:
    if row["use"] == "confirm" and row["answer"]:
        grades = json.loads(row["answer"])["grades"]
        graded.setdefault(row["query_id"], []).append({grade["passage"]: grade["grade"] for grade in grades})
twice = [both for both in graded.values() if len(both) == 2]
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
    or f"{len(replayed)} calls replayed to a confirmed reader, [{low:+.3f}, {high:+.3f}], test {tested['delta']:+.3f}; "
    f"{sum(row['input_tokens'] for row in rows):,} tokens in, {sum(row['output_tokens'] for row in rows):,} out; "
    f"{sum(first == second for first, second in twice)} of {len(twice)} lists have the same grades by both programs"
)
sys.exit(bool(problems))
