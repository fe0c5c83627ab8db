"""Decide which arm won and by how much, and write the report.

    verdict({"base": ArmRuns(…), "hybrid": ArmRuns(…)}, collection, alpha=.05, facts=Facts())
      → Verdict(best="hybrid", comparisons=(Comparison("base", "hybrid", delta=.051, …), …), sentence="Best on dev: …")

Nothing here trains or calls an LM.
"""
