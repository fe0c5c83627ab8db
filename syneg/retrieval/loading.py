"""Load a sentence-transformers model from disk or the hub, without running code from its repository.

    load_model(EncoderConfig(model="intfloat/e5-base-v2"), "intfloat/e5-base-v2")
      → Loaded(model=SentenceTransformer(…), names=["e5-base-v2"], notes=[])

- Weights come from safetensors. If the model has only `.bin` files, torch reads them with `weights_only=True`, which
  refuses pickled code. Saving the model writes safetensors.
- Weights are loaded as float32, because training with bfloat16 weights loses small steps.
- A checkpoint without sentence-transformers modules gets the pooling in `_PLAIN`. If it is not listed there,
  sentence-transformers assumes a pooling, and a note tells the user.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from syneg.core.config import EncoderConfig
from syneg.core.errors import BackendError, ConfigError, one_line
from syneg.core.hub import on_hub

from .prompts import known_names

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FAILURES = (ValueError, KeyError, RuntimeError, ImportError, SafetensorError, pickle.UnpicklingError)
_DESCRIBES = ("config.json", "modules.json", "adapter_config.json")  # every model has one of these files
DEFAULT_OWNER = "sentence-transformers"  # the owner that sentence-transformers assumes for a bare name
_NO_LIMIT = 1_000_000  # tokens; a tokenizer without a limit reports 1e30
# (name, pooling, similarity) of checkpoints without modules.json, from their papers or model cards
_PLAIN: tuple[tuple[str, str, str], ...] = (
    (r"cocodr|coco-dr|co-condenser|cocondenser|retromae|dragon|tas-b|simlm|ance", "cls", "dot"),
    (r"contriever", "mean", "dot"),
    (r"simcse", "cls", "cosine"),
)


@dataclass
class Loaded:
    """A model, the names that it is known by, and notes for the user (one line each)."""

    model: SentenceTransformer
    names: list[str]
    notes: list[str] = field(default_factory=list)


def load_model(config: EncoderConfig, source: str) -> Loaded:
    """Load the model at `source`, a folder or hub id, with the settings of `config`.

    Raises BackendError if it cannot be found or read, or needs code from its repository. Raises ConfigError for a
    pooling setting if the model does not pool tokens.
    """
    import transformers
    from sentence_transformers.util import load_file_path

    transformers.utils.logging.disable_progress_bar()
    folder = Path(source) if Path(source).is_dir() else None
    here = local_only(source, config.revision)
    model = _read(config, source, here)
    loaded = Loaded(model, known_names(source, folder))
    plain = load_file_path(source, "modules.json", revision=config.revision, local_files_only=here) is None
    pooling, similarity = _plain_settings(loaded.names) if plain else (None, None)
    if config.pooling != "auto":
        pooling = config.pooling
    if pooling:
        _set_pooling(model, pooling)
    elif plain and (mode := _pooling_of(model)):
        loaded.notes.append(
            f"{source} does not name its pooling: {mode} is assumed; set encoder.pooling (cls, mean, lasttoken) if "
            "its model card says otherwise"
        )
    _set_similarity(loaded, config, similarity)
    _set_length(model, config.max_tokens)
    _set_padding(loaded)
    return loaded


def find_model(name: str, revision: str | None = None, *, owner: str = "", reached: bool = True) -> None:
    """Look for the model `name` in its folder, in the hub's cache and on the hub. Loads and fetches nothing.

    `owner` completes a name without one, as sentence-transformers does. Raises BackendError if there is no such model,
    and if only the hub can tell and it cannot be reached. Without `reached` the second case is no error.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in _DESCRIBES):
            raise BackendError(f"the folder {name!r} holds no model", todo=f"name the folder with its {_DESCRIBES[0]}")
        return
    if name.startswith((".", "/", "~")):
        raise BackendError(f"no such folder {name!r}", todo="give a model on disk, on the hub, or local/minilm")
    names = [name, *([f"{owner}/{name}"] if owner and "/" not in name else [])]
    if any(_is_cached(known, revision) for known in names):
        return
    for known in names:
        there = on_hub(known, revision=revision)
        if there:
            return
        if there is None:
            if reached:
                raise not_cached(name)
            return
    raise _not_on_hub(name, revision)


def _is_cached(name: str, revision: str | None) -> bool:
    """Whether the cache of the hub holds a file that describes the model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in _DESCRIBES)
    except HFValidationError:
        return False  # no name of the hub


def local_only(name: str, revision: str | None = None) -> bool:
    """Whether the model `name` must be opened without the hub: it is a folder, or the hub cannot be reached.

    Raises BackendError if the hub has no such model.
    """
    if Path(name).is_dir():
        return True
    there = on_hub(name, revision=revision)
    if there is False and "/" in name:  # sentence-transformers completes a name without an owner
        raise _not_on_hub(name, revision)
    return there is None


def _not_on_hub(name: str, revision: str | None) -> BackendError:
    wanted = name if revision is None else f"{name}, revision {revision}"
    return BackendError(
        f"no folder and no model of the Hugging Face hub: {wanted!r}",
        todo="check the name; a private model needs HF_TOKEN",
    )


def not_cached(name: str) -> BackendError:
    """The error for a model that is not in the hub's cache while the hub cannot be reached."""
    return BackendError(
        f"the Hugging Face hub cannot be reached, and its cache holds no model {name!r}",
        todo="check the name and the network, or give the model's folder",
    )


