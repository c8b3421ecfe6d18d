"""Chains of requests as tables: for the terminal, and in markdown."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from palimpsest.simulator.results.chain_verdicts import utility_clause
from palimpsest.simulator.results.chains import Told, chain_of, followed_attack, told_of
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import BASELINES, number

_NARROW = 100
_FEW, _MANY = 1, 3
"""Attacks that have a column: on a narrow terminal, and on others."""
_REQUEST, _FIGURE = 26, 8
"""Columns of the terminal, alike for all arms: for who asked for what, and for a figure."""


def trajectories(chosen: Sequence[ArmResult], name: Callable[[ArmResult], str], width: int) -> Table:
    """Arm after arm, what its chain ended in, and a row a request: utility beside a retraining's, attacks, epsilon.

    Args:
        chosen: arms of one variant, whose requests are chains.
        name: of an arm, for its first line.
        width: columns of the terminal.
    """
    followed, attacks = _attacks(chosen, _FEW if width < _NARROW else _MANY)
    private = any(row.epsilon_leaver is not None for arm in chosen for row in arm.requests)
    unit = next((arm.utility.unit for arm in chosen if arm.utility is not None), "utility")
    heads = [unit, "re-\ntrained", *(kind.replace("-", "\n", 1) for kind in attacks)]
    heads += (["no\nmodel"] if followed else []) + (["epsilon\nleaver", "epsilon\nstays"] if private else [])
    heads += ["of it\nfor this"] if private and width >= _NARROW else []
    outer = Table.grid(padding=(0, 0, 0, 0))
    for place, arm in enumerate(chosen):
        outer.add_row(Text(f"{name(arm)}: {utility_clause(arm)}", style="bold"))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.show_header = not place
        table.add_column("request", no_wrap=True, width=_REQUEST if width < _NARROW else _REQUEST + 8)
        for head in heads:
            table.add_column(head, justify="right", width=_FIGURE)
        for cells in _rows(arm, followed, attacks, private):
            table.add_row(*map(Text, cells[: len(heads) + 1]))
        outer.add_row(table)
        outer.add_row("")
    return outer


def markdown_rows(chosen: Sequence[ArmResult], name: Callable[[ArmResult], str]) -> str:
    """The same in markdown."""
    followed, attacks = _attacks(chosen, _MANY)
    heads = ["unlearning", "request", "utility", "retrained", *attacks, *(["no model"] if followed else [])]
    heads += ["epsilon of leavers", "of who stays", "of it for this request"]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    for arm in chosen:
        lines += [f"| {' | '.join([name(arm), *cells])} |" for cells in _rows(arm, followed, attacks, private=True)]
    return "\n".join(lines)


def _attacks(chosen: Sequence[ArmResult], most: int) -> tuple[str, list[str]]:
    """The attack to follow, and those that have a column, it first."""
    followed = followed_attack(chosen)
    others = dict.fromkeys(kind for arm in chosen for row in arm.requests for kind in row.attacks)
    real = [kind for kind in others if kind not in BASELINES and kind != followed]
    return followed, [*([followed] if followed else []), *real][:most]


def _rows(arm: ArmResult, followed: str, attacks: Sequence[str], private: bool) -> list[list[str]]:
    """The cells of an arm: before any request, then one line each."""
    chain = [told_of(row) for row in chain_of(arm)]
    empty = [""] * (1 + len(attacks) + bool(followed) + 3 * private)
    lines = [["before", _three(chain[0].before), *empty]]
    for told in chain:
        words = told.words + (", returns" if told.rejoined is not None else "")
        lines.append([words, *_cells(told, followed, attacks, private)])
    return lines


def _cells(told: Told, followed: str, attacks: Sequence[str], private: bool) -> list[str]:
    got = [_two(told.attacks[kind].success) if kind in told.attacks else "-" for kind in attacks]
    floor = [_two(told.attacks[followed].floor) if followed in told.attacks else "-"] if followed else []
    rise = None if told.retained is None or told.retained_before is None else told.retained - told.retained_before
    paid = [_epsilon(told.leaver), _epsilon(told.retained), _epsilon(rise)] if private else []
    return [_three(told.after), _three(told.retrained), *got, *floor, *paid]


def _epsilon(value: float | None) -> str:
    return "-" if value is None else number(value)


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
