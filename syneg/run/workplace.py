"""The parts of a `Workspace` that modules use which it imports itself, as protocols.

corpus_collection(workspace: Unasked)      there is no collection yet
mining_of(workspace: Unmined)              nothing is mined yet
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from syneg.core.config import Config
from syneg.core.progress import Progress
from syneg.core.records import Pair
from syneg.data.collection import Collection
from syneg.llm.roles import Roles
from syneg.retrieval.encoder import Encoder

from .folder import RunFolder
from .manifest import Manifest


class Workplace(Protocol):
    """A run folder with its settings and its progress."""

    config: Config
    folder: RunFolder
    progress: Progress

    @property
    def manifest(self) -> Manifest: ...


class Unasked(Workplace, Protocol):
    """The part that exists before the queries do."""

    @property
    def bare_encoder(self) -> Encoder: ...

    @property
    def roles(self) -> Roles: ...


class Unmined(Workplace, Protocol):
    """The part that needs no mined negatives."""

    @property
    def collection(self) -> Collection: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def pairs_to_mine(self) -> list[Pair]: ...

    unjudged: Callable[[], Mapping[str, Mapping[str, int]] | None]  # a trusted reader's grades; None if nobody read
