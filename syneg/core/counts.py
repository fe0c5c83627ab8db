"""Say how many there are, for a message.

    counted(2, "query")                             → "2 queries"
    part_of(1, 3, "query", "repeats", "repeat")     → "1 of 3 queries repeats"

No other module puts an s behind a number that may be 1.
"""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Return the number and the noun in its form for that number. `many` is for a noun with a verb behind it.

    >>> counted(1, "query"), counted(0, "row"), counted(3, "bad row"), counted(1, "row has", "rows have")
    ('1 query', '0 rows', '3 bad rows', '1 row has')
    """
    plural = one[:-1] + "ies" if one.endswith(("ry", "ly", "ty")) else one + "s"
    return f"{number} {one if number == 1 else many or plural}"


def part_of(number: int, total: int, noun: str, one: str, many: str) -> str:
    """Return how many of all do something. `one` and `many` are the verb for one of them and for more.

    >>> part_of(1, 3, "query", "has", "have"), part_of(2, 3, "row", "is", "are"), part_of(1, 1, "row", "is", "are")
    ('1 of 3 queries has', '2 of 3 rows are', '1 of 1 row is')
    """
    return f"{number} of {counted(total, noun)} {one if number == 1 else many}"
