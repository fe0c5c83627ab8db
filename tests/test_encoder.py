"""What a model brings (prompts, routes, pooling, similarity, length) decides how it is used, and is in what is saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ACTIONS, THINGS
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Router, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from syneg.core.config import CollectionConfig, EncoderConfig, TrainConfig
from syneg.core.errors import BackendError, ConfigError
from syneg.core.records import Instance
from syneg.data.collection import load_collection
from syneg.retrieval.dev_score import DevScore
from syneg.retrieval.dev_set import dev_set
from syneg.retrieval.encoder import Encoder
from syneg.retrieval.evaluation import evaluate_model
from syneg.retrieval.loading import find_model
from syneg.retrieval.prompts import ROLES, known_names, resolve_prompts
from syneg.retrieval.vectors import looked_up, scaled, unit
from syneg.training.job import Job
from syneg.training.loss import HybridInfoNCE
from syneg.training.merging import Chunks, embed_by_length
from syneg.training.trainer import train

WORDS = sorted(
    {
        *THINGS,
        *ACTIONS,
        *[
            "the",
            "a",
            "of",
            "and",
            "to",
            "it",
            "is",
            "again",
            "twice",
            "slowly",
            "query",
            "passage",
            "search",
            ":",
            "file",
            "1",
            "2",
        ],
    }
)
NONE = {"query": "", "document": ""}
ENGLISH_BGE = "Represent this sentence for searching relevant passages: "
WEB = "Given a web search query, retrieve relevant passages that answer the query"


def write_bert(folder: Path, *, left: bool = False, pad: bool = True) -> Path:
    """A checkpoint of two random BERT layers over WORDS, without sentence-transformers modules."""
    torch.manual_seed(0)
    ids = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "[UNK]", "eos_token": "[SEP]"} | ({"pad_token": "[PAD]"} if pad else {})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=64, padding_side="left" if left else "right", **special
    )
    config = BertConfig(vocab_size=len(ids), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=64)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build(
    folder: Path, *, include_prompt: bool = True, left: bool = False, pooling: str = "mean", **settings: Any
) -> str:
    """A sentence-transformers model of `write_bert`'s checkpoint."""
    bert = Transformer(str(write_bert(folder / "bert", left=left)))
    pooled = Pooling(32, pooling_mode=pooling, include_prompt=include_prompt)  # type: ignore[arg-type]
    model = SentenceTransformer(modules=[bert, pooled], device="cpu", **settings)
    model.save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


def routed(folder: Path) -> str:
    """Queries pass a further layer that passages do not."""
    torch.manual_seed(1)
    bert = Transformer(str(write_bert(folder / "bert")))
    router = Router.for_query_document(
        query_modules=[bert, Pooling(32), Dense(32, 32)],
        document_modules=[Transformer(str(folder / "bert")), Pooling(32)],
    )
    SentenceTransformer(modules=[router], device="cpu").save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


def named_e5(folder: Path) -> str:
    path = build(folder)
    shutil.move(path, folder / "e5-tiny-v2")
    return str(folder / "e5-tiny-v2")


FORMS: dict[str, Callable[[Path], str]] = {
    "family by name": named_e5,
    "prompts of the model": lambda f: build(f, prompts={"query": "search query : ", "passage": "passage : "}),
    "default prompt": lambda f: build(f, prompts={"query": "query : ", "document": ""}, default_prompt_name="query"),
    "prompt not pooled": lambda f: build(
        f, include_prompt=False, prompts={"query": "query : ", "document": "search passage : : "}
    ),
    "dot product": lambda f: build(f, similarity_fn_name="dot"),
    "router": routed,
    "padding on the left": lambda f: build(f, left=True, pooling="lasttoken"),
}


