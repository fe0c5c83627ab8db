"""Find the prompts of an encoder: the text that it expects before a query and before a passage.

    prompts_of(EncoderConfig(model="intfloat/e5-base-v2"), model, ["e5-base-v2"])
      → Prompts(query="query: ", passage="passage: ", source="the family e5")

The first of these that names a prompt decides:

1. the settings (an empty text means no prompt);
2. the model: `model.prompts`, then its default prompt;
3. the family that the model's name belongs to, with the prompts of the family's model card.

Otherwise there is no prompt. A prompt is text before the input only: the closing `<response>` of bge-en-icl and
few-shot examples are not supported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from syneg.core.config import EncoderConfig

Role = Literal["query", "passage"]
ROLES: tuple[Role, Role] = ("query", "passage")

# keys that models use in `prompts`; encode_query and encode_document read the first
PROMPT_KEYS: dict[Role, tuple[str, ...]] = {
    "query": ("query", "search_query", "retrieval.query", "s2p_query", "web_search_query", "Retrieval-query"),
    "passage": ("document", "passage", "corpus", "search_document", "retrieval.passage", "Retrieval-document"),
}
_ALWAYS_THERE = {"query", "document"}  # sentence-transformers adds both, empty, to every model

_WEB = "Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCT = {"query": f"Instruct: {_WEB}\nQuery: "}
_BGE = {"query": "Represent this sentence for searching relevant passages: "}
_NOMIC = {"query": "search_query: ", "passage": "search_document: "}
# Pattern of a model name (lower case, "-" for "_") → the prompts of its model card. The first match counts.
_FAMILIES: tuple[tuple[str, dict[str, str]], ...] = (
    (r"\be5\b.*instruct|e5-mistral", _INSTRUCT),
    (r"\be5\b", {"query": "query: ", "passage": "passage: "}),
    (r"bge-m3|bge-reranker|bge-.*noinstruct", {}),
    (r"bge-multilingual-gemma2|bge-en-icl", {"query": f"<instruct>{_WEB}.\n<query>"}),
    (
        r"bge-code",
        {"query": "<instruct>Given a question in text, retrieve relevant code that answers the question.\n<query>"},
    ),
    (r"bge-.*zh\b", {"query": "为这个句子生成表示以用于检索相关文章："}),
    (r"\bbge-", _BGE),
    (
        r"llm-embedder",
        {
            "query": "Represent this query for retrieving relevant documents: ",
            "passage": "Represent this document for retrieval: ",
        },
    ),
    (r"qwen3-embedding", {"query": f"Instruct: {_WEB}\nQuery:"}),
    (r"gte-qwen.*instruct|sfr-embedding|linq-embed|nv-embed", _INSTRUCT),
    (r"stella-en", {"query": f"Instruct: {_WEB}.\nQuery: "}),
    (r"arctic-embed.*v2", {"query": "query: "}),
    (r"arctic-embed|mxbai-embed-(large|2d)|uae-large", _BGE),
    (r"nomic-embed-text|modernbert-embed", _NOMIC),
    (r"nomic-embed-code", {"query": "Represent this query for searching relevant code: "}),
    (r"embeddinggemma", {"query": "task: search result | query: ", "passage": "title: none | text: "}),
    (
        r"jina-embeddings-v3",
        {
            "query": "Represent the query for retrieving evidence documents: ",
            "passage": "Represent the document for retrieval: ",
        },
    ),
    (
        r"\binstructor-(base|large|xl)",
        {
            "query": "Represent the question for retrieving supporting documents: ",
            "passage": "Represent the document for retrieval: ",
        },
    ),
)


@dataclass(frozen=True)
class Prompts:
    """The prompt of each role, "" for none. `source` names their origin for the user."""

    query: str
    passage: str
    source: str

    def of(self, role: Role) -> str:
        return self.query if role == "query" else self.passage


def prompts_of(config: EncoderConfig, model: Any, names: Sequence[str]) -> Prompts:
    """The prompts of `model` (a SentenceTransformer). `names` are compared with the known families."""
    default = (model.prompts or {}).get(model.default_prompt_name or "") or ""
    return resolve_prompts(config, model.prompts, names, default)


def resolve_prompts(
    config: EncoderConfig,
    own: Mapping[str, str | None] | None,
    names: Sequence[str],
    default: str = "",
) -> Prompts:
    """Choose prompts from the settings, from the model's `own` prompts, or from the family of one of `names`.

    `default` is the model's default prompt. It applies to both roles unless the model has a prompt for one of them. The
    family is looked up only if the model has no prompt at all. An empty prompt counts as one, except under the two keys
    that sentence-transformers adds to every model.
    """
    brought = {key: text or "" for key, text in (own or {}).items()}
    says = any(brought.values()) or bool(brought.keys() - _ALWAYS_THERE)
    family, known = ("", {}) if says else _family(names)
    own_or_family: dict[Role, str] = {}
    for role in ROLES:
        of_model = next((brought[key] for key in PROMPT_KEYS[role] if brought.get(key)), "")
        if not any(brought.get(key) for keys in PROMPT_KEYS.values() for key in keys):
            of_model = default
        own_or_family[role] = of_model or known.get(role, "")
    source = "the model" if says else f"the family {family}" if family else "none known"
    given: dict[Role, str | None] = {"query": config.query_prompt, "passage": config.passage_prompt}
    if any(text is not None for text in given.values()):
        source = "the settings" if all(text is not None for text in given.values()) else f"the settings and {source}"
    query, passage = (text if (text := given[role]) is not None else own_or_family[role] for role in ROLES)
    return Prompts(query, passage, source)


def write_prompts(model: Any, prompts: Prompts) -> None:
    """Set `model.prompts`, so that encode_query and encode_document use `prompts`, also after saving and loading.

    The extra key "passage" marks empty prompts as intended (see `resolve_prompts`).
    """
    written = {"query", "document", "passage", *model.prompts}
    for role in ROLES:
        for key in written.intersection(PROMPT_KEYS[role]):
            model.prompts[key] = prompts.of(role)


def known_names(source: str, folder: Path | None = None) -> list[str]:
    """Names of a model, from its path or hub id and from the config.json in `folder`, to look up its family.

    >>> known_names("/hub/models--intfloat--e5-small-v2/snapshots/ffb93f3b/")
    ['ffb93f3b', 'e5-small-v2']
    """
    names = _path_names(source)
    if folder is not None:
        names += _path_names(str(folder.resolve()))
        for path in (folder / "config.json", folder / "0_Transformer" / "config.json"):
            names += _path_names(_saved_name(path))
    return list(dict.fromkeys(name for name in names if name))


def _path_names(path: str) -> list[str]:
    """The names in a path that may name a model: its last part, and the part of the hub's cache."""
    parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".")]
    hub = [part.rsplit("--", 1)[-1] for part in parts if part.startswith("models--")]
    return [*parts[-1:], *hub]


def _saved_name(path: Path) -> str:
    """The name that a saved model remembers; "" if there is none."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(saved.get("_name_or_path") or "") if isinstance(saved, dict) else ""


def _family(names: Iterable[str]) -> tuple[str, Mapping[str, str]]:
    """The pattern of the first family that one of `names` fits, with its prompts; ("", {}) without one."""
    for name in names:
        plain = name.lower().replace("_", "-")
        for pattern, prompts in _FAMILIES:
            if match := re.search(pattern, plain):
                return (match.group(), prompts) if prompts else ("", {})
    return "", {}
