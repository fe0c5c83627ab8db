"""Make the collections `python-docs` and `python-docs-small` from the docstrings of Python's standard library.

    def insort(a, x): '''Insert item x in list a, and keep it sorted assuming a is sorted.

    If x is already in a, insert it to the right of the rightmost x. …'''

    → query "Insert item x in list a, and keep it sorted assuming a is sorted."
      relevant passage "If x is already in a, insert it to the right of the rightmost x. …"

A docstring without a summary and a body becomes a passage without a query. Modules are parsed with `ast`, never
imported. Private names, tests and exact repeats are left out. The collection depends on the Python version only.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from syneg.core.text import normalise

_LEFT_OUT = {
    "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "idlelib", "turtledemo", "ensurepip",
}  # fmt: skip
_MIN_QUERY_WORDS, _MIN_BODY_WORDS, _MIN_DISTRACTOR_WORDS = 3, 8, 4

SMALL = (
    "asyncio", "email", "ftplib", "http", "imaplib", "poplib", "smtplib", "socket", "socketserver", "ssl", "urllib",
    "xmlrpc",
)  # fmt: skip
"""Modules of `python-docs-small`: networking, about 900 passages and 440 queries."""

Docs = tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]


def read_python_docs(root: Path | None = None, packages: Collection[str] = ()) -> Docs:
    """Return passages (doc_id → text), queries (query_id → text) and qrels (query_id → {doc_id: 1}).

    `root` is a folder of Python files; None is the standard library of the running interpreter. `packages` limits the
    reading to these top-level modules. Ids are dotted names.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    passages: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    doc_of_text: dict[str, str] = {}
    query_of_text: dict[str, str] = {}
    for name, docstring in _docstrings(root, packages):
        summary, body = _split(docstring)
        is_pair = len(summary.split()) >= _MIN_QUERY_WORDS and len(body.split()) >= _MIN_BODY_WORDS
        text = body if is_pair else " ".join(docstring.split())
        if not is_pair and len(text.split()) < _MIN_DISTRACTOR_WORDS:
            continue
        doc_id = doc_of_text.setdefault(normalise(text), name)
        passages.setdefault(doc_id, text)
        if is_pair:
            query_id = query_of_text.setdefault(normalise(summary), name)
            queries.setdefault(query_id, summary)
            qrels.setdefault(query_id, {})[doc_id] = 1
    return passages, queries, qrels


def _split(docstring: str) -> tuple[str, str]:
    """Split a docstring into its first paragraph and the rest, each joined to one line; the rest may be ""."""
    first, *rest = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)
    return " ".join(first.split()), " ".join(" ".join(rest).split())


def _docstrings(root: Path, packages: Collection[str]) -> Iterator[tuple[str, str]]:
    for path in _files(root, packages):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT.intersection(parts) or any(_private(part) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # a template or a broken file
        yield from _walk(tree, ".".join(part for part in parts if part != "__init__"))


def _files(root: Path, packages: Collection[str]) -> Iterator[Path]:
    """The Python files under `root` in the order of their paths. What is left out at the top is not even listed: the
    folder of installed packages alone may hold 10,000 files, and listing them takes longer than all parsing."""
    for top in sorted(root.iterdir()):
        if top.name in _LEFT_OUT or (packages and top.name.removesuffix(".py") not in packages):
            continue
        if top.is_dir():
            yield from sorted(top.rglob("*.py"))
        elif top.suffix == ".py":
            yield top


def _walk(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str]]:
    docstring = ast.get_docstring(node)
    if docstring:
        yield name, docstring
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not _private(child.name):
            yield from _walk(child, f"{name}.{child.name}")


def _private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
