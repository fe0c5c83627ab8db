"""Check this machine before a run, without loading anything heavy: `syneg-dspy doctor`.

    examine() → [Finding("ok", "python", "3.11.7"), Finding("bad", "litellm", "1.82.8 steals credentials; …"), …]

Fix every `bad` finding before a run; `slow` costs time or memory. API keys are named, but their values are never shown.
"""

from __future__ import annotations

import os
import platform
import shutil
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from syneg.core.assets import ASSETS
from syneg.core.config import Config
from syneg.core.counts import counted
from syneg.core.errors import ConfigError
from syneg.core.fetch import fetched
from syneg.core.storage import cache_home
from syneg.llm.addresses import origin_of, provider_of
from syneg.llm.api_keys import COMMON, missing_key
from syneg.llm.local_server import cores
from syneg.llm.role_settings import all_roles, setting_of
from syneg.retrieval.embedding_cache import spaces

_PACKAGES = ("dspy", "litellm", "sentence-transformers", "torch", "faiss-cpu", "ir-datasets", "ranx", "click")
_STOLEN = ("1.82.7", "1.82.8")  # malicious releases of litellm, uploaded by an attacker in March 2026
_FREE_GB, _MEMORY_GB = 3.0, 6.0


@dataclass(frozen=True)
class Finding:
    """One result of the check. `level` is "ok", "slow" or "bad"."""

    level: str
    name: str
    text: str


def lm_findings(config: Config) -> Iterator[Finding]:
    """Yield one finding per role: model, address with its source, and the API key that is missing."""
    seen: dict[tuple[str, str], str] = {}
    for role, lm in all_roles(config).items():
        place = lm.model, origin_of(lm)
        if place in seen:
            yield Finding("ok", f"LM: {role}", f"as the {seen[place]}")
            continue
        seen[place] = role
        if wrong := _wrong_provider(lm.model, setting_of(role)):
            yield Finding("bad", f"LM: {role}", wrong)
            continue
        missing = missing_key(lm)
        note = f"; {missing} is not set" if missing else ""
        yield Finding("bad" if missing else "ok", f"LM: {role}", f"{lm.model}, {place[1]}{note}")


def _wrong_provider(model: str, key: str) -> str:
    """Return what is wrong with the provider of a model; "" if it is known. Loads litellm for uncommon ones only."""
    if model.partition("/")[0] in COMMON:
        return ""
    try:
        provider_of(model, key)
    except ConfigError as error:
        return str(error)
    return ""


def examine(site_folders: list[str] | None = None) -> list[Finding]:
    """Return all findings on this machine. `site_folders`: package folders; None means those of this Python."""
    folders = site_folders if site_folders is not None else [*site.getsitepackages(), site.getusersitepackages()]
    return [*_software(folders), *_machine(), *_storage(), *_network()]


def _software(folders: list[str]) -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    yield Finding(
        "bad" if old else "ok", "python", platform.python_version() + ("; 3.11 is the oldest that works" if old else "")
    )
    for name in _PACKAGES:
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield Finding("bad", name, "not installed; pip install syneg-dspy")
            continue
        stolen = name == "litellm" and installed in _STOLEN
        yield Finding(
            "bad" if stolen else "ok",
            name,
            installed
            + ("; this release steals credentials: remove it, change every key of this machine" if stolen else ""),
        )
    for folder in folders:
        for path in sorted(Path(folder).glob("litellm*.pth")):
            yield Finding(
                "bad",
                "litellm",
                f"{path} runs whenever Python starts; stolen releases put it there: delete it, change every key",
            )
    try:
        yield Finding("ok", "embedded LLM", f"xllamacpp {version('xllamacpp')}")
    except PackageNotFoundError:
        yield Finding("slow", "embedded LLM", "not installed; local/… models need: pip install 'syneg-dspy[local]'")


def _machine() -> Iterator[Finding]:
    flags = _flags()
    bf16 = "avx512_bf16" in flags or "amx_bf16" in flags
    note = "computes bfloat16" if bf16 else "no bfloat16: encoders run in float32, about half as fast"
    yield Finding(
        "ok" if bf16 or not flags else "slow", "processor", f"{cores()} cores" + (f", {note}" if flags else "")
    )
    policy = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")  # `main` sets PASSIVE if the variable is unset
    passive = policy.upper() == "PASSIVE"
    yield Finding(
        "ok" if passive else "slow",
        "threads",
        f"OMP_WAIT_POLICY={policy}" + ("" if passive else ": waiting threads take a core from working ones; unset it"),
    )
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        enough = gigabytes >= _MEMORY_GB
        yield Finding(
            "ok" if enough else "slow",
            "memory",
            f"{gigabytes:.0f} GB" + ("" if enough else f"; the embedded LLM and training want {_MEMORY_GB:.0f}"),
        )


def _flags() -> set[str]:
    """Return the CPU feature flags from /proc/cpuinfo; empty if that file is missing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())


def _storage() -> Iterator[Finding]:
    for name, path in (("cache", cache_home()), ("run folders", Path.cwd())):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free / 1e9
        writable = there.is_dir() and os.access(there, os.W_OK)
        level = "bad" if not writable else "slow" if free < _FREE_GB else "ok"
        more = "; cannot be written to" if not writable else f"; under {_FREE_GB:g} GB" if free < _FREE_GB else ""
        yield Finding(level, name, f"{path}, {free:.0f} GB free{more}")

    kept = spaces()
    size = sum(space.size for space in kept) / 1e9
    yield Finding(
        "ok", "embeddings", f"{size:.2f} GB of {counted(len(kept), 'encoder')} in the cache; `syneg-dspy cache` prunes"
    )
    here = [asset.name for asset in ASSETS.values() if fetched(asset.name)]
    yield Finding("ok", "models", "fetched: " + (", ".join(f"local/{name}" for name in here) or "none yet"))


def _network() -> Iterator[Finding]:
    offline = [
        name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(name)
    ]
    yield Finding("ok", "network", f"offline by {', '.join(offline)}" if offline else "the hub is asked where needed")
    keys = sorted(name for name, value in os.environ.items() if name.endswith("_API_KEY") and value)
    yield Finding("ok", "keys", ", ".join(keys) + " set" if keys else "none set; local/… models need none")
