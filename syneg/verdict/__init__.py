"""Which arm won, by how much, and the report.

    verdict(results, boundary, collection, alpha) → the data of verdict.json

Nothing here trains.
"""