def load(path: str | Path, **settings: Any) -> Encoder:
    return Encoder.load(EncoderConfig(model=str(path), precision="fp32", device="cpu", batch_size=96, **settings))


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_model_scores_as_the_verdict_does(form: str, tmp_path: Path, beir: Path) -> None:
    collection = load_collection(CollectionConfig(dataset=str(beir)))
    encoder = load(FORMS[form](tmp_path))
    pairs = collection.pairs("train")
    passages = list(collection.passages.values())
    rows = [
        Instance(
            pair, (passages[(7 * i) % 96], passages[(11 * i + 5) % 96]), ("dense", "dense"), (1.0, 1.0), (None, None)
        )
        for i, pair in enumerate(pairs)
    ]
    relevant = {pair.query_id: [pair.positive] for pair in pairs}
    dev = dev_set(encoder, collection, 40, 0)
    config = TrainConfig(epochs=1, batch_size=16, evals=1, learning_rate=1e-3)
    train(Job(encoder.config, [rows], relevant, dev, config, 0), tmp_path / "tuned", encoder=encoder)

    tuned = Encoder.load(encoder.config, tmp_path / "tuned")
    assert [tuned.prompts.of(role) for role in ROLES] == [encoder.prompts.of(role) for role in ROLES]
    tuned.save(tmp_path / "best")
    plain = SentenceTransformer(str(tmp_path / "best"), device="cpu")
    assert plain.similarity_fn_name == encoder.similarity
    assert plain.max_seq_length == 64
    query_ids = list(collection.splits["test"])
    ranking = evaluate_model(tuned, collection, depth=50)["test"].ranking
    queries = plain.encode_query([collection.queries[q] for q in query_ids], batch_size=96)
    scores = plain.similarity(queries, plain.encode_document(passages, batch_size=96)).numpy()
    base = encoder.encode([collection.queries[q] for q in query_ids], "query")
    moved = 0.0
    for query_id, row, start in zip(query_ids, scores, base, strict=True):
        by_hand = dict(zip(collection.passages, row.tolist(), strict=True))
        top = ranking[query_id]
        scale = max(1.0, abs(max(by_hand.values())))
        assert top == pytest.approx({d: by_hand[d] for d in top}, abs=1e-3 * scale)
        assert min(top.values()) >= sorted(row)[-50] - 1e-3 * scale
        moved = max(moved, float(np.abs(tuned.encode([collection.queries[query_id]], "query")[0] - start).max()))
    assert moved > 1e-3  # training did change it


@pytest.mark.parametrize("form", FORMS)
def test_training_embeds_as_the_encoder_does(form: str, tmp_path: Path) -> None:
    encoder = load(FORMS[form](tmp_path))
    encoder.model.eval()
    queries = ["close a socket", "open the file again", "merge it"]
    passages = ["to copy the file it is slowly again and again twice", "flush", "the parser is a node"]
    columns = [encoder.features(queries, "query"), encoder.features(passages, "passage")]
    with torch.no_grad():
        found = embed_by_length(encoder.model, columns, lambda model, f: model(f)["sentence_embedding"], Chunks(2))
    for vectors, texts, role in ((found[0], queries, "query"), (found[1], passages, "passage")):
        ours = vectors.numpy()
        if encoder.similarity == "cosine":
            ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
        assert ours == pytest.approx(encoder.forward(texts, role), abs=1e-5)  # type: ignore[arg-type]


