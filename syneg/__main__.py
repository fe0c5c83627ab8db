"""`python -m syneg` is `syneg-dspy`."""

from syneg.cli.main import main

if __name__ == "__main__":
    main()
