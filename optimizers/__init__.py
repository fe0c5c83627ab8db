"""Compile a program: improve its instructions and demos against retrieval.

    Objective(…).score(negatives) → Score(gain=.012, error=.005, …)      effect of a set of negatives on nDCG@10
    run_recipe("gepa", compiling)                                        proposes programs, and tries them
    choose(compiling) → [Candidate(…), …]                                the best of them, best first

A target is a program to improve, with its examples and its metric. A recipe proposes programs. The target judges single
answers, and scores all answers of a program together. The winner is confirmed on queries that no proposal has seen
(`syneg.run.compile`).
"""

from .compiling import Compiling
from .critic import Critic, Judgement
from .objective import Objective, Score
from .queries import QueriesTarget
from .reader import ReaderTarget
from .recipes import RECIPES, run_recipe
from .register import Candidate
from .search import choose
from .target import Target, Worth
from .writer import WriterTarget

__all__ = [
    "RECIPES",
    "Candidate",
    "Compiling",
    "Critic",
    "Judgement",
    "Objective",
    "QueriesTarget",
    "ReaderTarget",
    "Score",
    "Target",
    "Worth",
    "WriterTarget",
    "choose",
    "run_recipe",
]
