"""Write README.md of a run folder, as a data set card, and README.md of best/, as a model card.

    data_card(verdict, config, ("negatives.jsonl", "mined.jsonl"))
      → "---\\nconfigs:\\n- config_name: negatives\\n  data_files: negatives.jsonl\\n…---\\n# Hard negatives for …"

The YAML at its top lets `datasets.load_dataset(run)` read the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .records import Verdict
from .report import generation_line, second_table, table

_ABOUT = {
    "negatives.jsonl": "every synthetic negative, accepted or not, with attributes, figures and reason",
    "mined.jsonl": "retrieved negatives with source, rank and score",
    "near-misses.jsonl": "the near-misses of the boundary test",
    "ledger/calls.jsonl": "every LM call",
    "program.json": "the program; program.md shows its prompts",
    "verdict.json": "the verdict as data; report.html shows it",
}
_CONFIGS = ("negatives.jsonl", "mined.jsonl", "near-misses.jsonl")


def data_card(verdict: Verdict, config: Mapping[str, Any], files: Iterable[str]) -> str:
    """README.md of the run folder. It lists those of the known files that are in `files`, the folder's file names.

    `config` holds the settings by section, as in config.toml.
    """
    there = set(files)
    given = bool(config["generate"].get("given"))
    made = (
        "The synthetic passages were given, not written in this run."
        if given
        else "The synthetic passages in `negatives.jsonl` were written by an LLM."
    )
    head = ["---", "tags:", "- hard-negatives", "- information-retrieval", "configs:"]
    for name in _CONFIGS:
        if name in there:
            stem = name.removesuffix(".jsonl")
            head += [
                f"- config_name: {stem}",
                f"  data_files: {name}",
                *(["  default: true"] if stem == "mined" else []),
            ]
    lm = "" if given or verdict.generation is None else f"; LM: {_name(config['lm']['model'])}"
    parts = ["---", "", f"# Hard negatives for {verdict.collection}", "", "Made by `syneg-dspy run`."]
    if verdict.generation is not None:
        parts += [made, "Facts and numbers in them are invented: they are for training retrievers, not for reading."]
    parts += ["", f"{generation_line(verdict.generation)}.", *_verdict(verdict), "## Files", ""]
    parts += [f"- `{name}`: {about}" for name, about in _ABOUT.items() if name in there]
    parts += ["- `best/`: the best model on dev, the base included; `models/`: all of them", ""]
    return "\n".join([*head, *parts, f"Encoder: {_name(config['encoder']['model'])}{lm}.", ""])


def model_card(verdict: Verdict, config: Mapping[str, Any]) -> str:
    """README.md of best/: how to load the model, which arm it is, and the verdict."""
    return "\n".join(
        [
            "---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity", "tags:",
            "- sentence-transformers", "- dense-retrieval", "- hard-negatives", "---", "",
            f"# {_name(config['encoder']['model'])} for {verdict.collection}", "",
            f"The arm `{verdict.best}` of a syneg-dspy run: best on dev of {', '.join(verdict.arms)}.", "",
            "```python", "from sentence_transformers import SentenceTransformer", "",
            'model = SentenceTransformer("best")', (
                "scores = model.similarity(model.encode_query([\"…\"]), model.encode_document([\"…\"]))"
            ),
            "```", *_verdict(verdict),
        ]
    )  # fmt: skip


def _name(model: str) -> str:
    """The name of a model for readers elsewhere: without the folders of this machine."""
    prefix, path = ("local/", model.removeprefix("local/")) if model.startswith("local/") else ("", model)
    return f"{prefix}{Path(path).name}" if Path(path).is_absolute() else model


def _verdict(verdict: Verdict) -> list[str]:
    return [
        "",
        "## Verdict",
        "",
        verdict.sentence,
        "",
        "```",
        table(verdict),
        "```",
        "",
        "```",
        second_table(verdict),
        "```",
        "",
    ]
