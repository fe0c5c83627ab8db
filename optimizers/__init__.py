"""Optimizers compile a program against downstream retrieval.

    Objective(…).score(negatives) → Score(gain=.012, error=.005, …)      what a set of negatives does to nDCG@10
    run_recipe("gepa", Compiling(…)); choose(…) → [Candidate(…), …]      programs proposed, and the best of them

A recipe proposes programs; a critic says of single answers what they are worth; the objective decides between programs;
full training on the confirm split has the last word (`syneg.run.compile`).
"""

from .compiling import Candidate, Compiling, Lms
from .critic import Critic, Judgement
from .objective import Objective, Score
from .recipes import RECIPES, run_recipe
from .search import choose

__all__ = [
    "RECIPES",
    "Candidate",
    "Compiling",
    "Critic",
    "Judgement",
    "Lms",
    "Objective",
    "Score",
    "choose",
    "run_recipe",
]
