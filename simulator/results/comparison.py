"""Every way of unlearning beside retraining and beside fine-tuning: one table for all settings and seeds of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from palimpsest.simulator.results.intervals import FEWEST
from palimpsest.simulator.results.run_directory import RunFiles, SettingOfArms
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.world.files import write_atomically

BASELINE = "finetune"
_ALPHA = 0.05
_RESAMPLES = 2000
_Gap = Callable[[pd.DataFrame, ArmResult], pd.Series]
_Figure = Callable[[ArmResult], float | None]
_Pair = Callable[[ArmResult], tuple[float | None, float | None]]


@dataclass(frozen=True)
class ComparisonRow:
    """One way of unlearning in one setting, its seeds together.

    Attributes:
        label: of the method.
        kind: ``exact``, ``baseline`` (fine-tuning, ignoring the request) or ``approximate`` (certified ones too).
        apart: distance to retraining, over the distance between two retrainings: 1 is as good as retraining gets.
        figures: what the table shows beside it, by column; what does not apply is absent.
        share: client updates, over those of the retraining of all requests.
        interval: 95 % of ``apart``, by bootstrap over seeds; None of fewer seeds than make one.
        rank: one more than the ways of unlearning whose whole interval lies below this one's; None without intervals.
    """

    label: str
    kind: str
    apart: float
    figures: Mapping[str, str] = field(default_factory=dict)
    share: float = 0.0
    interval: tuple[float, float] | None = None
    rank: int | None = None


def applies(run: RunFiles) -> bool:
    """Whether arms were measured against several retrainings, whose spread a comparison needs."""
    return any(_measure(arm) is not None for arm in run.arms)


def write(run: RunFiles) -> Path | None:
    """Write the table as ``comparison.md`` into the run's directory; return its path, None where it does not apply."""
    if not applies(run):
        return None
    write_atomically(run.directory.comparison, markdown(run))
    return run.directory.comparison


def lines(run: RunFiles, variant: str) -> list[ComparisonRow]:
    """The ways of unlearning of one setting, the one nearest to retraining first."""
    settings = _settings(run, variant)
    baseline = next((each for each in settings if each.arms[0].unlearning.method == BASELINE), None)
    compared = [_line(run, each, baseline) for each in settings]
    return _ranked(sorted(compared, key=lambda line: line.apart))


