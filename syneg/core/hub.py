"""Ask the Hugging Face hub for a name once, before libraries that repeat each failed request for a minute.

on_hub("intfloat/e5-base-v2")     → True
on_hub("nosuch/encoder")          → False
on_hub("intfloat/e5-base-v2")     → None without a network: only files in the hub's cache can be used
"""

from __future__ import annotations

from typing import Literal

_WAIT_S = 10.0  # the hub answers in under a second


def on_hub(name: str, kind: Literal["model", "dataset"] = "model", revision: str | None = None) -> bool | None:
    """Whether the hub has a repository of this name; None if it cannot be reached, or HF_HUB_OFFLINE is set."""
    from httpx import TransportError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=_WAIT_S)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError):
        return False
    except HfHubHTTPError:
        return True  # the hub is there; the library that opens the name says what is wrong
    except (TransportError, OSError):
        return None
    return True
