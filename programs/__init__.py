"""Programs that write hard negatives: DSPy modules with one contract, so that their texts go through the same gates.

    MultiAttribute()(query="how do I close a socket", positive="Call close() …")
      → dspy.Prediction(negatives=[HardNegative(text=…, program="multi_attribute", attributes={…}, reasoning=…)])

`task`, `attributes` (one for each negative wanted) and `candidates` (mined passages) are optional inputs. `PROGRAMS` is
the registry. Name your own program as `module:Class` (docs/programs.md).
"""

from .ablations import NoAttributes, NoReflection
from .attributes import AttributeSpace, propose_domains
from .fence import fenced, shortened, unmarked
from .grade_list import GradeList, labelled_demo
from .judge import Judge
from .multi_attribute import MultiAttribute
from .neighbour_rewrite import NeighbourRewrite
from .neighbour_topic import NeighbourTopic
from .reflective import Reflective
from .registry import (
    PROGRAMS,
    QUERY_PROGRAMS,
    READER_PROGRAMS,
    ProgramInputs,
    load_program,
    load_query_program,
    load_reader_program,
    name_of,
    program_markdown,
    state_of,
)
from .requirement_break import RequirementBreak
from .single_prompt import SinglePrompt
from .write_queries import WriteQueries

PROGRAMS.update(
    single_prompt=SinglePrompt,
    multi_attribute=MultiAttribute,
    reflective=Reflective,
    requirement_break=RequirementBreak,
    neighbour_topic=NeighbourTopic,
    neighbour_rewrite=NeighbourRewrite,
    no_attributes=NoAttributes,
    no_reflection=NoReflection,
)
QUERY_PROGRAMS.update(write_queries=WriteQueries)
READER_PROGRAMS.update(grade_list=GradeList)

__all__ = [
    "PROGRAMS",
    "QUERY_PROGRAMS",
    "READER_PROGRAMS",
    "AttributeSpace",
    "GradeList",
    "Judge",
    "MultiAttribute",
    "NeighbourRewrite",
    "NeighbourTopic",
    "NoAttributes",
    "NoReflection",
    "ProgramInputs",
    "Reflective",
    "RequirementBreak",
    "SinglePrompt",
    "WriteQueries",
    "fenced",
    "labelled_demo",
    "load_program",
    "load_query_program",
    "load_reader_program",
    "name_of",
    "program_markdown",
    "propose_domains",
    "shortened",
    "state_of",
    "unmarked",
]
