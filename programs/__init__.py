"""Programs that write hard negatives: DSPy modules, all with one contract, so that any of them feeds the same gates.

    program = load_program("multi_attribute")
    program(query=…, positive=…, task=…, attributes={"domain": …, "difficulty": …, "length": …}, candidates=())
      → dspy.Prediction(negatives=[HardNegative(text=…, program="multi_attribute", attributes={…}, reasoning=…)])

`PROGRAMS` is the registry; a program of your own is named `module:Class`.
"""

from .attributes import AttributeSpace
from .contract import PROGRAMS, fenced, load_program, program_markdown
from .multi_attribute import MultiAttribute
from .single_prompt import SinglePrompt

PROGRAMS.update({"single_prompt": SinglePrompt, "multi_attribute": MultiAttribute})

__all__ = ["PROGRAMS", "AttributeSpace", "MultiAttribute", "SinglePrompt", "fenced", "load_program", "program_markdown"]
