"""Optimizers compile a program against downstream retrieval; `none` leaves it as it is.

    OPTIMIZERS["none"](program) → the same program

All share one contract: a program in, a program out; the pipeline writes the result as `program.json` and `program.md`.
"""

from .none import leave

OPTIMIZERS = {"none": leave}

__all__ = ["OPTIMIZERS", "leave"]
