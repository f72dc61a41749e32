"""Command `vecserve compare`."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vecserve._channel import DEFAULT_ADDRESS
from vecserve._deadline import Deadline
from vecserve._extras import require_extra
from vecserve.cli.comparing import Embedded
from vecserve.cli.index import prompts_of
from vecserve.cli.inputs import find
from vecserve.cli.terminal import Server, Timeout, describe, say
from vecserve.client import Client
from vecserve.evaluation.answer import answer, choose
from vecserve.evaluation.encodings import Encoding, smaller
from vecserve.evaluation.intervals import CONFIDENCE, Outcome
from vecserve.evaluation.intervals import compare as compare_all
from vecserve.evaluation.labels import Labels
from vecserve.evaluation.pairs import Pairs
from vecserve.evaluation.plot import draw
from vecserve.evaluation.retrieval import Retrieval
from vecserve.evaluation.task import Task, kept
from vecserve.models import ModelInfo

NEIGHBOURS, RESULTS = 1, 10
_PIPE_WIDTH = 250


def compare(
    models: Annotated[
        str, typer.Option("--models", "-m", metavar="A,B", help="Models, as `models` lists them.")
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A .csv or .tsv with the columns sentence1, sentence2 and score: how alike.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A folder with a folder of files a class.", show_default=False),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help='A .jsonl, {"id": ..., "text": ...} a line.', show_default=False),
    ] = None,
    relevant: Annotated[
        Path | None,
        typer.Option(
            help='A .jsonl of documents, {"text": ..., "queries": [IDs of those it answers]} a '
            "line.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            min=1,
            max=1000,
            help=f"--labels: how many neighbours vote (default {NEIGHBOURS}); --queries: how many "
            f"results recall counts (default {RESULTS}).",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help=f"Also as these, beside float32: {', '.join(get_args(Encoding)[1:])}.",
        ),
    ] = None,
    dimensions: Annotated[
        str | None,
        typer.Option(metavar="N,M", help="Also cut to so many numbers, beside all of them."),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(
            help="What the texts of --pairs and --labels are, for models that list that prompt. "
            "Default: the models' own."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, in place of the table.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw it: a .png or .svg file.", show_default=False),
    ] = None,
    server: Server = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Say which embedding is right for your data: quality, size and speed, in a sentence.

    Give data whose right answers you know. --pairs: does the cosine rank as the scores do
    (Spearman)? --labels: is the nearest file of the same class? --queries with --relevant: are
    the documents that answer among the nearest (nDCG@10, recall)? A text in --pairs may be the
    name of a photo or recording beside the file; lines of a .jsonl may have "path" for "text".

    \b
    vecserve compare -m all-MiniLM-L6-v2,all-mpnet-base-v2 --pairs sts.csv
    vecserve compare -m sscd-resnet50,resnet-50 --labels photos/ --dtype int8,binary --plot p.png
    vecserve compare -m e5-base-v2 --queries q.jsonl --relevant r.jsonl --dimensions 256,128

    Intervals of 95 % come from drawing the cases again (bootstrap). Exits 0 with an answer, 1 if
    an item, the data or the server failed, 2 for wrong usage.
    """
    read = _reader(pairs, labels, queries, relevant, k)
    encodings, lengths = _encodings(dtype), _lengths(dimensions)
    names = _separated(models)
    if not names:
        raise typer.BadParameter("--models: name one or more, as `vecserve models` lists them")
    _check_plot(plot)
    require_extra("scipy", "compare", "A comparison")
    deadline = Deadline(timeout)
    with Client(server) as client:
        infos = [describe(client, name, deadline.left_s) for name in names]
        _check_options(infos, lengths, input_type)
        task = read(infos)
        parts = task.parts
        embedded = [Embedded.by(client, info, parts, input_type, deadline) for info in infos]
    failed = [set.union(*sets) for sets in zip(*(own.failed for own in embedded), strict=True)]
    if any(failed):
        task = task.without(failed)
    for note in task.notes:
        say("note", note, "bold yellow")
    stay = [kept(len(part.contents), bad) for part, bad in zip(parts, failed, strict=True)]
    candidates, scores = [], []
    for own in embedded:
        vectors = [rows[places] for rows, places in zip(own.vectors, stay, strict=True)]
        for form in own.forms(lengths, encodings):
            made = [smaller(rows, form.dimensions, form.encoding) for rows in vectors]
            candidates.append(form)
            scores.append(task.score(made))
    outcomes = compare_all(task, candidates, scores)
    source = str(pairs or labels or queries)
    if as_json:
        sys.stdout.write(json.dumps(_report(task, source, outcomes)) + "\n")
    else:
        _print(task, source, outcomes)
    if plot is not None:
        draw(plot, task, source, outcomes)
        say("plot", str(plot), "bold")
    if any(failed):
        raise typer.Exit(1)


