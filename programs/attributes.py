"""The attribute space of SyNeg (section 3.2): which expert writes, for whom, how long, and (ours) which near-miss.

    space = AttributeSpace(domains=("immunology", "oncology"), difficulties=("for researchers",), lengths=("as long",),
                           kinds=("another aspect",))
    space.sample(seed=0, place=7) → {"domain": "oncology", "difficulty": …, "length": …, "kind": "another aspect"}

Sampling is balanced: over any run of consecutive places each combination comes as often as any other, give or take one,
in an order that the seed shuffles anew for each round.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class AttributeSpace:
    """Values of each attribute; the combinations are their product."""

    domains: tuple[str, ...]
    difficulties: tuple[str, ...]
    lengths: tuple[str, ...]
    kinds: tuple[str, ...]

    def sample(self, *, seed: int, place: int) -> dict[str, str]:
        """The attributes of the `place`-th negative of a run (0-based)."""
        product = list(itertools.product(self.domains, self.difficulties, self.lengths, self.kinds))
        turn, step = divmod(place, len(product))
        random.Random(f"{seed}:{turn}").shuffle(product)
        return dict(zip(("domain", "difficulty", "length", "kind"), product[step], strict=True))
