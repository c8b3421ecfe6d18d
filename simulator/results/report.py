"""What a run found, as the table at its end; from ``results.json`` alone."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from palimpsest.simulator.results.attack_results import AttackResult
from palimpsest.simulator.results.chains import chain_of
from palimpsest.simulator.results.evidence import Grade
from palimpsest.simulator.results.inference_verdicts import cost, inferences
from palimpsest.simulator.results.schema import ArmResult, RunResults
from palimpsest.simulator.results.trajectory_table import markdown_rows, trajectories
from palimpsest.simulator.results.verdicts import label_of, leading, reconstructions, verdict

_STYLE: dict[Grade, str] = {"back": "bold red", "part": "yellow", "nothing": "green", "silent": "dim", "unclear": "dim"}
_NARROW, _WIDE = 100, 132
_MEASURES = {
    "cosine_median": "cosine",
    "cosine_centred_median": "centred",
    "label_accuracy": "label",
    "top1_of_1000": "top 1",
    "auc": "AUC",
    "tpr_at_1_percent": "at 1 %",
    "total_variation_median": "histogram off",
    "success": "success",
}
"""Columns, by the name of the figure that they show."""


def table(results: RunResults, width: int = 120) -> Table:
    """The table at the end of a run, grouped by variant.

    Args:
        results: of the run.
        width: columns of the terminal; below ``_WIDE`` the verdicts stand under the figures instead of beside them, and
            below ``_NARROW`` what attacks cost is left out. Where requests are chains, each has a row, and no median is
            shown.
    """
    arms = results.arms
    outer = Table.grid(padding=(0, 0, 1, 0))
    for variant in dict.fromkeys(arm.variant for arm in arms):
        chosen = [arm for arm in arms if arm.variant == variant]
        if variant:
            outer.add_row(Text(variant, style="bold"))
        chains = [arm for arm in chosen if chain_of(arm)]
        if chains:
            outer.add_row(trajectories(chains, lambda arm: _name(arm, arms), width))
            outer.add_row(_verdicts(chosen, arms))
            continue
        outer.add_row(_figures(chosen, arms, beside=width >= _WIDE, costs=width >= _NARROW))
        if width < _WIDE:
            outer.add_row(_verdicts(chosen, arms))
    return outer


def _figures(chosen: Sequence[ArmResult], arms: Sequence[ArmResult], beside: bool, costs: bool) -> Table:
    """One row an arm; each attack has a line of its own inside it."""
    figures = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_lines=True, pad_edge=False)
    figures.add_column("unlearning", min_width=12, max_width=24)
    figures.add_column("utility", no_wrap=True)
    figures.add_column("attack", no_wrap=True)
    shown = _shown(chosen)
    for key in shown:
        figures.add_column(_MEASURES[key], justify="right", no_wrap=True)
    if costs:
        figures.add_column("cost", no_wrap=True)
    if beside:
        figures.add_column("verdict", min_width=30)
    for arm in chosen:
        attacks = _attacks(arm)
        cells = [_name(arm, arms), _utilities(arm), "\n".join(attacks)]
        for key in shown:
            cells.append("\n".join(_two(attack.figure(key)) for attack in attacks.values()))
        cells += ["\n".join(cost(attack) for attack in attacks.values())] if costs else []
        figures.add_row(*map(Text, cells), *([_judged(arm)] if beside else []))
    return figures


def _attacks(arm: ArmResult) -> dict[str, AttackResult]:
    """The attacks of an arm: on records, then on classes, then on given records."""
    return {**reconstructions(arm), **inferences(arm)}


def _shown(chosen: Sequence[ArmResult]) -> list[str]:
    """The measures that some attack of these arms has."""
    attacks = [attack for arm in chosen for attack in _attacks(arm).values()]
    return [key for key in _MEASURES if any(attack.figure(key) is not None for attack in attacks)]


def _verdicts(chosen: Sequence[ArmResult], arms: Sequence[ArmResult]) -> Table:
    """The sentences, for narrow terminals."""
    sentences = Table.grid(padding=(0, 2, 0, 0))
    for arm in chosen:
        sentences.add_row(Text(_name(arm, arms), style="bold"), _judged(arm))
    return sentences


def _judged(arm: ArmResult) -> Text:
    led = leading(arm)
    return Text(verdict(arm), style=_STYLE[led[1]] if led else "dim")


def _name(arm: ArmResult, arms: Sequence[ArmResult]) -> str:
    """The label, with the seed where there are several."""
    several = len({other.seed for other in arms}) > 1
    return label_of(arm, arms) + (f", seed {arm.seed}" if several else "")


def _utilities(arm: ArmResult) -> str:
    utility = arm.utility
    if utility is None:
        return "-"
    of = {"trained": utility.trained, "unlearned": utility.unlearned, "retrained": utility.retrained}
    lines = [f"{name:<9} {value:.3f}" for name, value in of.items() if value is not None]
    return "\n".join([utility.unit, *lines]) if lines else "-"


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def markdown(results: RunResults) -> str:
    """The verdicts and the figures as markdown, for MLflow's notes."""
    arms = results.arms
    text = []
    for variant in dict.fromkeys(arm.variant for arm in arms):
        chosen = [arm for arm in arms if arm.variant == variant]
        text += [f"### {variant}", ""] if variant else []
        text += [f"- **{_name(arm, arms)}**: {verdict(arm)}" for arm in chosen]
        text += ["", attack_table(chosen, arms), ""]
    return "\n".join(text)


def attack_table(chosen: Sequence[ArmResult], arms: Sequence[ArmResult]) -> str:
    """A markdown row for each attack of the chosen arms; ``arms`` are all, to name them by what differs.

    Where requests are chains, a row for each request.
    """
    if chains := [arm for arm in chosen if chain_of(arm)]:
        return markdown_rows(chains, lambda arm: _name(arm, arms))
    shown = _shown(chosen)
    headers = " | ".join(["unlearning", "attack", *(_MEASURES[key] for key in shown), "cost"])
    lines = [f"| {headers} |", f"|---|---|{'---:|' * len(shown)}---|"]
    for arm in chosen:
        for name, attack in _attacks(arm).items():
            cells = [_name(arm, arms), name, *(_two(attack.figure(key)) for key in shown), cost(attack)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
