"""What is searched, and what "relevant" means in it.

    load_collection(CollectionConfig(dataset="pairs.csv")) → Collection(passages, queries, qrels, splits)

Nothing here embeds, searches or calls an LM.
"""
