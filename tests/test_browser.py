"""The report in a real browser: Debian's chromium, without a window. Skipped where there is none."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from test_comparison import finished

from syneg.core.storage import read_json
from syneg.verdict.page import Evidence, html_report
from syneg.verdict.records import Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
PLANTED = "<script>document.title='planted'</script><img src=x onerror=\"document.title='planted'\">"


def row(number: int, *, accepted: bool) -> dict[str, Any]:
    return {"query_id": f"q{number}", "query": f"query {number} {PLANTED}", "doc_id": "d", "text": f"text {number} {'long' * 60} {PLANTED}",
            "accepted": accepted, "reason": "" if accepted else "copies its parent", "figure": 0.5, "threshold": 0.3,
            "figures": {"query_cosine": number / 10, "positive_query_cosine": 0.7}, "attributes": {"kind": PLANTED},
            "program": "reflective" if number % 2 else "single_prompt"}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser says of the page: widths at 1280 and 390 pixels, colours, and what the filters show."""
    folder = tmp_path_factory.mktemp("page")
    told = Verdict.from_json(read_json(finished(folder / "run", shift=0.05).verdict))
    rows = [row(number, accepted=number < 4) for number in range(8)]
    settings = {"collection": {"dataset": "/a/very/long/path/" + "deep/" * 60}}
    page = html_report(
        told, Evidence({"q1": PLANTED}, rows, {"d": PLANTED}, settings=settings, command="syneg-dspy run " * 30)
    )
    (folder / "report.html").write_text(page)
    script = """
      const measure = f => { const d = f.contentDocument, w = f.contentWindow; return {
        scroll: d.documentElement.scrollWidth, wide: d.documentElement.clientWidth, title: d.title, back: w.getComputedStyle(d.body).backgroundColor,
        fore: w.getComputedStyle(d.body).color, figures: d.querySelectorAll("figure svg").length, tables: d.querySelectorAll("table").length,
        smallest: Math.min(...[...d.querySelectorAll("svg text")].map(t => t.getBoundingClientRect().height)) } }
      const shown = d => [...d.querySelectorAll("article")].filter(a => !a.hidden).length
      const set = (d, id, value) => { const e = d.getElementById(id); e.value = value; e.dispatchEvent(new Event("input")); return shown(d) }
      window.onload = () => { const [a, b] = document.querySelectorAll("iframe"), d = a.contentDocument
        const out = {desk: measure(a), phone: measure(b), all: shown(d), program: set(d, "by-program", "reflective"),
          both: set(d, "by-gate", "accepted"), text: set(d, "by-query", "query 3"), none: set(d, "by-query", "nowhere")}
        document.body.innerHTML = ""; document.body.textContent = JSON.stringify(out) }"""
    frames = "".join(
        f"<iframe src=report.html style='width:{width}px;height:4000px;border:0'></iframe>" for width in (1280, 390)
    )
    (folder / "frame.html").write_text(f"<!doctype html><body><script>{script}</script>{frames}</body>")

    def browse(*more: str) -> str:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
                   f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--window-size=1800,4000", *more]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout

    def read(*more: str) -> Any:
        said = browse(*more, "--dump-dom", (folder / "frame.html").as_uri())
        return json.loads(html.unescape(said[said.index("<body>") + 6 : said.index("</body>")]))

    found = read()
    found["dark"] = read("--blink-settings=preferredColorScheme=0")["desk"]
    browse(f"--print-to-pdf={folder / 'page.pdf'}", (folder / "report.html").as_uri())
    found["pdf"] = (folder / "page.pdf").read_bytes()
    return dict(found)


def test_nothing_planted_runs(seen: dict[str, Any]) -> None:
    assert seen["desk"]["title"] == seen["phone"]["title"] == "toy: syneg-dspy"


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_the_page_is_no_wider_than_the_screen(seen: dict[str, Any], size: str) -> None:
    assert seen[size]["scroll"] <= seen[size]["wide"]
    assert seen[size]["figures"] >= 3
    assert seen[size]["smallest"] >= 9  # pixels


def test_dark_is_dark_and_light_is_light(seen: dict[str, Any]) -> None:
    assert seen["desk"]["back"] == "rgb(255, 255, 255)"
    assert seen["dark"]["back"] == "rgb(22, 24, 28)"
    assert seen["dark"]["fore"] == "rgb(230, 230, 230)"


def test_samples_are_filtered_by_program_gate_and_text(seen: dict[str, Any]) -> None:
    assert [seen[key] for key in ("all", "program", "both", "text", "none")] == [8, 4, 2, 1, 0]


def test_the_page_prints_in_small_type_with_three_texts_beside_each_other(seen: dict[str, Any]) -> None:
    assert seen["pdf"].startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", seen["pdf"])) <= 6  # 7 in the type of a screen
