"""Every way of unlearning beside retraining and beside fine-tuning: one table for all settings and seeds of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from palimpsest.simulator.results.run_directory import RunFiles, Setting
from palimpsest.simulator.results.verdicts import FEWEST, Arm
from palimpsest.simulator.world.files import write_atomically

BASELINE = "finetune"
_ALPHA = 0.05
_Gap = Callable[[pd.DataFrame, Arm], pd.Series]


@dataclass(frozen=True)
class Line:
    """One way of unlearning in one setting, its seeds together.

    Attributes:
        label: of the method.
        kind: ``exact``, ``baseline`` (fine-tuning, ignoring the request) or ``approximate`` (certified ones too).
        apart: distance to retraining, over the distance between two retrainings: 1 is as good as retraining gets.
        figures: what the table shows beside it, by column; what does not apply is absent.
        share: client updates, over those of the retraining of all requests.
    """

    label: str
    kind: str
    apart: float
    figures: Mapping[str, str] = field(default_factory=dict)
    share: float = 0.0


def applies(run: RunFiles) -> bool:
    """Whether arms were measured against several retrainings, whose spread a comparison needs."""
    return any(_measure(arm) is not None for arm in run.arms)


def write(run: RunFiles) -> Path | None:
    """Write the table as ``comparison.md`` into the run's directory; return its path, None where it does not apply."""
    if not applies(run):
        return None
    path = run.directory / "comparison.md"
    write_atomically(path, markdown(run))
    return path


def lines(run: RunFiles, variant: str) -> list[Line]:
    """The ways of unlearning of one setting, the one nearest to retraining first."""
    settings = _settings(run, variant)
    baseline = next((each for each in settings if each.arms[0]["unlearning"]["method"] == BASELINE), None)
    found = [_line(run, each, baseline) for each in settings]
    return sorted(found, key=lambda line: line.apart)


def table(run: RunFiles) -> Table:
    """The table at the end of a run that compares ways of unlearning."""
    columns = ["unlearning", "apart", *(name for name in _COLUMNS if name not in _WRITTEN_ONLY), *_AGAINST]
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
    columns = ["unlearning", "apart", *_COLUMNS, *_AGAINST]
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
    "is as near as a retraining is; `L2`: the same of parameters. As differences to retraining: accuracy on `test` "
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
    spread = {name: _spread(arms, name) for name in _COLUMNS}
    first = {"unlearning": "(retrainings)", "apart": "1.00", **{name: text for name, text in spread.items() if text}}
    rest = [{"unlearning": line.label, "apart": f"{line.apart:.2f}", **line.figures} for line in lines(run, variant)]
    return [first, *rest]


def _settings(run: RunFiles, variant: str) -> list[Setting]:
    """The settings of a variant that were measured: all but those whose requests were all refused."""
    found = [
        replace(each, arms=tuple(a for a in each.arms if _measure(a) is not None)) for each in run.settings(variant)
    ]
    return [each for each in found if each.arms]


def _line(run: RunFiles, setting: Setting, baseline: Setting | None) -> Line:
    arms, method = setting.arms, setting.arms[0]["unlearning"]["method"]
    exact = all(arm["forgetting"].get("exact") for arm in arms)
    kind = "exact" if exact else "baseline" if method in (BASELINE, "none") else "approximate"
    cells = {name: cell(arms) for name, cell in _COLUMNS.items()}
    if baseline is not None and kind != "baseline":
        cells |= {name: _against(run, arms, baseline.arms, gap) for name, gap in _AGAINST.items()}
    return Line(
        label=setting.label,
        kind=kind,
        apart=_mean([_apart(arm, str(_measure(arm))) for arm in arms]) or 0.0,
        figures={name: text for name, text in cells.items() if text},
        share=_mean([_share(arm) for arm in arms]) or 0.0,
    )


def _against(run: RunFiles, arms: Sequence[Arm], others: Sequence[Arm], gap: _Gap) -> str:
    """Count the requests on which ``arms`` end nearer to retraining than ``others``; ties count for nobody."""
    nearer = further = 0
    for own, other in ((a, b) for a in arms for b in others if a["seed"] == b["seed"] and a["defense"] == b["defense"]):
        less = (gap(run.forgetting(own), own) - gap(run.forgetting(other), other)).dropna()
        nearer, further = nearer + int((less < 0).sum()), further + int((less > 0).sum())
    count = nearer + further
    if count < FEWEST:
        return f"few {nearer}/{count}"
    from scipy.stats import binomtest  # takes a second to import, and few runs need it

    sure = binomtest(nearer, count).pvalue < _ALPHA
    return f"{('yes' if 2 * nearer > count else 'no') if sure else '?'} {nearer}/{count}"


def _distance_gap(rows: pd.DataFrame, arm: Arm) -> pd.Series:
    """By request, how far the model that it ended in is from retrainings."""
    return rows[rows["model"] == "unlearned"].set_index("request")[str(_measure(arm))]


