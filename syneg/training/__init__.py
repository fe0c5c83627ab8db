"""From negatives to a fine-tuned encoder.

    mix(Supply(pairs, mined, written), MixConfig(), arm="hybrid", seed=0) → [Instance(…), …]       training rows
    train(Job(…), folder)          → Training(steps=38, …), and a sentence-transformers model in `folder`

Nothing here calls an LM. `python -m syneg.training FOLDER` runs one process of a distributed training.
"""
