"""Run the command line: `python -m syneg` does the same as `syneg-dspy`."""

from syneg.cli.main import main

if __name__ == "__main__":
    main()
