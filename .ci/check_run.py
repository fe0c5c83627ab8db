"""Fails when a stage of a run folder is empty: check_run.py RUN_FOLDER."""

import json
import sys
from pathlib import Path

run = Path(sys.argv[1])
rows = {
    name: [json.loads(line) for line in (run / name).open()]
    for name in ("mined.jsonl", "negatives.jsonl", "ledger/calls.jsonl")
}
verdict = json.loads((run / "verdict.json").read_text())
problems = [f"{name} is empty" for name, found in rows.items() if not found]
if not any(row["accepted"] for row in rows["negatives.jsonl"]):
    problems.append("no synthetic negative was accepted")
if set(verdict["arms"]) != {"base", "mined", "hybrid"}:
    problems.append(f"arms are {sorted(verdict['arms'])}")
if verdict["arms"]["hybrid"]["training"][0]["synthetic_share"] <= 0:
    problems.append("the hybrid arm trained on no synthetic negative")
for arm in ("base", "mined-0", "hybrid-0"):
    if len((run / "runs" / f"{arm}.test.trec").read_text().splitlines()) < verdict["queries"]["test"]:
        problems.append(f"the run of {arm} is short")
for name in (
    "best/model.safetensors",
    "program.json",
    "program.md",
    "report.html",
    "README.md",
    "config.toml",
):
    if not (run / name).stat().st_size:
        problems.append(f"{name} is empty")
print("\n".join(problems) or f"every stage of {run} gave something; best: {verdict['best']}")
sys.exit(bool(problems))
