"""Plot of latency against throughput, as a PNG and on one self-contained HTML page."""

import io
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vecserve._extras import require_extra

PNG, HTML = "latency-throughput.png", "report.html"

# Okabe and Ito's colours, which colour-blind people tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PANEL_INCHES = (6.4, 4.2)
_COLUMNS = 2
_LABEL_ROOM = 1.06
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>vecserve bench</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }}
td, th {{ padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd }}
td:nth-child(-n+3), th:nth-child(-n+3), .environment td {{ text-align: left }}
</style>
<h1>vecserve bench</h1>
{plot}
<table><tr>{headings}</tr>
{rows}
</table>
<h2>Environment</h2>
<table class="environment">
{environment}
</table>
</html>
"""


def draw(
    measured: Mapping[str, Any], folder: Path, titles: Collection[str] | None = None
) -> list[Path]:
    """Write the PNG and the page into `folder`; return their paths. Raises MissingExtra.

    `titles` chooses the results that are plotted, by default all; the page's table has all.
    """
    require_extra("matplotlib", "bench", "a plot")
    folder.mkdir(parents=True, exist_ok=True)
    plotted = [one for one in measured["results"] if titles is None or one["title"] in titles]
    figure = _figure(plotted, measured["environment"])
    figure.savefig(folder / PNG, dpi=110)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    (folder / HTML).write_text(_page(measured, svg.getvalue()))
    return [folder / PNG, folder / HTML]


def _figure(results: Sequence[Mapping[str, Any]], environment: Mapping[str, Any]) -> Any:
    """Draw one panel a kind of load: p50 (solid) and p99 (dashed) of each target."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    titles = list(dict.fromkeys(one["title"] for one in results))
    names = list(dict.fromkeys(one["target"] for one in results))
    columns = min(_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    # A picture may be shown without its page.
    where = f"{environment['cpu']}, {environment['cores']} cores, {environment['date'][:10]}"
    figure.suptitle(f"{where}; c8: 8 callers in a closed loop")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for title, panel in zip(titles, panels, strict=False):
        mine = [one for one in results if one["title"] == title]
        for number, name in enumerate(names):
            points = [one for one in mine if one["target"] == name]
            _curve(panel, points, name, _COLOURS[number % len(_COLOURS)])
        panel.set(
            title=title,
            xlabel="items a second",
            ylabel="latency, ms: p50 solid, p99 dashed",
            yscale="log",
        )
        # Room for the labels of the rightmost points.
        panel.set_xlim(0, panel.get_xlim()[1] * _LABEL_ROOM)
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize="small")
    for panel in panels:
        panel.set_axis_off()
    return figure


def _curve(panel: Any, points: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    known = [one for one in points if one["latency_ms"]["p50"] is not None]
    if not known:
        return
    untrained = " (UNTRAINED)" if any(one["untrained"] for one in known) else ""
    rates = [one["throughput"]["mean"] for one in known]
    for percent, style in (("p50", "-"), ("p99", "--")):
        panel.plot(
            rates,
            [one["latency_ms"][percent] for one in known],
            style,
            color=colour,
            marker="o" if percent == "p50" else "^",
            markersize=4,
            label=f"{name}{untrained}" if percent == "p50" else None,
        )
    for rate, one in zip(rates, known, strict=True):
        panel.annotate(
            one["pressure"],
            (rate, one["latency_ms"]["p50"]),
            textcoords="offset points",
            xytext=(4, -10),
            fontsize="x-small",
            color=colour,
        )


def _page(measured: Mapping[str, Any], svg: str) -> str:
    headings = ("load", "pressure", "target", "items/s", "±95 %", "p50 ms", "p99 ms", "errors")
    rows = []
    for one in measured["results"]:
        cells = (
            one["title"],
            one["pressure"],
            one["target"] + (" UNTRAINED" if one["untrained"] else ""),
            _number(one["throughput"]["mean"]),
            _number(one["throughput"]["margin95"]),
            _number(one["latency_ms"]["p50"]),
            _number(one["latency_ms"]["p99"]),
            str(sum(one["errors"].values())),
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    environment = (
        f"<tr><td>{escape(name)}</td><td>{escape(_words(value))}</td></tr>"
        for name, value in measured["environment"].items()
    )
    return _PAGE.format(
        # The XML prologue has no place inside HTML.
        plot=svg[svg.index("<svg") :],
        headings="".join(f"<th>{heading}</th>" for heading in headings),
        rows="\n".join(rows),
        environment="\n".join(environment),
    )


def _number(value: float | None) -> str:
    return "" if value is None or value == float("inf") else f"{value:.2f}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {own}" for name, own in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
