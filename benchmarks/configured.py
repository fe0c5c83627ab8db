"""The settings of a benchmark's runs: its own, and over them what the user gives with --set.

configured(("mine.margin=10",), {"mine.margin": 0.95, "train.pairs": 0}).mine.margin → 10.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syneg.core.config import Config
from syneg.core.settings import load_config


def configured(overrides: Sequence[str], own: Mapping[str, Any], *, fast: bool = False) -> Config:
    """Merge `own` (dotted key → value) and `overrides` ("section.key=value"), which win. Raises ConfigError."""
    given = {override.partition("=")[0].strip() for override in overrides}
    return load_config(None, overrides, {key: value for key, value in own.items() if key not in given}, fast=fast)