def test_an_empty_prompt_is_no_prompt_even_with_a_default_prompt(tmp_path: Path) -> None:
    path = build(tmp_path, prompts={"query": "query : ", "document": ""}, default_prompt_name="query")
    encoder, plain = load(path), SentenceTransformer(path, device="cpu")
    text = ["close the socket"]

    def bare(prompt: str) -> np.ndarray:
        return plain.encode(text, prompt=prompt, normalize_embeddings=True)

    assert encoder.encode(text, "passage") == pytest.approx(bare(""), abs=1e-3)
    assert encoder.encode(text, "query") == pytest.approx(bare("query : "), abs=1e-3)
    off = load(path, query_prompt="")
    assert off.encode(text, "query") == pytest.approx(bare(""), abs=1e-3)
    assert off.fingerprint != encoder.fingerprint
    off.save(tmp_path / "off")
    assert load(tmp_path / "off").prompts.query == ""


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("/models/e5-small-v2/", "query: ", "passage: "),
        ("/hub/models--intfloat--e5-small-v2/snapshots/ffb93f3bd4047442299a41ebb/", "query: ", "passage: "),
        ("C:\\models\\e5_large_v2\\", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", f"Instruct: {WEB}\nQuery: ", ""),
        ("intfloat/e5-mistral-7b-instruct", f"Instruct: {WEB}\nQuery: ", ""),
        ("BAAI/bge-large-en-v1.5", ENGLISH_BGE, ""),
        ("BAAI/bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("BAAI/bge-large-zh-noinstruct", "", ""),
        ("BAAI/bge-m3", "", ""),
        ("BAAI/bge-multilingual-gemma2", f"<instruct>{WEB}.\n<query>", ""),
        ("BAAI/bge-en-icl", f"<instruct>{WEB}.\n<query>", ""),
        ("Qwen/Qwen3-Embedding-0.6B", f"Instruct: {WEB}\nQuery:", ""),
        ("Alibaba-NLP/gte-Qwen2-1.5B-instruct", f"Instruct: {WEB}\nQuery: ", ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", ENGLISH_BGE, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("mixedbread-ai/mxbai-embed-large-v1", ENGLISH_BGE, ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("facebook/contriever", "", ""),
    ],
)
def test_the_family_is_found_by_the_name_however_it_is_written(name: str, query: str, passage: str) -> None:
    found = resolve_prompts(EncoderConfig(), NONE, known_names(name))
    assert (found.query, found.passage) == (query, passage)


def test_settings_come_before_the_model_and_the_model_before_its_family() -> None:
    own = {"query": "Q: ", "document": "", "passage": "P: "}
    found = resolve_prompts(EncoderConfig(), own, ["e5-base"])
    assert (found.query, found.passage, found.source) == ("Q: ", "P: ", "the model")
    assert resolve_prompts(EncoderConfig(), {"query": "Q: ", "document": ""}, ["e5-base"]).passage == ""
    given = resolve_prompts(EncoderConfig(query_prompt="", passage_prompt="x"), own, ["e5-base"])
    assert (given.query, given.passage, given.source) == ("", "x", "the settings")
    for_both = resolve_prompts(EncoderConfig(), {**NONE, "retrieval": "R: "}, ["any"], default="R: ")
    assert (for_both.query, for_both.passage) == ("R: ", "R: ")


def test_the_name_saved_in_the_model_counts_where_the_folder_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_name_or_path": "intfloat/e5-base-v2/"}')
    names = known_names(str(tmp_path / "."), tmp_path)
    assert resolve_prompts(EncoderConfig(), NONE, names).query == "query: "
    (tmp_path / "config.json").write_text("[not json")
    assert resolve_prompts(EncoderConfig(), NONE, known_names(str(tmp_path), tmp_path)).query == ""


def test_the_length_limit_is_the_models_own_and_longer_passages_are_counted(tmp_path: Path) -> None:
    path = build(tmp_path)
    encoder = load(path)
    texts = ["the file " * 40, "the file " * 20, "merge"]
    assert encoder.model.max_seq_length == 64
    assert encoder.longer_than_limit(texts) == (1, True)
    assert "64 tokens" in encoder.describe()
    cut = load(path, max_tokens=16)
    assert cut.model.max_seq_length == 16
    assert cut.longer_than_limit(texts) == (2, True)
    assert load(path, max_tokens=4000).model.max_seq_length == 64
    assert cut.fingerprint != encoder.fingerprint


def test_of_many_long_passages_a_sample_of_400_is_tokenised(tmp_path: Path) -> None:
    cut = load(build(tmp_path), max_tokens=16)

    def texts(count: int, long: int) -> list[str]:
        """Every third text has many tokens, from the place `long` on; the others have many letters and one token."""
        return [f"{'the file ' * 20}{i}" if i % 3 == long else "x" * 40 for i in range(count)]

    assert cut.longer_than_limit(texts(399, 1)) == (133, True)
    assert cut.longer_than_limit(texts(1200, 0)) == (1200, False)  # the texts 0, 3, 6 … stand for all
    assert cut.longer_than_limit(texts(1200, 1)) == (0, False)


def test_dot_products_are_scores_everywhere(tmp_path: Path, beir: Path) -> None:
    path = build(tmp_path, similarity_fn_name="dot")
    encoder, plain = load(path), SentenceTransformer(path, device="cpu")
    texts = ["close the socket", "the file is open again and again"]
    assert encoder.encode(texts, "passage") == pytest.approx(plain.encode(texts), rel=1e-4, abs=1e-5)
    assert np.linalg.norm(encoder.encode(texts, "passage"), axis=1).min() > 1.5
    assert load(path, similarity="cosine").fingerprint != encoder.fingerprint
    assert load(path, similarity="cosine").model.similarity_fn_name == "cosine"
    # the loss sees dot products: twice the length of the passages, other logits
    pair = load_collection(CollectionConfig(dataset=str(beir))).pairs("train")[0]
    row = Instance(pair, ("flush",), ("dense",), (1.0,), (None,))
    loss = HybridInfoNCE(encoder.model, [row], {}, TrainConfig())
    query, positive, negative = torch.ones(1, 4), torch.ones(1, 4), -torch.ones(1, 4)
    values = [float(loss.from_embeddings(query, [s * positive, s * negative], torch.tensor([0]))) for s in (1e-3, 2e-3)]
    assert values[1] < values[0]


def test_what_the_model_does_not_say_of_itself_is_noted(tmp_path: Path) -> None:
    plain = write_bert(tmp_path / "plain-bert")
    assert any("mean is assumed; set encoder.pooling" in note for note in load(plain).notes)
    assert load(plain, pooling="cls").notes == []
    coco = load(write_bert(tmp_path / "cocodr-base-msmarco"))
    assert (coco.similarity, coco.notes) == ("dot", [])
    assert coco.model[1].pooling_mode == "cls"
    euclid = load(build(tmp_path, similarity_fn_name="euclidean"))
    assert (euclid.similarity, len(euclid.notes)) == ("cosine", 1)


def test_a_tokenizer_without_padding_token_gets_one(tmp_path: Path) -> None:
    encoder = load(write_bert(tmp_path / "gpt", pad=False))
    assert encoder.encode(["close", "close the socket again"], "passage").shape == (2, 32)
    encoder.save(tmp_path / "saved")
    assert len(SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(["close", "close it again"])) == 2
    assert any("padding token" in note for note in encoder.notes)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("opened",))


