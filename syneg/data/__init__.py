"""Read a collection: passages, queries, qrels and splits.

    load_collection(CollectionConfig(dataset="pairs.csv")) → Collection(passages, queries, qrels, splits)

Nothing here embeds, searches or calls an LM.
"""
