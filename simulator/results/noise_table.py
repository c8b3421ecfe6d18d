"""What sweeps of noise say, in a sentence and in tables that fit 80 columns."""

from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from palimpsest.simulator.results.noise_sweeps import TOLERATED, Step, Sweep, sweeps
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.verdicts import number

_COLUMNS = ("noise", "epsilon", "best attack", "succeeds", "bound", "no model", "utility")


def applies(run: RunFiles) -> bool:
    """Whether the noise of a defense grows in enough steps."""
    return bool(sweeps(run.arms))


def answer(found: Sequence[Sweep]) -> str:
    """One sentence: what it costs to stop every attack, and what the guarantee costs."""
    fresh = [sweep for sweep in found if not sweep.repeats] or list(found)
    metric = fresh[0].metric
    stopped = [sweep.cost(step) for sweep in fresh if (step := sweep.stops)]
    sure = [sweep.cost(step) for sweep in fresh if (step := sweep.guaranteed)]
    parts = []
    if stopped:
        parts.append(f"noise that stops every attack tried costs {_span(stopped)} of {metric}")
    parts += [f"no noise tried stops every attack on {_where(fresh, 'stops')}"] if len(stopped) < len(fresh) else []
    if sure:
        parts.append(f"noise that is guaranteed to costs {_span(sure)}")
    parts += [f"no noise tried is guaranteed to for {_where(fresh, 'guaranteed')}"] if len(sure) < len(fresh) else []
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}"


def sentence(sweep: Sweep) -> str:
    """What one way of unlearning needs."""
    stops, sure = sweep.stops, sweep.guaranteed
    if stops is None:
        last = sweep.steps[-1]
        said = f"{last.best.attack} still succeeds at {sweep.knob} {number(last.noise)} ({last.best.share:.2f})"
    elif not stops.noise:
        said = "no attack tried succeeds even without noise"
    else:
        first = " (the least tried)" if stops is sweep.steps[1] else ""
        said = f"{sweep.knob} {number(stops.noise)}{first} stops every attack tried{_costs(sweep, stops)}"
    if sure is None:
        return f"{said}; nothing is guaranteed"
    return f"{said}; {number(sure.noise)} is guaranteed to{_costs(sweep, sure)}"


def table(run: RunFiles) -> Table:
    """The answer, and a table for each sweep."""
    found = sweeps(run.arms)
    outer = Table.grid(padding=(0, 0, 1, 0))
    outer.add_row(Text(f"{answer(found)}.", style="bold"))
    for sweep in found:
        outer.add_row(Text(f"{title(sweep)}: {sentence(sweep)}."))
        outer.add_row(_steps(sweep))
    trials = max(step.best.trials for sweep in found for step in sweep.steps)
    judges = any(tried.judges for sweep in found for step in sweep.steps for tried in step.attacks)
    also = ", or told it from held-out records at 1 % false positives" if judges else ""
    outer.add_row(
        Text(
            f"An attack succeeds where it has {_event(found[0].event)}{also}, of {trials} deletions at most; stopped "
            f"and guaranteed: one in {round(1 / TOLERATED)}. Intervals hold together with 95 %.",
            style="dim",
        )
    )
    return outer


def title(sweep: Sweep) -> str:
    """Which sweep it is."""
    fresh = f" ({sweep.hiding})" if sweep.hiding else ""
    return f"{sweep.method}{fresh} under {sweep.defense}"


def _steps(sweep: Sweep) -> Table:
    steps = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in _COLUMNS:
        justify: Literal["left", "right"] = "left" if "attack" in name else "right"
        steps.add_column(sweep.metric if name == "utility" else name, justify=justify, no_wrap=True)
    for step in sweep.steps:
        best = step.best
        shown = (
            number(step.noise) if step.noise else "none",
            "-" if step.epsilon is None else short(step.epsilon),
            best.name if best.share else "none",
            f"{best.share:.2f} ({best.low:.2f}-{best.high:.2f})",
            f"{step.gamma:.2f}",
            "-" if step.floor is None else f"{step.floor:.2f}",
            "-" if step.utility is None else f"{step.utility:.3f}",
        )
        steps.add_row(*map(Text, shown), style=_style(sweep, step))
    return steps


def short(epsilon: float) -> str:
    """Epsilon in few characters."""
    return f"{epsilon:.1e}".replace("e+0", "e") if epsilon >= 1000.0 else f"{epsilon:.3g}"


def _style(sweep: Sweep, step: Step) -> str:
    return "bold" if step in (sweep.stops, sweep.guaranteed) else ""


def _costs(sweep: Sweep, step: Step) -> str:
    cost = sweep.cost(step)
    return "" if cost is None else f" and costs {max(cost, 0.0):.2f} of {sweep.metric}"


def _span(costs: Sequence[float | None]) -> str:
    known = sorted(max(cost, 0.0) for cost in costs if cost is not None)
    if not known:
        return "an unknown amount"
    low, high = f"{known[0]:.2f}", f"{known[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _where(found: Sequence[Sweep], which: str) -> str:
    names = dict.fromkeys(sweep.method for sweep in found if getattr(sweep, which) is None)
    return " and ".join(names)


def _event(event: str) -> str:
    """An event in words that follow ``it has``."""
    return {"top1": "named the deleted record among all candidates"}.get(event, event.replace("_", " "))
