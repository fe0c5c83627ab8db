"""The command line: `syneg-dspy` is `syneg.cli.main:main`.

    $ syneg-dspy run --dataset python-docs

Nothing imports this package.
"""