def _ranked(found: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Lines with their ranks, where all of them have an interval: equal ranks are not told apart."""
    ends = [line.interval for line in found]
    if not all(ends):
        return list(found)
    highs = [end[1] for end in ends if end]
    ranks = [1 + sum(high < end[0] for high in highs) for end in ends if end]
    return [replace(line, rank=rank) for line, rank in zip(found, ranks, strict=True)]


def table(run: RunFiles) -> Table:
    """The table at the end of a run that compares ways of unlearning."""
    columns = ["unlearning", "apart", "rank", *(name for name in _COLUMNS if name not in _WRITTEN_ONLY), *_AGAINST]
    settings = {variant: _rows(run, variant) for variant in run.variants()}
    shown = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in columns:
        width = max(len(row.get(column, "-")) for rows in settings.values() for row in rows)
        shown.add_column(column, justify="left" if column == "unlearning" else "right", min_width=width)
    for variant, rows in settings.items():
        shown.add_row(Text(variant, style="bold"))
        for position, row in enumerate(rows):
            shown.add_row(*(Text(row.get(column, "-")) for column in columns), end_section=position == len(rows) - 1)
    return shown


def markdown(run: RunFiles) -> str:
    """The same as markdown, a table a setting: what ``comparison.md`` of a run holds."""
    columns = ["unlearning", "apart", "rank", *_COLUMNS, *_AGAINST]
    text = [_LEGEND, ""]
    for variant in run.variants():
        text += [f"### {variant}", ""] if variant else []
        text += [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
        text += [f"| {' | '.join(row.get(column, '-') for column in columns)} |" for row in _rows(run, variant)]
        text.append("")
    return "\n".join(text)


_LEGEND = (
    "Medians or means over requests, then means over seeds. `apart`: distance to retraining over the distance between "
    "two retrainings (symmetric KL divergence on the test records; of parameters where scores are no probabilities): 1 "
    "is as near as a retraining is; of six seeds or more with its 95 % interval, by bootstrap over them, and `rank` is "
    "one more than the ways whose whole interval lies below it: equal ranks are not told apart, and where there are no "
    "intervals nothing is ranked, whatever the order of lines; `L2`: the same of parameters. As differences to "
    "retraining: accuracy on `test` "
    "records and of the `worst client`, and on what was to be forgotten `forget loss`, membership `AUC` (`!`: the test "
    "finds no members in the trained model either) and `backdoor` success. `relearn`: rounds until what was deleted is "
    "known again. `updates`: client updates over retraining's. `kept`: at the server. `speed-up`: seconds that "
    "retraining takes until it is as good on the test records, over seconds spent. `nearer than finetune`, `forgets "
    "better than finetune`: on how many requests the distance, or the forget loss, ends nearer to retraining's than "
    "after fine-tuning; `?` where a sign test at 5 % cannot tell. The row of retrainings: their standard deviation."
)


def _rows(run: RunFiles, variant: str) -> list[dict[str, str]]:
    """Cells by column: first how far retrainings are apart, then every way of unlearning."""
    arms = [arm for setting in _settings(run, variant) for arm in setting.arms]
    spread = {name: text for name, cell in _SPREADS.items() if (text := cell(arms))}
    first = {"unlearning": "(retrainings)", "apart": "1.00", **spread}
    rest = [{"unlearning": line.label, **_distance(line), **line.figures} for line in lines(run, variant)]
    return [first, *rest]


def _distance(line: ComparisonRow) -> dict[str, str]:
    """The cells of the distance and its rank."""
    cells = {"apart": f"{line.apart:.2f}"}
    if line.interval is not None:
        cells["apart"] += f" ({line.interval[0]:.2f} to {line.interval[1]:.2f})"
    return cells if line.rank is None else cells | {"rank": str(line.rank)}


def _settings(run: RunFiles, variant: str) -> list[SettingOfArms]:
    """The settings of a variant that were measured: all but those whose requests were all refused."""
    settings = [
        replace(each, arms=tuple(a for a in each.arms if _measure(a) is not None)) for each in run.settings(variant)
    ]
    return [each for each in settings if each.arms]


def _line(run: RunFiles, setting: SettingOfArms, baseline: SettingOfArms | None) -> ComparisonRow:
    arms, method = setting.arms, setting.arms[0].unlearning.method
    exact = all(arm.forgetting.exact for arm in arms)
    kind = "exact" if exact else "baseline" if method in (BASELINE, "none") else "approximate"
    cells = {name: cell(arms) for name, cell in _COLUMNS.items()}
    if baseline is not None and kind != "baseline":
        cells |= {name: _against(run, arms, baseline.arms, gap) for name, gap in _AGAINST.items()}
    return ComparisonRow(
        label=setting.label,
        kind=kind,
        interval=_interval(arms),
        apart=_mean([_apart(arm) for arm in arms]) or 0.0,
        figures={name: text for name, text in cells.items() if text},
        share=_mean([_share(arm) for arm in arms]) or 0.0,
    )


def _against(run: RunFiles, arms: Sequence[ArmResult], others: Sequence[ArmResult], gap: _Gap) -> str:
    """Count the requests on which ``arms`` end nearer to retraining than ``others``; ties count for nobody."""
    nearer = further = 0
    for arm, other in ((a, b) for a in arms for b in others if a.seed == b.seed and a.defense == b.defense):
        less = (gap(run.files(arm).forgetting(), arm) - gap(run.files(other).forgetting(), other)).dropna()
        nearer, further = nearer + int((less < 0).sum()), further + int((less > 0).sum())
    count = nearer + further
    if count < FEWEST:
        return f"few {nearer}/{count}"
    from scipy.stats import binomtest  # takes a second to import, and few runs need it

    sure = binomtest(nearer, count).pvalue < _ALPHA
    return f"{('yes' if 2 * nearer > count else 'no') if sure else '?'} {nearer}/{count}"


def _distance_gap(rows: pd.DataFrame, arm: ArmResult) -> pd.Series:
    """By request, how far the model that it ended in is from retrainings."""
    return rows[rows["model"] == "unlearned"].set_index("request")[str(_measure(arm))]


def _forgetting_gap(rows: pd.DataFrame, arm: ArmResult) -> pd.Series:
    """By request, how far the loss on what was to be forgotten is from retrainings', either way."""
    losses = rows.groupby(["model", "request"])["forget_loss"].mean()
    gap: pd.Series = (losses["unlearned"] - losses["retrained"]).abs()
    return gap


_AGAINST: Mapping[str, _Gap] = {
    f"nearer than {BASELINE}": _distance_gap,
    f"forgets better than {BASELINE}": _forgetting_gap,
}


# --- columns ---------------------------------------------------------------------------------------------------------


def _measure(arm: ArmResult) -> str | None:
    """Which distance tells arms apart: of what models say, else of parameters; None without several retrainings."""
    if arm.forgetting.kl_between_retrained is not None:
        return "kl"
    return None if arm.forgetting.distance_between_retrained is None else "distance"


def _apart(arm: ArmResult) -> float | None:
    """Distance to retraining over the distance between two retrainings, by the measure that tells arms apart."""
    known = arm.forgetting
    if known.kl_between_retrained is not None:
        return _ratio(known.kl_to_retrained, known.kl_between_retrained)
    return _parameters_apart(arm)


def _interval(arms: Sequence[ArmResult]) -> tuple[float, float] | None:
    """Of the mean of ``_apart``: seeds drawn anew, each with all that was measured under it."""
    seeds: dict[int, list[float]] = {}
    for arm in arms:
        if (apart := _apart(arm)) is not None:
            seeds.setdefault(arm.seed, []).append(apart)
    if len(seeds) < FEWEST:
        return None
    means = np.array([np.mean(own) for own in seeds.values()])
    drawn = means[np.random.default_rng(0).integers(len(means), size=(_RESAMPLES, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [_ALPHA / 2, 1 - _ALPHA / 2])
    return float(low), float(high)


def _parameters_apart(arm: ArmResult) -> float | None:
    return _ratio(arm.forgetting.distance_to_retrained, arm.forgetting.distance_between_retrained)


def _ratio(value: float | None, whole: float | None) -> float | None:
    return value / whole if value is not None and whole else None


def _share(arm: ArmResult) -> float | None:
    return _ratio(arm.cost.client_updates, arm.cost.retraining_client_updates)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _gap(figures: _Pair) -> Callable[[Sequence[ArmResult]], str]:
    """A column: how far a figure is from retraining's."""

    def cell(arms: Sequence[ArmResult]) -> str:
        pairs = [figures(arm) for arm in arms]
        gap = _mean([mine - other if mine is not None and other is not None else None for mine, other in pairs])
        return "" if gap is None else f"{gap:+.3f}"

    return cell


def _test(arm: ArmResult) -> tuple[float | None, float | None]:
    return (None, None) if arm.utility is None else (arm.utility.unlearned, arm.utility.retrained)


def _worst_client(arm: ArmResult) -> tuple[float | None, float | None]:
    utility = arm.utility
    return (None, None) if utility is None else (utility.worst_client_unlearned, utility.worst_client_retrained)


def _membership(arms: Sequence[ArmResult]) -> str:
    text = _gap(lambda arm: (arm.forgetting.membership_auc, arm.forgetting.membership_auc_retrained))(arms)
    valid = all(arm.forgetting.membership_valid for arm in arms)
    return text if valid or not text else f"{text}!"


def _relearned(arms: Sequence[ArmResult]) -> str:
    if all(arm.forgetting.relearning_reached is None for arm in arms):
        return ""
    return _rounds([arm.forgetting.relearning_rounds for arm in arms])


def _relearned_by_retrainings(arms: Sequence[ArmResult]) -> str:
    if all(arm.forgetting.relearning_reached_retrained is None for arm in arms):
        return ""
    return _rounds([arm.forgetting.relearning_rounds_retrained for arm in arms])


def _rounds(counts: Sequence[float | None]) -> str:
    rounds = _mean(counts)
    return "never" if rounds is None else f"{rounds:.1f}"


def _cost(figure: _Figure, form: Callable[[float], str]) -> Callable[[Sequence[ArmResult]], str]:
    def cell(arms: Sequence[ArmResult]) -> str:
        value = _mean([figure(arm) for arm in arms])
        return "" if value is None else form(value)

    return cell


def _bytes(count: float) -> str:
    return "0" if count == 0 else f"{count / 1e6:.2g} MB"


_COLUMNS: Mapping[str, Callable[[Sequence[ArmResult]], str]] = {
    "L2": _cost(_parameters_apart, lambda value: f"{value:.2f}"),
    "test": _gap(_test),
    "worst client": _gap(_worst_client),
    "forget loss": _gap(lambda arm: (arm.forgetting.forget_loss, arm.forgetting.forget_loss_retrained)),
    "AUC": _membership,
    "backdoor": _gap(lambda arm: (arm.forgetting.backdoor_success, arm.forgetting.backdoor_success_retrained)),
    "relearn": _relearned,
    "updates": _cost(_share, lambda value: f"{value:.2f}"),
    "seconds": _cost(lambda arm: arm.cost.unlearning_seconds, lambda value: f"{value:.1f}"),
    "kept": _cost(lambda arm: arm.cost.server_bytes_stored, _bytes),
    "speed-up": _cost(lambda arm: arm.cost.speed_up_seconds, lambda value: f"{value:.3g}"),
}
_WRITTEN_ONLY = ("L2", "seconds", "kept")
"""Columns that a terminal has no room for."""


def _spread_of(figure: _Figure) -> Callable[[Sequence[ArmResult]], str]:
    return _cost(figure, lambda value: f"±{value:.3f}")


_SPREADS: Mapping[str, Callable[[Sequence[ArmResult]], str]] = {
    "L2": lambda arms: "1.00",
    "test": _spread_of(lambda arm: arm.utility.retrained_spread if arm.utility else None),
    "worst client": _spread_of(lambda arm: arm.utility.worst_client_retrained_spread if arm.utility else None),
    "forget loss": _spread_of(lambda arm: arm.forgetting.forget_loss_retrained_spread),
    "AUC": _spread_of(lambda arm: arm.forgetting.membership_auc_retrained_spread),
    "backdoor": _spread_of(lambda arm: arm.forgetting.backdoor_success_retrained_spread),
    "relearn": _relearned_by_retrainings,
    "updates": lambda arms: "1.00",
}
"""How much retrainings differ in a column: standard deviations, means over seeds."""
