"""One run folder, from settings to verdict.

    Run(Path("runs/python-docs"), config, Progress()).until("verdict") → the data of verdict.json

Only this package combines all others.
"""
