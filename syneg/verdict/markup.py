"""HTML of the pages: the document with its one style, tables, and figures with their words and numbers.

document("pairs", ["<h1>pairs</h1>", html_table(("arm", "nDCG@10"), [("mined", "0.41")])]) → "<!doctype html>…"
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from syneg.core.text import printable

from .figures import Figure

_LONG = 20  # characters of a column's name that may be broken into lines
_STYLE = """:root{color-scheme:light dark;--back:#fff;--fore:#1a1a1a;--soft:#f4f4f2;--line:#bbb;--mild:#555}
@media(prefers-color-scheme:dark){:root{--back:#16181c;--fore:#e6e6e6;--soft:#23262b;--line:#4a4d52;--mild:#aaa}}
@media print{:root{--back:#fff;--fore:#000;--soft:#fff;--mild:#333}.filters{display:none}
figure,article{break-inside:avoid}}
*{box-sizing:border-box}
body{overflow-wrap:anywhere;font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:0 auto;padding:1rem;
color:var(--fore);background:var(--back)}
p,li{max-width:58rem}
pre,.wide{overflow-x:auto;background:var(--soft);padding:.6rem;font-size:13px;max-width:100%}
.wide{background:linear-gradient(90deg,var(--soft) 40%,transparent) 0/3rem 100% local,
linear-gradient(-90deg,var(--soft) 40%,transparent) 100%/3rem 100% local,
linear-gradient(90deg,var(--line),transparent) 0/.8rem 100% scroll,
linear-gradient(-90deg,var(--line),transparent) 100%/.8rem 100% scroll,var(--soft);background-repeat:no-repeat}
@media(max-width:600px){pre{font-size:9px}}@media print{pre{font-size:9px;white-space:pre-wrap}}
table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:.2rem .4rem;text-align:left;overflow-wrap:break-word;
max-width:30rem}th{white-space:nowrap}th.long{white-space:normal;min-width:7rem}
figure{margin:1rem 0}svg{width:100%;height:auto;max-width:42rem;max-height:34rem}
td.n{text-align:right;white-space:nowrap}label{display:inline-block;margin-right:.6rem}
article{border-top:1px solid var(--line);padding:.6rem 0}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem}
.sides p{margin:0;overflow-wrap:anywhere}
small,figcaption{color:var(--mild)}.lead{font-size:1.25rem}.no{color:#c03a1c}
@media(prefers-color-scheme:dark){.no{color:#ff9a7c}}
ins{color:#1f7a36;text-decoration:underline}del{color:#b03024}
@media(prefers-color-scheme:dark){ins{color:#7fd694}del{color:#ff9a7c}}
blockquote{margin:.4rem 0;padding:.2rem .8rem;border-left:3px solid var(--line)}
input,select{font:inherit;max-width:100%;margin:.2rem}
@media print{.wide{overflow:visible;padding:0;background:none}figure details{display:none}
table{font-size:9px}th{white-space:normal}tr{break-inside:avoid}
body{font-size:11px}svg{max-height:15rem;max-width:28rem}.sides{grid-template-columns:repeat(3,minmax(0,1fr))}
h2,h3{break-after:avoid}article:nth-of-type(n+21){display:none}p.lead{font-size:1.1rem}}"""


_WORD = re.compile(r"[^\W\d_]{4}")  # "95 % rule" is a name, "30 min" a number
_HEAD = ("<!doctype html><html lang=en><head><meta charset=utf-8>\n"
         "<meta name=viewport content='width=device-width,initial-scale=1'>")  # fmt: skip


def document(title: str, parts: Iterable[str]) -> str:
    """A whole HTML page: `parts`, in order, with the style of all pages. Control characters become spaces."""
    head = [
        _HEAD,
        f"<title>{escape(title)}: syneg-dspy</title><style>{_STYLE}</style></head><body>",
    ]
    return printable("\n".join((*head, *parts, "</body></html>")))


def is_document(path: Path) -> bool:
    """Whether a file begins as `document` does."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


def drawn(figure: Figure, level: int = 2) -> str:
    """A figure as HTML: title, picture, its words for screen readers, and its numbers in a table to unfold."""
    return (
        f"<figure role=group aria-label='{escape(figure.title)}'><h{level}>{escape(figure.title)}</h{level}>"
        f"<div role=img aria-label='{escape(figure.text)}'>{figure.svg}</div>"
        f"<details><summary>as a table</summary>{html_table(figure.columns, figure.rows)}</details></figure>"
    )


def html_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """An HTML table that scrolls sideways if it is wider than the page. All cells are escaped."""
    head = "".join(f"<th{' class=long' if len(column) > _LONG else ''}>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(value: object) -> str:
    text = str(value)
    number = text[:1] in "+-[.0123456789" and len(text) < 24 and not _WORD.search(text)
    return f"<td{' class=n' if number and text else ''}>{escape(text)}</td>"