def test_bin_weights_are_read_without_running_what_a_pickle_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    folder = write_bert(tmp_path / "bin")
    expected = load(folder).encode(["close the socket"], "passage")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    encoder = load(folder)
    assert encoder.encode(["close the socket"], "passage") == pytest.approx(expected, abs=1e-3)
    encoder.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").exists()
    torch.save({**weights, "x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(BackendError, match="pickle with more than tensors"):
        load(folder)
    assert "opened" not in capsys.readouterr().out


def test_the_hub_is_asked_once(hub: Callable[[bool], list[str]], caplog: pytest.LogCaptureFixture) -> None:
    from syneg.negatives.cross_reading import CrossReader

    hub(False)
    for attempt in (lambda: load("nosuch/encoder"), lambda: CrossReader.load("nosuch/encoder", "cpu")):
        with pytest.raises(BackendError, match=r"hub cannot be reached, and its cache holds no model 'nosuch/encoder'"):
            attempt()
    asked = hub(True)
    with pytest.raises(BackendError, match=r"no model of the Hugging Face hub: 'nosuch/encoder'"):
        load("nosuch/encoder")
    assert len(asked) == 1
    assert "Retrying" not in caplog.text


def test_models_that_cannot_be_loaded_are_one_line(tmp_path: Path) -> None:
    import json

    broken = write_bert(tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:500])
    with pytest.raises(BackendError, match="cannot load the encoder"):
        load(broken)
    code = write_bert(tmp_path / "code")
    config = json.loads((code / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (code / "config.json").write_text(json.dumps(config))
    (code / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BackendError, match="--trust-remote-code"):
        load(code)
    with pytest.raises(ConfigError, match="does not pool"):
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        words = Tokenizer(models.WordLevel({"[UNK]": 0, "close": 1}, unk_token="[UNK]"))
        SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=8)]).save(str(tmp_path / "static"))
        load(tmp_path / "static", pooling="cls")