def _forgetting_gap(rows: pd.DataFrame, arm: Arm) -> pd.Series:
    """By request, how far the loss on what was to be forgotten is from retrainings', either way."""
    losses = rows.groupby(["model", "request"])["forget_loss"].mean()
    gap: pd.Series = (losses["unlearned"] - losses["retrained"]).abs()
    return gap


_AGAINST: Mapping[str, _Gap] = {
    f"nearer than {BASELINE}": _distance_gap,
    f"forgets better than {BASELINE}": _forgetting_gap,
}


# --- columns ---------------------------------------------------------------------------------------------------------


def _measure(arm: Arm) -> str | None:
    """Which distance tells arms apart: of what models say, else of parameters; None without several retrainings."""
    known = arm.get("forgetting", {})
    return next((name for name in ("kl", "distance") if f"{name}_between_retrained" in known), None)


def _apart(arm: Arm, measure: str) -> float | None:
    known = arm["forgetting"]
    between = known.get(f"{measure}_between_retrained")
    return known[f"{measure}_to_retrained"] / between if between else None


def _share(arm: Arm) -> float | None:
    whole = arm["cost"]["retraining_client_updates"]
    return arm["cost"]["client_updates"] / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _gap(place: str, key: str, reference: str) -> Callable[[Sequence[Arm]], str]:
    """A column: how far a figure is from retraining's."""

    def cell(arms: Sequence[Arm]) -> str:
        pairs = [(arm.get(place, {}).get(key), arm.get(place, {}).get(reference)) for arm in arms]
        gap = _mean([own - other if own is not None and other is not None else None for own, other in pairs])
        return "" if gap is None else f"{gap:+.3f}"

    return cell


def _membership(arms: Sequence[Arm]) -> str:
    text = _gap("forgetting", "membership_auc", "membership_auc_retrained")(arms)
    valid = all(arm["forgetting"].get("membership_valid") for arm in arms)
    return text if valid or not text else f"{text}!"


def _relearned(arms: Sequence[Arm], of: str = "") -> str:
    if not any(f"relearning_reached{of}" in arm["forgetting"] for arm in arms):
        return ""
    rounds = _mean([arm["forgetting"].get(f"relearning_rounds{of}") for arm in arms])
    return "never" if rounds is None else f"{rounds:.1f}"


def _cost(key: str, form: Callable[[float], str]) -> Callable[[Sequence[Arm]], str]:
    def cell(arms: Sequence[Arm]) -> str:
        value = _mean([arm["cost"].get(key) for arm in arms])
        return "" if value is None else form(value)

    return cell


def _bytes(count: float) -> str:
    return "0" if count == 0 else f"{count / 1e6:.2g} MB"


def _updates(arms: Sequence[Arm]) -> str:
    value = _mean([_share(arm) for arm in arms])
    return "" if value is None else f"{value:.2f}"


def _parameters(arms: Sequence[Arm]) -> str:
    value = _mean([_apart(arm, "distance") for arm in arms])
    return "" if value is None else f"{value:.2f}"


_COLUMNS: Mapping[str, Callable[[Sequence[Arm]], str]] = {
    "L2": _parameters,
    "test": _gap("utility", "unlearned", "retrained"),
    "worst client": _gap("utility", "worst_client_unlearned", "worst_client_retrained"),
    "forget loss": _gap("forgetting", "forget_loss", "forget_loss_retrained"),
    "AUC": _membership,
    "backdoor": _gap("forgetting", "backdoor_success", "backdoor_success_retrained"),
    "relearn": _relearned,
    "updates": _updates,
    "seconds": _cost("unlearning_seconds", lambda value: f"{value:.1f}"),
    "kept": _cost("server_bytes_stored", _bytes),
    "speed-up": _cost("speed_up_seconds", lambda value: f"{value:.3g}"),
}
_WRITTEN_ONLY = ("L2", "seconds", "kept")
"""Columns that a terminal has no room for."""
_SPREADS = {
    "test": ("utility", "retrained_spread"),
    "worst client": ("utility", "worst_client_retrained_spread"),
    "forget loss": ("forgetting", "forget_loss_retrained_spread"),
    "AUC": ("forgetting", "membership_auc_retrained_spread"),
    "backdoor": ("forgetting", "backdoor_success_retrained_spread"),
}


def _spread(arms: Sequence[Arm], column: str) -> str:
    """How much retrainings differ in a column, mean over seeds."""
    if column == "relearn":
        return _relearned(arms, "_retrained")
    if column not in _SPREADS:
        return {"L2": "1.00", "updates": "1.00"}.get(column, "")
    place, key = _SPREADS[column]
    value = _mean([arm.get(place, {}).get(key) for arm in arms])
    return "" if value is None else f"±{value:.3f}"
