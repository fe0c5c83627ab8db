"""The attribute space of SyNeg (section 3.2): which expert writes, for whom, how long, and (ours) which near-miss.

    space = AttributeSpace(domains=("immunology", "oncology"), difficulties=("for researchers",), lengths=("as long",),
                           kinds=("another aspect",))
    space.sample(seed=0, place=7) → {"domain": "oncology", "difficulty": …, "length": …, "kind": "another aspect"}

Sampling is balanced: in each round of as many places as there are combinations, each comes once, in an order that the
seed shuffles anew. Siblings, the negatives of one pair, share all but the kind, and take the kinds in turn.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

TASK = "A passage is relevant when it answers the question, in whole or in part."
ATTRIBUTES = (
    {
        "domain": "the field of the query",
        "difficulty": "written for the same readers as the positive",
        "length": "about as long as the positive",
        "kind": "another aspect of the same subject",
    },
)
"""What a program that is called by itself goes by: one negative, for question answering."""


@dataclass(frozen=True)
class AttributeSpace:
    """Values of each attribute; the combinations are their product."""

    domains: tuple[str, ...]
    difficulties: tuple[str, ...]
    lengths: tuple[str, ...]
    kinds: tuple[str, ...]

    def sample(self, *, seed: int, place: int, sibling: int = 0) -> dict[str, str]:
        """The attributes for the `place`-th pair of a run and its `sibling`-th negative (both 0-based)."""
        product = list(itertools.product(self.domains, self.difficulties, self.lengths, self.kinds))
        turn, step = divmod(place, len(product))
        random.Random(f"{seed}:{turn}").shuffle(product)
        domain, difficulty, length, kind = product[step]
        kind = self.kinds[(self.kinds.index(kind) + sibling) % len(self.kinds)]
        return {"domain": domain, "difficulty": difficulty, "length": length, "kind": kind}
