"""Programs that write hard negatives: DSPy modules, all with one contract, so that any of them feeds the same gates.

    program = load_program("multi_attribute")
    program(query=…, positive=…, task=…, attributes={"domain": …, "difficulty": …, "length": …}, candidates=())
      → dspy.Prediction(negatives=[HardNegative(text=…, program="multi_attribute", attributes={…}, reasoning=…)])

`PROGRAMS` is the registry; a program of your own is named `module:Class`.
"""

from .attributes import AttributeSpace
from .contract import PROGRAMS, fenced, load_program, program_markdown
from .multi_attribute import MultiAttribute
from .neighbour_topic import NeighbourTopic
from .single_prompt import SinglePrompt

PROGRAMS.update({"single_prompt": SinglePrompt, "multi_attribute": MultiAttribute, "neighbour_topic": NeighbourTopic})

__all__ = [
    "PROGRAMS",
    "AttributeSpace",
    "MultiAttribute",
    "NeighbourTopic",
    "SinglePrompt",
    "fenced",
    "load_program",
    "program_markdown",
]
