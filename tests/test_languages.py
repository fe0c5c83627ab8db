"""A whole run in Chinese and one in German: a tiny encoder made here, a scripted LM, from the folder to the verdict."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeLM

from syneg.core.progress import Progress
from syneg.core.settings import load_config
from syneg.core.storage import read_rows
from syneg.run.pipeline import Run

CHINESE = (
    ["套接字", "文件", "线程", "队列", "窗口", "档案", "时钟", "锁", "流", "缓冲区", "节点", "解析器"],
    ["关闭", "打开", "复制", "命名", "刷新", "重置", "统计", "合并"],
)
GERMAN = (
    [
        "Dateisystem",
        "Warteschlange",
        "Fenster",
        "Größenmaß",
        "Zeitgeber",
        "Sperre",
        "Datenstrom",
        "Puffer",
        "Knoten",
        "Übersetzer",
        "Archiv",
        "Faden",
    ],
    ["schließen", "öffnen", "kopieren", "löschen", "zählen", "prüfen", "leeren", "mischen"],
)


def chinese(thing: str, action: str) -> tuple[str, str, str]:
    """Query, passage, and what the LM writes."""
    return (
        f"请问怎样才能{action}{thing}",
        f"要{action}这个{thing}的话，先调用{action}，然后再检查一遍{thing}，直到全部完成为止。",
        f"{thing}的次数会被慢慢地记录下来，经过两轮以后，才可以交给别人看。",
    )


def german(thing: str, action: str) -> tuple[str, str, str]:
    return (
        unicodedata.normalize("NFD", f"WIE KANN MAN {thing.upper()} {action.upper()}?"),
        f"Um {thing} zu {action}, wird es zuerst angehalten und danach noch einmal langsam {action} lassen.",
        f"Wer {thing} beschreibt, nennt zuerst die Herkunft und erst viel später den Zweck der Sache.",
    )


def encoder(path: Path, texts: list[str], pattern: str) -> str:
    """A sentence-transformers model of random vectors for what `pattern` finds in lower-cased texts."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    normal = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    units = sorted({unit for text in texts for unit, _ in split.pre_tokenize_str(normal.normalize_str(text))})
    tokenizer = Tokenizer(models.WordLevel({unit: i for i, unit in enumerate(["[UNK]", *units])}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, split
    torch.manual_seed(0)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu").save(
        str(path), create_model_card=False
    )
    return str(path)


@pytest.mark.parametrize(
    ("language", "make", "vocabulary", "pattern"),
    [("zh", chinese, CHINESE, r"\p{L}"), ("de", german, GERMAN, r"\p{L}+")],
    ids=["zh", "de"],
)
def test_a_whole_run(
    language: str, make: Callable[..., tuple[str, str, str]], vocabulary: tuple[list[str], list[str]], pattern: str,
    tmp_path: Path, fake_lm: Callable[..., FakeLM], settings: Callable[..., list[str]],
) -> None:  # fmt: skip
    rows = [make(thing, action) for thing in vocabulary[0] for action in vocabulary[1]]
    folder = tmp_path / language
    (folder / "qrels").mkdir(parents=True)
    for name, column in (("queries", 0), ("corpus", 1)):
        lines = [json.dumps({"_id": f"{name[0]}{i}", "text": row[column]}) + "\n" for i, row in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels" / "train.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\tc{i}\t1\n" for i in range(len(rows)))
    )

    def answer(messages: list[dict[str, Any]]) -> tuple[int, str]:
        return 200, json.dumps({"hard_negative": rows[len(str(messages)) % len(rows)][2]}, ensure_ascii=False)

    overrides = settings(
        fake_lm(answer).url,
        **{"collection.dataset": folder, "encoder.model": encoder(tmp_path / "encoder", [t for row in rows for t in row], pattern)},
    )  # fmt: skip
    found = Run(tmp_path / "run", load_config(None, overrides), Progress(quiet=True)).until("verdict")
    assert list(found["arms"]) == ["base", "mined", "hybrid"]
    assert found["arms"]["hybrid"]["training"][0]["synthetic_share"] > 0.15
    negatives = list(read_rows(tmp_path / "run" / "negatives.jsonl"))
    assert sum(row["accepted"] for row in negatives) > 0.5 * len(negatives)
    mined = list(read_rows(tmp_path / "run" / "mined.jsonl"))
    assert sum(row["source"] == "bm25" for row in mined) > 0.1 * len(mined)