@pytest.mark.parametrize("name", ["my models/bge", "bge base", "a/b/c", "-bge", "BAAI/bge..base", "x" * 200])
def test_a_name_that_the_hub_cannot_have_is_one_line(name: str, hub: Callable[[bool], list[str]]) -> None:
    asked = hub(True)
    with pytest.raises(BackendError, match="no folder and no model of the Hugging Face hub: .*; check the name"):
        find_model(name)
    assert not asked


def test_a_checkpoint_stored_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    model = SentenceTransformer(build(tmp_path), device="cpu").bfloat16()
    model.save(str(tmp_path / "half"))
    assert load(tmp_path / "half").model.dtype == torch.float32


def test_the_dev_score_is_that_of_the_evaluation(tmp_path: Path, beir: Path, encoder_path: str) -> None:
    collection = load_collection(CollectionConfig(dataset=str(beir)))
    for query_id in collection.splits["dev"]:  # as in ArguAna: the query stands in the corpus, under its id
        collection.passages[query_id] = collection.queries[query_id]
    encoder = load(encoder_path)
    dev = dev_set(encoder, collection, len(collection.passages), 0)
    expected = evaluate_model(encoder, collection, 100)["dev"].values["ndcg@10"].values()
    score = DevScore(dev, encoder)(encoder.model)["dev_ndcg@10"]
    assert score == pytest.approx(sum(expected) / len(expected), abs=1e-6)


def test_more_dev_queries_than_half_the_passages_are_drawn_by_seed(beir: Path, encoder_path: str) -> None:
    collection = load_collection(CollectionConfig(dataset=str(beir), dev=0.5))
    encoder = load(encoder_path)
    small = dev_set(encoder, collection, 20, 0)
    assert (len(small.queries), len(small.passages)) == (10, 20)
    assert small.queries.keys() <= set(collection.splits["dev"])
    assert dev_set(encoder, collection, 20, 0) == small != dev_set(encoder, collection, 20, 1)
    assert len(dev_set(encoder, collection, 96, 0).queries) == len(collection.splits["dev"])


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_table_of_words_is_looked_up_as_sentence_transformers_does(encoder_path: str, similarity: str) -> None:
    encoder = Encoder.load(
        EncoderConfig(model=encoder_path, precision="fp32", similarity=similarity, passage_prompt="file ")
    )
    texts = [*(f"close {'the socket ' * (i % 7)}{i}" for i in range(200)), "", "???"]
    found = looked_up(encoder.model, texts, "file ", normalised=similarity == "cosine")
    expected = encoder.model.encode_document(
        texts, prompt="file ", normalize_embeddings=similarity == "cosine", show_progress_bar=False
    )
    assert found is not None and found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(encoder.forward(texts, "passage"), expected)
    encoder.model.truncate_dim = 8
    assert encoder.forward(texts, "passage").shape == (202, 8)


def test_scaling_in_place_gives_the_bits_of_unit() -> None:
    vectors = np.random.default_rng(0).normal(size=(1100, 33)).astype(np.float32)
    vectors[5] = 0
    expected = unit(vectors)
    assert np.array_equal(scaled(vectors), expected) and np.array_equal(vectors, expected)
