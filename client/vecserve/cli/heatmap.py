"""Heat map of a similarity matrix: cells in a terminal, a PNG, a page that needs no other file."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vecserve._items import modality_of_suffix
from vecserve.cli.page import thumbnail
from vecserve.cli.terminal import shorten

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LOWEST: Colour = (255, 255, 255)
HIGHEST: Colour = (0, 114, 178)  # Okabe and Ito's blue, which colour-blind people see too
ITSELF: Colour = (221, 221, 221)

SMALLEST_RANGE = 0.1
"""Least difference of cosines that spans all colours: noise is not to look like structure."""
_NUMBERED_ITEMS = 25
"""Most items whose cosines are written into the PNG's cells."""
_LABEL_CHARACTERS = 40
_PAGE_CHARACTERS = 300
_CELL_INCHES = 0.55
_MOST_INCHES = 16.0

_STYLE = """
:root { font: 15px/1.4 system-ui, sans-serif; background: #fff; color: #000; }
body { margin: 1rem; }
h1 { font-size: 1.2rem; margin: 0 0 .75rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { height: 3rem; min-width: 3.5rem; text-align: center; }
th { font-weight: normal; padding: .25rem .6rem; }
th[scope=row] { text-align: left; max-width: 20rem; overflow-wrap: anywhere; }
img { display: block; max-height: 5rem; max-width: 8rem; }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Similarities:
    """The cosine of each item with each."""

    title: str
    items: Sequence[str | Path]
    """Texts and files."""
    cosines: npt.NDArray[np.float32]
    """[items, items]."""

    def colour(self, row: int, column: int) -> Colour:
        """Return a cell's colour: deeper for a larger cosine among those of different items."""
        if row == column:
            return ITSELF
        low, high = self.range
        share = float(np.clip((self.cosines[row, column] - low) / (high - low), 0, 1))
        red, green, blue = (
            round(a + share * (b - a)) for a, b in zip(LOWEST, HIGHEST, strict=True)
        )
        return red, green, blue

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest cosine of two different items, at least `SMALLEST_RANGE` apart."""
        others = self.cosines[~np.eye(len(self.items), dtype=bool)]
        low, high = float(others.min()), float(others.max())
        widen = max(0.0, SMALLEST_RANGE - (high - low)) / 2
        return low - widen, high + widen


def write_png(file: Path, similarities: Similarities) -> None:
    """Write the heat map as a picture. Needs the extra `compare`."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    count = len(similarities.items)
    labels = [_label(item) for item in similarities.items]
    side = min(_CELL_INCHES * count + 1, _MOST_INCHES)
    # Room for the labels, left of the cells and below.
    room = 0.075 * max(map(len, labels)) + 0.3
    figure = Figure(figsize=(side + room + 1, side + room), layout="constrained")
    panel = figure.subplots()
    colours = [tuple(part / 255 for part in colour) for colour in (LOWEST, HIGHEST)]
    colour_map = LinearSegmentedColormap.from_list("cosine", colours)
    colour_map.set_bad(tuple(part / 255 for part in ITSELF))
    low, high = similarities.range
    cells = np.ma.masked_array(similarities.cosines, np.eye(count, dtype=bool))
    image = panel.imshow(cells, colour_map, vmin=low, vmax=high)
    panel.set_xticks(range(count), labels, rotation=45, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(count), labels)
    panel.set_title(similarities.title)
    figure.colorbar(image, label="cosine of two different items", shrink=0.8)
    if count <= _NUMBERED_ITEMS:
        for (row, column), cosine in np.ndenumerate(similarities.cosines):
            ink = _ink(similarities.colour(row, column))
            panel.text(column, row, f"{cosine:.2f}", ha="center", va="center", color=ink)
    figure.savefig(file, format="png", dpi=110)


def write_html(file: Path, similarities: Similarities) -> None:
    """Write the heat map as a page, with small pictures where Pillow is installed."""
    numbers = range(len(similarities.items))
    head = "".join(f'<th scope="col">{number + 1}</th>' for number in numbers)
    rows = []
    for row in numbers:
        item = similarities.items[row]
        cells = "".join(_cell(similarities, row, column) for column in numbers)
        rows.append(
            f'<tr><td>{row + 1}</td><th scope="row">{_picture(item)}'
            f"{html.escape(shorten(str(item), _PAGE_CHARACTERS))}</th>{cells}</tr>"
        )
    title = html.escape(similarities.title)
    body = "\n".join(rows)
    file.write_text(
        f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<div><table>
<tr><td></td><td></td>{head}</tr>
{body}
</table></div>
</html>
""",
        encoding="utf-8",
    )


def _cell(similarities: Similarities, row: int, column: int) -> str:
    red, green, blue = colour = similarities.colour(row, column)
    style = f"background: rgb({red} {green} {blue}); color: {_ink(colour)}"
    return f'<td style="{style}">{similarities.cosines[row, column]:.2f}</td>'


def _picture(item: str | Path) -> str:
    if not isinstance(item, Path) or modality_of_suffix(item) != "image" or not find_spec("PIL"):
        return ""
    try:
        return f'<img alt="" src="{thumbnail(item)}">'
    except OSError:  # a picture that the server reads and Pillow does not
        return ""


def _ink(background: Colour) -> str:
    """Return the text colour that reads best: by the weights of ITU-R BT.601."""
    red, green, blue = background
    return "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"


def _label(item: str | Path) -> str:
    """Return a file's name or a text's beginning, for matplotlib: between dollars is a formula."""
    name = item.name if isinstance(item, Path) else item
    return shorten(name, _LABEL_CHARACTERS).replace("$", r"\$")
