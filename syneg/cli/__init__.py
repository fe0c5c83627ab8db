"""The command line: `syneg-dspy` is `syneg.cli.main:main`.

    $ syneg-dspy run --dataset python-docs

No other package of syneg imports this one.
"""
