"""Results of a search as one HTML page: thumbnails, players, texts, and no other file."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from vecserve.store.base import Embedding
from vecserve.store.records import Hit

THUMBNAIL_PIXELS = 480
"""Longer side of a thumbnail: sharp on a phone, some 30 kB."""
MAX_PLAYED_BYTES = 8 * 2**20
"""Larger recordings and videos are linked to: the page would be slow to open."""
_SHOWN_CHARACTERS = 600

_PLAYED_TYPES = {
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p { margin: 0; }
.about, .where { opacity: .7; font-size: .85rem; overflow-wrap: anywhere; }
ol { display: grid; gap: 1rem; list-style: none; margin: 1rem 0; padding: 0;
     grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
li { border: 1px solid #8884; border-radius: .5rem; overflow: hidden; }
li > div { padding: .6rem .75rem; }
img, video { aspect-ratio: 4/3; background: #8882; display: block; object-fit: contain;
             width: 100%; }
audio { display: block; width: 100%; }
.text { overflow-wrap: anywhere; white-space: pre-wrap; }
"""

_SCRIPT = """
for (const player of document.querySelectorAll("[data-start]")) {
  if (player.dataset.same) player.src = document.getElementById(player.dataset.same).src;
  const seek = () => { player.currentTime = player.dataset.start; };
  if (player.readyState > 0) seek(); else player.addEventListener("loadedmetadata", seek);
}
"""


def write_page(file: Path, query: str, embedding: Embedding, hits: Sequence[Hit]) -> None:
    """Write the page; a file that is gone or cannot be read is named, without a picture."""
    first: dict[str, int] = {}
    for rank, hit in enumerate(hits, 1):
        first.setdefault(hit.path, rank)
    results = "\n".join(_result(rank, hit, first[hit.path]) for rank, hit in enumerate(hits, 1))
    title = html.escape(query)
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<p class="about">{len(hits)} results by {html.escape(str(embedding))}</p>
<ol>
{results}
</ol>
<script>{_SCRIPT}</script>
</html>
"""
    file.write_text(page, encoding="utf-8")


def _result(rank: int, hit: Hit, first: int) -> str:
    """Return the result of a rank; the first one of its file has that rank."""
    span = "" if hit.start_s is None else f", from {hit.start_s:g} to {hit.end_s:g} s"
    return (
        f"<li>{_media(rank, hit, first)}<div><p>{rank}. score {hit.score:.3f}{span}</p>"
        f'{_text(hit)}<p class="where">{html.escape(hit.path)}</p></div></li>'
    )


def _media(rank: int, hit: Hit, first: int) -> str:
    path = Path(hit.path)
    try:
        if hit.modality == "image":
            return f'<img alt="{html.escape(path.name)}" src="{thumbnail(path)}">'
        if hit.modality in ("audio", "video"):
            return _player(path, hit, rank, first)
    except OSError as error:  # Pillow's errors of files are OSErrors
        return f"<div>{html.escape(error.strerror or 'not a picture')}</div>"
    return ""


def thumbnail(path: Path) -> str:
    """Return a small picture of a photo as a data URL. Raises OSError if it cannot be read."""
    # Here, not above: Pillow is an extra.
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        jpeg = io.BytesIO()
        upright.convert("RGB").save(jpeg, "JPEG", quality=80)
    return _data("image/jpeg", jpeg.getvalue())


def _player(path: Path, hit: Hit, rank: int, first: int) -> str:
    """Return a player; a file of several results is in the page once, with the first of them."""
    start = hit.start_s or 0.0
    if path.stat().st_size > MAX_PLAYED_BYTES:
        link = f"{path.as_uri()}#t={start:g}"
        return f'<div><a href="{html.escape(link)}">{html.escape(path.name)}</a></div>'
    if rank == first:
        kind = _PLAYED_TYPES.get(path.suffix.lower(), f"{hit.modality}/mpeg")
        source = f'src="{_data(kind, path.read_bytes())}" id="result-{rank}"'
    else:
        source = f'data-same="result-{first}"'
    tag = hit.modality
    return f'<{tag} controls preload="metadata" data-start="{start:g}" {source}></{tag}>'


def _text(hit: Hit) -> str:
    text = hit.metadata.get("text")
    if text is None and hit.modality == "text":
        try:
            with open(hit.path, encoding="utf-8", errors="replace") as file:
                text = file.read(_SHOWN_CHARACTERS + 1)
        except OSError:
            return ""
    if not isinstance(text, str):
        return ""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return f'<p class="text">{html.escape(shown)}</p>'


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
