"""Optimizers compile a program against downstream retrieval.

    Objective(…).score(negatives) → Score(gain=.012, error=.005, …)      what a set of negatives does to nDCG@10
    run_recipe("gepa", Compiling(…)); choose(…) → [Candidate(…), …]      programs proposed, and the best of them

A target is a program to improve, with its examples and its metric. A recipe proposes programs; the target says of
single answers what they are worth, and scores all answers of a program together. What won is confirmed on queries that
no proposal has seen (`syneg.run.compile`).
"""

from .compiling import Candidate, Compiling
from .critic import Critic, Judgement
from .objective import Objective, Score
from .recipes import RECIPES, run_recipe
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
    "Score",
    "Target",
    "Worth",
    "WriterTarget",
    "choose",
    "run_recipe",
]
