"""Recall of smaller vectors: nearest neighbours by each data type and length, beside float32.

    .venv/bin/python -m benchmarks.recall SENTENCES --model all-MiniLM-L6-v2 --server 127.0.0.1:8001

SENTENCES has one a line. All but the last queries are the collection; recall@10
is how many of a query's ten nearest by float32 are among its ten nearest by the
smaller vectors, without scoring again. Integers are compared by cosine, bits by
Hamming distance.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vecserve import Client
from vecserve_server.modalities.encoding import Encoding, encode

Vectors = npt.NDArray[np.float32]

NEAREST = 10


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sentences", type=Path, help="text file, one sentence a line")
    parser.add_argument("--model", required=True)
    parser.add_argument("--server", default="127.0.0.1:8001", metavar="HOST:PORT")
    parser.add_argument("--count", type=int, default=10_000, help="sentences used (%(default)s)")
    parser.add_argument("--queries", type=int, default=1_000, help="of these (%(default)s)")
    parser.add_argument("--input-type", help="one of the model's prompts")
    parser.add_argument("--dimensions", type=int, nargs="*", default=[], help="cut to these, too")
    options = parser.parse_args()
    lines = list(dict.fromkeys(options.sentences.read_text().splitlines()))[: options.count]
    if len(lines) <= options.queries + NEAREST:
        parser.error(f"{options.sentences} has {len(lines)} different lines: give more")
    print(f"{options.model}: {len(lines) - options.queries} sentences, {options.queries} queries\n")
    print(f"| vectors | bytes | recall@{NEAREST} |\n|---|---|---|")
    with Client(options.server) as client:
        full = client.embed(options.model, lines, input_type=options.input_type)
    exact = nearest(similarities(full, options.queries))
    for dimensions in (full.shape[1], *options.dimensions):
        cut = full[:, :dimensions] / np.linalg.norm(full[:, :dimensions], axis=1, keepdims=True)
        for encoding in Encoding:
            size = len(encode(cut[0], encoding)[0])
            found = nearest(similarities(decoded(cut, encoding), options.queries))
            name = f"{encoding.value}, {dimensions}"
            print(f"| {name} | {size} | {recall(exact, found):.4f} |", flush=True)


def decoded(vectors: Vectors, encoding: Encoding) -> Vectors:
    """Return what a store compares: each vector encoded as the server does it, as numbers again.

    A bit is 1 or -1: cosines of such vectors are in the order of Hamming distances.
    """
    rows = []
    for vector in vectors:
        data, _ = encode(vector, encoding)
        match encoding:
            case Encoding.BINARY:
                bits = np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.float32)
                rows.append(2 * bits - 1)
            case Encoding.UINT8:
                rows.append(np.frombuffer(data, np.uint8).astype(np.float32) - 128)
            case _:
                rows.append(np.frombuffer(data, encoding.value).astype(np.float32))
    return np.stack(rows)


def similarities(vectors: Vectors, queries: int) -> Vectors:
    """Return the cosine of each query with each other sentence, [queries, sentences]."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores: Vectors = unit[-queries:] @ unit[:-queries].T
    return scores


def nearest(scores: Vectors) -> npt.NDArray[np.intp]:
    """Return the places of the nearest of each row; equal ones by their place."""
    order: npt.NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    return order


def recall(exact: npt.NDArray[np.intp], found: npt.NDArray[np.intp]) -> float:
    """Return the mean share of the exact ones that were found."""
    shares = [len(np.intersect1d(*pair)) for pair in zip(exact, found, strict=True)]
    return float(np.mean(shares)) / NEAREST


if __name__ == "__main__":
    main()
