"""Say how many there are, for a message.

    counted(2, "query")  → "2 queries"

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
