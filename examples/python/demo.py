"""Sends sentences, photos and speech through one stream and shows what comes back.

    python examples/python/demo.py [HOST:PORT]

The server must have the four models named below. If it has sscd-resnet50 too, an
edited copy of each photo looks for its original. Exits 1 if anything failed.
"""

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vecserve import Client, Item, ModelInfo, Result, VecserveError

DATA = Path(__file__).parent.parent / "data"

# Three pairs that mean the same in other words: a trained model puts each
# sentence next to its partner.
SENTENCES = [
    "How do I reset my password?",
    "I forgot my login details.",
    "A puppy runs across the grass.",
    "A dog is playing in the park.",
    "Share prices dropped this morning.",
    "The stock market fell today.",
]
COPY_FINDER = "sscd-resnet50"
CAPTIONS = ["a photo of a dog", "a photo of a car", "a photo of fruit"]

TABLE_WIDTH = 110
"""Columns, fewer where the terminal has fewer."""


def items() -> Iterator[Item]:
    """Everything to embed, each with its model: the stream carries all four."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    speech = sorted((DATA / "speech").glob("*.flac"))
    for sentence in SENTENCES:
        yield Item(sentence, id=sentence, model="all-MiniLM-L6-v2")
    for photo in photos:
        yield Item(photo, id=photo.name, model="resnet-50")
    for caption in CAPTIONS:
        yield Item(caption, id=caption, model="clip-vit-base-patch32")
    for photo in photos:
        yield Item(photo, id=photo.name, model="clip-vit-base-patch32")
    for clip in speech:
        yield Item(clip, id=clip.name, model="whisper-base")


def nearest(result: Result, results: list[Result]) -> str:
    """Give the highest cosine of another of the results, and its item."""
    others = [own for own in results if own is not result]
    if not others:
        return "-"
    rows = np.stack([own.vector for own in others])
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(result.vector)
    cosines = rows @ result.vector / norms
    best = int(cosines.argmax())
    return f"{cosines[best]:.3f} {others[best].id}"


def table_of(model: ModelInfo, results: list[Result], width: int) -> Table:
    """Lay out one model's results; all tables have the same columns."""
    title = Text.assemble(
        f"{model.name}, {model.dimensions} dimensions ",
        ("" if model.trained else "UNTRAINED", "bold yellow"),
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.width = width
    table.add_column("item", overflow="fold", ratio=1)
    table.add_column("first values", width=12)
    table.add_column("nearest (cosine)", overflow="fold", ratio=1)
    for heading in ("queue", "prepare", "compute"):
        table.add_column(heading, justify="right", width=7)
    for result in results:
        timings = result.timings
        table.add_row(
            result.id,
            " ".join(f"{value:+.2f}" for value in result.vector[:2]),
            Text(nearest(result, results), style="" if model.trained else "dim"),
            f"{timings.queue_ms:.1f}",
            f"{timings.prepare_ms:.1f}",
            f"{timings.compute_ms:.1f}",
        )
    return table


def edited(photo: Path) -> bytes:
    """Crop a photo, mirror it and save it as a poor JPEG."""
    # Installed with the server; the client needs no Pillow.
    from PIL import Image

    with Image.open(photo) as image:
        width, height = image.size
        part = image.convert("RGB").crop((width // 4, height // 5, width, height))
    file = BytesIO()
    part.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file, "JPEG", quality=25)
    return file.getvalue()


def copies_found(client: Client, width: int) -> Table | str:
    """Look for the original of an edited copy of each photo, or say why not."""
    if COPY_FINDER not in {model.name for model in client.models()}:
        return f"No {COPY_FINDER} here, its package could not be fetched: no copies are looked for."
    photos = sorted((DATA / "photos").glob("*.jpg"))
    try:
        copies = [edited(photo) for photo in photos]
    except ImportError:
        return f"{COPY_FINDER} is here, but not Pillow to edit photos: no copies are looked for."
    vectors = client.embed(COPY_FINDER, [*photos, *copies])
    cosines = vectors[len(photos) :] @ vectors[: len(photos)].T
    title = f"{COPY_FINDER} finds the photo that a copy was made of"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.width = width
    for heading in ("cropped, mirrored, JPEG 25", "nearest (cosine)", "next (cosine)"):
        table.add_column(heading, overflow="fold", ratio=1)
    for photo, row in zip(photos, cosines, strict=True):
        first, second = np.argsort(-row)[:2]
        table.add_row(
            f"copy of {photo.name}",
            f"{row[first]:.3f} {photos[first].name}",
            f"{row[second]:.3f} {photos[second].name}",
        )
    return table


def main(address: str) -> int:
    """Run the demo against the server at `address`; return the exit code."""
    console = Console()
    width = min(console.width, TABLE_WIDTH) if console.is_terminal else TABLE_WIDTH
    console.width = width
    with Client(address) as client:
        # The first argument is for items that name no model; here all do.
        results = list(client.embed_stream("", items()))
        good = [result for result in results if result.error is None]
        models = {name: client.model(name) for name in {result.model for result in good}}
        copies = copies_found(client, width)
    console.print("One stream, all models. Times are milliseconds in the server.\n")
    for name in dict.fromkeys(result.model for result in good):
        own = [result for result in good if result.model == name]
        console.print(table_of(models[name], own, width))
    console.print(copies)
    untrained = sorted(name for name, model in models.items() if not model.trained)
    if untrained:
        console.print(
            f"[bold yellow]UNTRAINED:[/] {', '.join(untrained)}: random weights, for want of "
            "trained ones here. Shapes and times are real, values and neighbours mean nothing."
        )
    failures = [result.error for result in results if result.error is not None]
    for failure in failures:
        console.print(f"[bold red]failed:[/] {failure}")
    console.print(f"{len(good)} of {len(results)} items embedded by {address}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"))
    except VecserveError as error:
        sys.exit(f"error: {error}")