def _reader(
    pairs: Path | None,
    labels: Path | None,
    queries: Path | None,
    relevant: Path | None,
    k: int | None,
) -> Callable[[Sequence[ModelInfo]], Task]:
    """Return what reads the data. Raises typer.BadParameter unless one kind of it is named."""
    if (queries is None) != (relevant is None):
        raise typer.BadParameter("--queries and --relevant belong together: give both")
    if [pairs, labels, queries].count(None) != 2:
        raise typer.BadParameter("give one of --pairs, --labels, or --queries with --relevant")
    if pairs is not None:
        if k is not None:
            raise typer.BadParameter("-k: --pairs has neither neighbours nor results")
        return lambda _: Pairs.read(pairs)
    if labels is not None:
        if not labels.is_dir():
            raise typer.BadParameter(f"--labels: there is no folder {labels}")
        return lambda infos: Labels.of(labels, _files(labels, infos), k or NEIGHBOURS)
    assert queries is not None
    assert relevant is not None
    return lambda _: Retrieval.read(queries, relevant, k or RESULTS)


def _files(folder: Path, infos: Sequence[ModelInfo]) -> list[Path]:
    """Return the files below a folder that every model takes, sorted."""
    taken = [find((), [str(folder)], info).paths for info in infos]
    return [path for path in taken[0] if all(path in others for others in map(set, taken[1:]))]


def _separated(given: str | None) -> list[str]:
    """Return the names in a list with commas, each once."""
    return list(dict.fromkeys(own.strip() for own in (given or "").split(",") if own.strip()))


def _encodings(given: str | None) -> list[Encoding]:
    known: dict[str, Encoding] = {name: name for name in get_args(Encoding)}
    if unknown := [name for name in _separated(given) if name not in known]:
        raise typer.BadParameter(f"--dtype: {unknown[0]!r} is none of {', '.join(known)}")
    return [known[name] for name in _separated(given)]


def _lengths(given: str | None) -> list[int]:
    if wrong := [name for name in _separated(given) if not name.isdecimal() or not int(name)]:
        raise typer.BadParameter(f"--dimensions: {wrong[0]!r} is no number from 1")
    return [int(name) for name in _separated(given)]


def _check_plot(plot: Path | None) -> None:
    if plot is None:
        return
    if plot.suffix not in (".png", ".svg"):
        raise typer.BadParameter(f"{plot} must end in .png or .svg")
    if not plot.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {plot.parent}: make it first")
    require_extra("matplotlib", "compare", "A plot")


def _check_options(
    infos: Sequence[ModelInfo], lengths: Sequence[int], input_type: str | None
) -> None:
    """Say what options do to these models. Raises typer.BadParameter for a prompt of none."""
    if input_type is not None and not any(input_type in prompts_of(info)[0] for info in infos):
        raise typer.BadParameter(f"--input-type: no model lists a prompt {input_type!r}")
    for info in infos:
        untrained = [own for own in lengths if own not in info.matryoshka_dimensions]
        if cut := [str(own) for own in untrained if own < info.dimensions]:
            say(
                "note",
                f"{info.name} was not trained to be cut to {', '.join(cut)}: the server does it "
                "with --force-dimensions only",
                "bold yellow",
            )
        if beyond := [str(own) for own in lengths if own > info.dimensions]:
            say(
                "note",
                f"{info.name} gives {info.dimensions} numbers, not {', '.join(beyond)}",
                "bold yellow",
            )


def _report(task: Task, source: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return the result as JSON has it."""
    chosen = choose(outcomes)
    return {
        "source": source,
        "cases": task.count,
        "of": task.cases,
        "candidates": [
            asdict(own.candidate)
            | {
                "name": str(own.candidate),
                "metrics": {
                    name: asdict(estimate)
                    for name, estimate in zip(task.metrics, own.metrics, strict=True)
                },
                "behind": asdict(own.behind) if own.behind else None,
            }
            for own in outcomes
        ],
        "take": str(chosen.candidate) if chosen else None,
        "answer": answer(task, outcomes),
    }


def _print(task: Task, source: str, outcomes: Sequence[Outcome]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("embedding", overflow="fold")
    for name in ("numbers", "bytes", "items/s", *task.metrics, "behind the best"):
        table.add_column(name, justify="right")
    for own in outcomes:
        candidate = own.candidate
        label = Text(str(candidate))
        if not candidate.trained:
            label.append(" UNTRAINED", "bold yellow")
        table.add_row(
            label,
            str(candidate.dimensions),
            f"{candidate.bytes:,}",
            f"{candidate.items_s:.3g}",
            *map(str, own.metrics),
            str(own.behind or "the best"),
        )
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    title = f"{task.count:,} {task.cases} of {source}; in brackets, intervals of {CONFIDENCE:.0%}\n"
    console.print(title, highlight=False, markup=False)
    console.print(table)
    sentence = f"\n{answer(task, outcomes)}"
    console.print(sentence, highlight=False, markup=False, soft_wrap=not console.is_terminal)
