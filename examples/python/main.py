"""Embeds sentences, photos and speech, and compares them; survives bad items and restarts.

    python examples/python/main.py [HOST:PORT [--pause]]

With --pause it waits for Enter before the photos: time to restart the server.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vecserve import Client, DeadlineExceeded, Image, Item, Result, ServerUnavailable

DATA = Path(__file__).parent.parent / "data"
TEXT, IMAGE, AUDIO = "all-MiniLM-L6-v2", "clip-vit-base-patch32", "whisper-base"
SENTENCES = [
    Item("How do I reset my password?", id="reset-password", model=TEXT),
    Item("I forgot my login details.", id="forgot-login", model=TEXT),
    Item(Image(b"not a JPEG"), id="broken.jpg", model=IMAGE),
]
MEDIA = [
    Item(DATA / "photos" / "dog-dalmatian.jpg", id="dog-dalmatian.jpg", model=IMAGE),
    Item(DATA / "photos" / "dog-mastiff.jpg", id="dog-mastiff.jpg", model=IMAGE),
    Item(DATA / "speech" / "austen-0880.flac", id="austen-0880.flac", model=AUDIO),
    Item(DATA / "speech" / "austen-0890.flac", id="austen-0890.flac", model=AUDIO),
]
LATE = Item("Too late.", id="late", model=TEXT)
PAIRS = [
    ("reset-password", "forgot-login"),
    ("dog-dalmatian.jpg", "dog-mastiff.jpg"),
    ("austen-0880.flac", "austen-0890.flac"),
]
TRIES = 15


def embed(client: Client, items: list[Item]) -> Iterator[Result]:
    """Yield a Result an item as it is ready; send what has none again while the server is away.

    Embedding twice does no harm. Raises ServerUnavailable after about a minute.
    """
    waiting = {item.id: item for item in items}
    for attempt in range(1, TRIES + 1):
        try:
            # Every item names its model, so the call names none.
            for result in client.embed_stream(list(waiting.values()), ordered=False):
                # In band, it means that the model is still being loaded.
                if result.error is None or result.error.code != "UNAVAILABLE":
                    del waiting[result.id]
                    yield result
            reason = "the model is being loaded"
        except ServerUnavailable as error:
            if attempt == TRIES:
                raise
            reason = str(error)
        if not waiting:
            return
        print(f"unavailable: {reason}; again in {attempt / 2} s", file=sys.stderr)
        time.sleep(attempt / 2)
    raise ServerUnavailable(f"given up: {reason}", len(waiting))


def show(result: Result) -> None:
    """Print what became of an item."""
    if result.error:
        print("error", result.id, result.error.code, result.error.message)
    else:
        print("vector", result.id, result.vector.size)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine similarity of two vectors, float32 [dimensions]."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def main(address: str = "127.0.0.1:8001", pause: str = "") -> None:
    """Embed everything, and compare."""
    results: dict[str, Result] = {}
    with Client(address) as client:
        for round_items in (SENTENCES, MEDIA):
            if pause and round_items is MEDIA:
                input("press Enter to go on\n")
            for result in embed(client, round_items):
                show(result)
                results[result.id] = result
        try:
            for result in client.embed_stream([LATE], timeout=0.001):
                show(result)
        except DeadlineExceeded as error:
            print("error", LATE.id, "DEADLINE_EXCEEDED", error)
        for a, b in PAIRS:
            print("similarity", a, b, f"{cosine(results[a].vector, results[b].vector):.6f}")
        for model in client.models(timeout=10):
            if not model.trained and model.name in (TEXT, IMAGE, AUDIO):
                print("untrained", model.name, "has random weights, its vectors mean nothing")


if __name__ == "__main__":
    main(*sys.argv[1:])
