"""Print the result of each stage (`syneg.run.pipeline.STAGES[…].make`) as text for a terminal of 80 columns.

generated(folder, {"accepted": 17, "written": 48, …}) → "17 of 48 negatives accepted for 16 of 40 pairs by …"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syneg.core.counts import counted, part_of
from syneg.core.lines import wrapped

from .folder import RunFolder
from .targets import TARGETS

Result = Mapping[str, Any]


def queries(folder: RunFolder, result: Result) -> str:
    """Format the counts of written queries."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in result["kinds"].items())
    splits = ", ".join(f"{split} {count}" for split, count in result["splits"].items() if count)
    whose = f"with your {result['yours']}" if result["yours"] else "splits"
    text = f"{result['accepted']} of {result['written']} queries pass the gates ({kinds}); {whose}: {splits}."
    return f"{wrapped(text)}\nqueries: {folder.queries}"


def mined(folder: RunFolder, result: Result) -> str:
    """Format the counts of mined negatives."""
    counts = ", ".join(f"{count} {source}" for source, count in result["negatives"].items())
    skipped = ", ".join(f"{count} {reason}" for reason, count in result["skipped"].items())
    text = (
        f"{counted(sum(result['negatives'].values()), 'negative')} ({counts}) for {counted(result['queries'], 'query')}"
    )
    return f"{wrapped(text + (f'; skipped: {skipped}' if skipped else '') + '.')}\nnegatives: {folder.mined}"


def read(folder: RunFolder, result: Result) -> str:
    """Format the reader's agreement and the counts of its grades, or the next step of a batch."""
    lines = list(result.get("imported", ()))
    if "requests" in result:
        return "\n".join([*lines, _next_batch(folder, result, "read")])
    lines += [result["lm"], result["table"], ""]
    if "read" not in result:
        lines.append(
            wrapped(f"Nothing was read for train queries: {result['refusal']} (reader.use=on reads nonetheless).")
        )
        return "\n".join(lines)
    counts = result["read"]
    grades = ", ".join(f"{count} of grade {grade}" for grade, count in counts["grades"].items())
    lines.append(wrapped(
        f"{counted(counts['queries'], 'train query')} read in {counted(counts['calls'], 'call')}, "
        f"{counted(counts['unreadable'], 'list')} without a readable answer: {grades}. Of {counts['positives']} known "
        f"positives among them {counts['recalled']} got 2 or 3. New positives: {counts['extra']}; left out: "
        f"{counts['masked']}."
    ))  # fmt: skip
    if asked := counts["asked"]:
        said = part_of(counts["denied"], asked, "new 3", "was", "were")
        lines.append(wrapped(f"Second looks: {said} not graded 3 again and left out."))
    return "\n".join([*lines, f"grades: {folder.readings}"])


def _next_batch(folder: RunFolder, result: Result, command: str) -> str:
    usd, full = result["usd"], result["full_price"]
    cost = "of unknown price" if usd is None else f"for ${usd:.2f} at most"
    cost += f" (no batch price is known for {', '.join(full)}: the full one is counted)" if full and usd else ""
    lines = [
        f"{counted(result['requests'], 'request')} written to {result['file']}, {cost}. When the results are back, "
        "continue with: "
        f"syneg-dspy {command} --batch import RESULTS.jsonl --run {folder} …"
    ]
    if result["spent"]:
        lines.append(f"More requests wait for the next file: {result['spent']}")
    return "\n".join(lines)


def calibrated(folder: RunFolder, result: Result) -> str:
    """Format the calibration of the judge."""
    return f"{result['lm']}\n{result['table']}"


def compiled(folder: RunFolder, result: Result) -> str:
    """Format the outcome of a compilation, with the change of the prompts as a diff."""
    prefix = TARGETS[result["target"]].prefix
    outcome = folder.prompts(prefix).read_text(encoding="utf-8").split("## Candidates")[0]
    lines = (
        f"program: {folder.program(prefix)}", f"all candidates: {folder.prompts(prefix)}",
        f"report: {folder.compiled_page(prefix)}",
    )  # fmt: skip
    return "\n".join((_prose_wrapped(outcome), *lines))


def _prose_wrapped(markdown: str) -> str:
    """Wrap the lines of a page, except those of its tables and code blocks."""
    lines, in_code = [], False
    for line in markdown.split("\n"):
        in_code ^= line.startswith("```")
        is_prose = not in_code and not line.startswith("|")
        lines.append(wrapped(line, "  " if line.startswith("- ") else "") if is_prose else line)
    return "\n".join(lines)


def generated(folder: RunFolder, result: Result) -> str:
    """Format the counts of written negatives, or the next step of a batch."""
    from syneg.verdict.records import generation_of
    from syneg.verdict.report import coverage_table, generation_line

    lines = list(result.get("imported", ()))
    if "requests" in result:
        return "\n".join([*lines, _next_batch(folder, result, "generate")])
    counts = generation_of({key: value for key, value in result.items() if key != "imported"})
    coverage = coverage_table(counts)
    lines.append(wrapped(generation_line(counts) + "."))
    lines += ["", coverage, ""] if coverage else []
    lines.append(f"negatives: {folder.negatives()}; read them with: syneg-dspy inspect {folder}")
    return "\n".join(lines)


def trained(folder: RunFolder, result: Result) -> str:
    """Format one line for each training: steps, seconds, share of synthetic negatives, best score on dev."""
    rows = [
        (name, str(made["steps"]), f"{made['seconds']:.0f}", f"{made['synthetic_share']:.0%}", _best_dev(made))
        for name, made in result.items()
    ]
    columns = ("model", "steps", "seconds", "synthetic", "dev nDCG@10")
    return f"{_aligned(columns, rows)}\nmodels: {folder.path / 'models'}"


def _best_dev(made: Mapping[str, Any]) -> str:
    """Return the best nDCG@10 on dev of the evaluations and mixtures of one training; "-" without any."""
    scores = [score for _, score in (*made["dev"], *made["alphas"])]
    return f"{max(scores):.4f}" if scores else "-"


def evaluated(folder: RunFolder, result: Result) -> str:
    """Format one line for each arm and split: the metrics, each the mean over the queries and the seeds."""
    rows, names = [], list(next(iter(result.values()))[0]["test"])
    for arm, seeds in result.items():
        for split in seeds[0]:
            means = (sum(seed[split][name] for seed in seeds) / len(seeds) for name in names)
            rows.append((arm, str(len(seeds)), split, *(f"{mean:.4f}" for mean in means)))
    return f"{_aligned(('arm', 'seeds', 'split', *names), rows)}\nrankings: {folder.path / 'runs'}"


def _aligned(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Format a plain table: the first column to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    return "\n".join(
        "  ".join((cells[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))))
        for cells in (columns, *rows)
    )


def verdict(folder: RunFolder, result: Result) -> str:
    """Format the tables and the sentence of a verdict."""
    from syneg.verdict.records import Verdict
    from syneg.verdict.report import generation_line, second_table, table

    compared = Verdict.from_json(result)
    return (
        f"\n{table(compared)}\n\n{second_table(compared)}\n\n{wrapped(compared.sentence)}\n"
        f"\n{wrapped(generation_line(compared.generation) + '.')}\n\nmodel: {folder.best}\nreport: {folder.report}"
    )
