"""syneg-dspy: hard negatives for dense retrieval, written by DSPy programs, mixed with mined ones, trained and judged.

>>> from syneg import Config, load_collection
>>> load_collection(Config().collection).name
'python-docs'

The command line is `syneg-dspy`; the same path in Python is `syneg.run.pipeline.Run(folder, config, progress).until("verdict")`.
Import programs as `syneg.programs` and optimizers as `syneg.optimizers`.
"""

from syneg.core.config import Config
from syneg.core.errors import BackendError, BudgetError, ConfigError, DataError, SynegError
from syneg.core.records import HardNegative, Instance, MinedNegative, Pair
from syneg.core.settings import load_config
from syneg.data.collection import Collection, load_collection

__version__ = "0.1.0"

__all__ = [
    "BackendError", "BudgetError", "Collection", "Config", "ConfigError", "DataError", "HardNegative", "Instance",
    "MinedNegative", "Pair", "SynegError", "load_collection", "load_config",
]  # fmt: skip
