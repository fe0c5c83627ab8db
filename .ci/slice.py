"""Cut a small BEIR folder out of an ir_datasets collection: slice.py beir/scifact FOLDER.

Kept are the first queries of train and test, all passages judged for them, and the first other passages: 500 in all.
"""

import json
import sys
from pathlib import Path

import ir_datasets

QUERIES = {"train": 120, "test": 100}
PASSAGES = 500

name, folder = sys.argv[1], Path(sys.argv[2])
(folder / "qrels").mkdir(parents=True)
queries: dict[str, str] = {}
judged: set[str] = set()
for split, count in QUERIES.items():
    part = ir_datasets.load(f"{name}/{split}")
    kept = {query.query_id: query.default_text() for query in list(part.queries_iter())[:count]}
    rows = [row for row in part.qrels_iter() if row.query_id in kept]
    judged |= {row.doc_id for row in rows}
    queries |= kept
    lines = [f"{row.query_id}\t{row.doc_id}\t{row.relevance}\n" for row in rows]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
docs = list(ir_datasets.load(name).docs_iter())
others = [doc for doc in docs if doc.doc_id not in judged][: max(0, PASSAGES - len(judged))]
with (folder / "corpus.jsonl").open("w") as file:
    for doc in [*(doc for doc in docs if doc.doc_id in judged), *others]:
        file.write(json.dumps({"_id": doc.doc_id, "title": doc.title, "text": doc.text}) + "\n")
with (folder / "queries.jsonl").open("w") as file:
    file.writelines(json.dumps({"_id": key, "text": text}) + "\n" for key, text in queries.items())
print(f"{len(queries)} queries, {len(judged)} judged passages and {len(others)} others of {name}")