def _read(config: EncoderConfig, source: str, here: bool) -> SentenceTransformer:
    """Load from safetensors, or from plain tensors where the model has none; with `here` from this machine only.

    Raises BackendError if neither works.
    """
    try:
        return _open(config, source, here, safetensors=True)
    except OSError as error:
        if "safetensors" not in str(error):
            raise _failure(source, error, here) from error
    except _FAILURES as error:
        raise _failure(source, error, here) from error
    try:
        return _open(config, source, here, safetensors=False)
    except (OSError, *_FAILURES) as error:
        raise _failure(source, error, here) from error


def _open(config: EncoderConfig, source: str, here: bool, *, safetensors: bool) -> SentenceTransformer:
    """Load a model in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        source,
        device=None if config.device == "auto" else config.device,
        revision=config.revision,
        local_files_only=here,
        trust_remote_code=config.trust_remote_code,
        model_kwargs={"use_safetensors": safetensors, "dtype": torch.float32},
    )


def _failure(source: str, error: Exception, here: bool) -> BackendError:
    """The error for a model that cannot be loaded, with what to do."""
    text = str(error)
    if here and not Path(source).is_dir():
        return not_cached(source)
    if re.search(r"trust_remote_code|custom code|remote code", text):
        return BackendError(
            f"the encoder {source!r} needs code from its repository, which is not run",
            todo="read that code; if you trust it, add --trust-remote-code",
        )
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return BackendError(
            f"the weights of {source!r} are a pickle with more than tensors in it, which is not opened",
            todo="if you trust it, convert it to safetensors: SentenceTransformer(NAME).save(FOLDER)",
        )
    return BackendError(
        f"cannot load the encoder {source!r}: {one_line(error)[:200]}",
        todo="give a sentence-transformers model on disk or on the hub, or local/minilm",
    )


def _plain_settings(names: list[str]) -> tuple[str | None, str | None]:
    """Pooling and similarity of a model family that stores neither; None for what is unknown."""
    for name in names:
        for pattern, pooling, similarity in _PLAIN:
            if re.search(rf"\b({pattern})\b", name.lower().replace("_", "-")):
                return pooling, similarity
    return None, None


def _poolings(model: SentenceTransformer) -> list[Any]:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return [module for module in model.modules() if isinstance(module, Pooling)]


def _pooling_of(model: SentenceTransformer) -> str:
    return ", ".join(dict.fromkeys(str(pooling.pooling_mode) for pooling in _poolings(model)))


def _set_pooling(model: SentenceTransformer, mode: str) -> None:
    poolings = _poolings(model)
    if not poolings:
        raise ConfigError(
            f"encoder.pooling = {mode!r}: this encoder does not pool tokens", todo="leave out encoder.pooling"
        )
    for pooling in poolings:
        pooling.pooling_mode = mode
        pooling.pooling_output_dimension = pooling.embedding_dimension


def _set_similarity(loaded: Loaded, config: EncoderConfig, of_name: str | None) -> None:
    """Set the similarity that was wanted, else that of the family, else the model's own; cosine for any other."""
    wanted: Any = config.similarity if config.similarity != "auto" else of_name or loaded.model.similarity_fn_name
    if wanted not in ("cosine", "dot"):
        loaded.notes.append(f"similarity {wanted!r} is not supported: the encoder is used and saved with cosine")
        wanted = "cosine"
    loaded.model.similarity_fn_name = wanted


def _set_length(model: SentenceTransformer, most: int) -> None:
    """Let the model cut texts after `most` tokens. 0 keeps its own limit, which is never raised."""
    limit = model.max_seq_length  # None for static embeddings, which cannot be given one
    if most and isinstance(limit, int):
        model.max_seq_length = min(most, limit)


def length_limit(model: SentenceTransformer) -> int | None:
    """The number of tokens after which the model cuts a text; None without a limit."""
    limit = model.max_seq_length
    return limit if isinstance(limit, int) and limit < _NO_LIMIT else None


def _set_padding(loaded: Loaded) -> None:
    """Give every tokenizer a padding token. GPT-like tokenizers have none, and cannot batch texts without one."""
    for module in loaded.model.modules():
        tokenizer: Any = getattr(module, "tokenizer", None)
        if not hasattr(tokenizer, "pad_token") or tokenizer.pad_token is not None:
            continue
        stand_in = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        if stand_in is None:
            raise BackendError(
                f"the tokenizer of {loaded.names[0]!r} has no padding token and no other special token to pad with",
                todo="add a padding token: tokenizer.add_special_tokens({'pad_token': '[PAD]'})",
            )
        tokenizer.pad_token = stand_in
        inner: Any = getattr(module, "auto_model", None)
        if inner is not None and getattr(inner.config, "pad_token_id", None) is None:
            inner.config.pad_token_id = tokenizer.pad_token_id
        loaded.notes.append(f"the tokenizer has no padding token: {stand_in!r} is used instead")
