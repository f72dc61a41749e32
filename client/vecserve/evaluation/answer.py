"""Answer to which embedding is right for the data, in a sentence."""

from collections.abc import Sequence

from vecserve.evaluation.intervals import Outcome
from vecserve.evaluation.task import Task

_LISTED = 3
_SHOWN = 0.0005
"""Less is 0.000 in print."""


def choose(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the outcome to take; None if no model is trained.

    Of those that the data does not tell from the best, the one with the smallest
    vectors, and of equally small ones the fastest.
    """
    level = [own for own in outcomes if own.candidate.trained and _is_level(own)]
    return min(level, key=lambda own: (own.candidate.bytes, -own.candidate.items_s), default=None)


def answer(task: Task, outcomes: Sequence[Outcome]) -> str:
    """Return one sentence: what to take, why, and how sure that is."""
    chosen = choose(outcomes)
    if chosen is None:
        return "Take none of these: their weights are random, and their vectors mean nothing."
    data = f"these {task.count:,} {task.cases}"
    metric = task.metrics[0]
    reached = f"{metric} {chosen.metrics[0]}"
    others = [own for own in outcomes if own is not chosen and own.candidate.trained]
    if not others:
        return (
            f"{chosen.candidate} reaches {reached} on {data}, and there is no other trained "
            "embedding here to compare it with."
        )
    if chosen.behind is not None:
        [best] = [own for own in others if own.behind is None]
        unsure = f" (more {task.cases} would tell more)" * (chosen.behind.high >= _SHOWN)
        return (
            f"Take {chosen.candidate}: by {metric} {data} do not tell it from the best, "
            f"{best.candidate} ({best.metrics[0].value:.3f}), which it is {chosen.behind} behind"
            f"{unsure}, and it takes {_costs(chosen, best)}."
        )
    runner_up, behind = min(
        ((own, own.behind) for own in others if own.behind), key=lambda pair: pair[1].value
    )
    following = f"the next, {runner_up.candidate}, is {behind} behind"
    if level := [str(own.candidate) for own in others if _is_level(own)]:
        return (
            f"Take {chosen.candidate}, with the highest {reached}: {data} do not tell it from "
            f"{_listed(level)} ({following}), and of these it has the smallest vectors, or as "
            "small ones and the highest speed."
        )
    return (
        f"Take {chosen.candidate}: on {data} its {reached} is the highest, and {following}; "
        f"it takes {_costs(chosen, runner_up)}."
    )


def _is_level(outcome: Outcome) -> bool:
    """Whether the data does not tell it from the best."""
    return outcome.behind is None or outcome.behind.low <= 0


def _costs(chosen: Outcome, other: Outcome) -> str:
    mine, theirs = chosen.candidate, other.candidate
    size = f"{mine.bytes:,} bytes a vector"
    if mine.bytes != theirs.bytes:
        size += f" instead of {theirs.bytes:,}"
    speed = f"embeds {mine.items_s:.3g} items/s"
    if mine.model != theirs.model:
        speed += f" instead of {theirs.items_s:.3g}"
    return f"{size} and {speed}"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_LISTED])
    if len(names) > _LISTED:
        shown.append(f"{len(names) - _LISTED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
