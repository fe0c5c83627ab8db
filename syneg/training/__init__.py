"""From negatives to a fine-tuned encoder.

    mix(pairs, mined, synthetic, …) → [Instance, …]      train(Job(…), folder) → a sentence-transformers model in folder

Nothing here knows an LM; `python -m syneg.training FOLDER` is one process of a distributed training.
"""
