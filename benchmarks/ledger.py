"""The ledger at many calls: seconds to open it, lookups and appends a second, and memory.

    python benchmarks/ledger.py --rows 10000,100000,1000000,5000000          the last one needs 3 GB of disk
    python benchmarks/ledger.py --quick

Rows are made in bulk, as a run would have left them: keys of 16 hex digits, answers of 60 words. Each size has a
process of its own, so that memory is its own. `first_open_s` reads the whole file once and makes the index; `open_s`
finds it there. `rss_mb` is the peak over all of it, `grown_mb` the part above what the process had before it opened the
ledger.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
from turns import Figures, columns, in_turn, peak_mb, save, sizes

from syneg.core.records import fingerprint
from syneg.llm.ledger import Ledger

KEY = "KEY"  # replaced in each row
APPENDS = 2_000


def key(number: int) -> str:
    return fingerprint("openai/made", number)


def lines(rows: int) -> Iterator[str]:
    """Rows of the ledger, as `Log` writes them."""
    row = {
        "answer": json.dumps({"hard_negative": " ".join(f"w{i}" for i in range(60))}), "attempt": 0, "error": None,
        "finish_reason": "stop", "input_tokens": 412, "key": KEY, "model": "openai/made@default", "output_tokens": 88,
        "prompt": KEY, "query_id": "q", "seconds": 0.3, "usd": 0.0, "use": "write single_prompt",
    }  # fmt: skip
    line = json.dumps(row) + "\n"
    for number in range(rows):
        yield line.replace(KEY, key(number))


def measure(folder: str, rows: int, appends: int, seed: int = 0) -> Figures:
    """Seconds and memory of a ledger with `rows` rows; `appends` are made by one thread and as many by 32, after ten
    times as many lookups."""
    path = Path(folder) / f"{rows}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines(rows))
    before, figures = peak_mb(), Figures()
    for name in ("first_open_s", "open_s"):
        start = time.perf_counter()
        ledger = Ledger(path)
        figures[name] = time.perf_counter() - start
        if name == "first_open_s":
            ledger.close()
    draw = random.Random(seed)
    asked = [key(draw.randrange(rows)) for _ in range(10 * appends)]
    start = time.perf_counter()
    assert all(ledger.find(each) is not None for each in asked)
    figures["lookups_a_s"] = len(asked) / (time.perf_counter() - start)
    for name, threads in (("appends_a_s", 1), ("appends_a_s_32_threads", 32)):
        new = [json.loads(line) | {"key": fingerprint(name, i)} for i, line in enumerate(lines(appends))]
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(ledger.keep, new))
        figures[name] = appends / (time.perf_counter() - start)
    ledger.close()
    figures |= {"file_mb": path.stat().st_size / 1e6, "grown_mb": peak_mb() - before}
    for left in (path, path.with_name(f"{path.name}.index")):
        left.unlink()
    return figures


@click.command()
@click.option("--rows", default="10000,100000,1000000", show_default=True, callback=sizes)
@click.option("--turns", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="two small sizes")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(rows: list[int], turns: int, quick: bool, path: Path | None) -> None:
    appends = APPENDS
    if quick:
        rows, turns, appends = [1_000, 5_000], 1, 100
    with tempfile.TemporaryDirectory() as folder:
        measured = in_turn({f"{size:,}": partial(measure, folder, size, appends) for size in rows}, turns)
    print(columns(measured, "rows"))
    save(path, "ledger", {"rows": rows}, measured)


if __name__ == "__main__":
    main()
