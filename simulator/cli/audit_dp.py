"""``palimpsest audit-dp``: does noise hide what the account claims? What takes time to import is imported within."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.simulator.cli.console import ERR, FAILED, OUT, fail, input_errors

if TYPE_CHECKING:
    from rich.table import Table

    from palimpsest.simulator.audit.privacy.claims import AuditRow, PrivacyAudit

MECHANISMS, ARMS = 20_000, 4_000
"""Trials of each world."""
CANARIES = 2000
"""Of an audit in one run."""


def audit_dp(
    scenario: Annotated[
        str | None,
        typer.Argument(help="Its private arms are audited; every place of noise at --epsilon if left out."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A change to the scenario; repeatable.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=2000, help="Runs with the canary, and as many without; 20,000, of a scenario 4,000, if left out."
        ),
    ] = None,
    epsilon: Annotated[float, typer.Option(min=1e-3, max=50.0, help="That is claimed, without a scenario.")] = 4.0,
    delta: Annotated[float, typer.Option(min=1e-12, max=0.5, help="The same.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Of the trials.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A JSON file for what is found.")] = None,
) -> None:
    """Audit differential privacy: canaries through the product's own noise, beside the epsilon that is claimed.

    Exit code 0: every claim holds; 1: the trials refute one; 2: wrong input.
    """
    with input_errors():
        if out is not None and not out.absolute().parent.is_dir():
            fail(f"--out {out}: there is no directory {out.absolute().parent}")
        from palimpsest.simulator.federation.threads import one_thread

        with one_thread():
            if scenario is None:
                found = _of_mechanisms(epsilon, delta, trials or MECHANISMS, seed)
            else:
                found = _of_scenario(scenario, set_ or (), trials or ARMS, seed)
        OUT.print(table(found))
        if out is not None:
            out.write_text(found.model_dump_json(indent=1), encoding="utf-8")
            OUT.print(f"written: {out}", markup=False, soft_wrap=True)
        _conclude(found)


def _of_mechanisms(epsilon: float, delta: float, trials: int, seed: int) -> "PrivacyAudit":
    from palimpsest.defenses.calibration import smallest_noise
    from palimpsest.defenses.dp_sgd import DpSgd
    from palimpsest.simulator.audit.privacy import claims
    from palimpsest.simulator.audit.privacy.estimate import gaussian_epsilon
    from palimpsest.simulator.audit.privacy.mechanisms import standard

    mechanisms = standard(epsilon, delta, "tightest")
    rows = claims.audited(mechanisms, delta, trials, seed, beside=1, told=_told)
    sigma = smallest_noise(lambda noise: gaussian_epsilon(1.0 / noise, delta), epsilon)
    one_run = claims.in_one_run(DpSgd(noise_multiplier=sigma), delta, CANARIES, seed, "tightest", len(mechanisms))
    return claims.PrivacyAudit(delta=delta, accountant="tightest", seed=seed, rows=rows, one_run=(one_run,))


def _of_scenario(scenario: str, changes: "list[str] | tuple[str, ...]", trials: int, seed: int) -> "PrivacyAudit":
    from palimpsest.simulator.audit.privacy import claims
    from palimpsest.simulator.audit.privacy.mechanisms import of_scenario
    from palimpsest.simulator.scenario.load import load_scenario
    from palimpsest.simulator.world.files import cache_directory

    loaded = load_scenario(scenario, changes)
    privacy = loaded.privacy
    mechanisms, bare = of_scenario(loaded, cache_directory() / "populations")
    rows = claims.audited(mechanisms, privacy.delta, trials, seed, privacy.accountant, told=_told)
    return claims.PrivacyAudit(delta=privacy.delta, accountant=privacy.accountant, seed=seed, rows=rows, unclaimed=bare)


def _told(row: "AuditRow") -> None:
    ERR.print(f"{row.name}: {row.verdict}", markup=False, soft_wrap=True)


def table(found: "PrivacyAudit") -> "Table":
    """Claims beside what canaries lost, at 80 columns."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("epsilon of", overflow="fold")
    for header in ("claimed", "measured", "95 % interval", "at least"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_column("claim", no_wrap=True)
    for row in found.rows:
        mark = "*" if row.sampled else ""
        interval = f"above {row.low:.2f}{mark}" if row.high is None else f"{row.low:.2f} to {row.high:.2f}{mark}"
        shown.add_row(
            row.name, f"{row.claimed:.2f}", f"{row.measured:.2f}{mark}", interval, f"{row.direct:.2f}", row.verdict
        )
    for run in found.one_run:
        verdict = "refuted" if run.low > run.claimed else "holds"
        shown.add_row(run.name, f"{run.claimed:.2f}", "", f"above {run.low:.2f}", f"{run.low:.2f}", verdict)
    for bare in found.unclaimed:
        shown.add_row(bare.name, "", "", "", "", "no claim")
    if any(row.sampled for row in found.rows):
        shown.caption = "* with sampling the trade-off curve is no Gaussian one: to compare, no bound"
    return shown


def _conclude(found: "PrivacyAudit") -> None:
    """A sentence on the claims, after one on arms that have none; exit code 1 where a claim is refuted."""
    if found.unclaimed:
        OUT.print(
            f"no privacy is claimed for {'; '.join(bare.name for bare in found.unclaimed)}: some of what was broadcast "
            f"is covered by no noise",
            markup=False,
            soft_wrap=True,
        )
    if found.refuted:
        ERR.print(
            f"error: more privacy is lost than is claimed by {'; '.join(found.refuted)}: the noise is too small, or "
            f"the accountant counts too little",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(FAILED)
    loose = [row.name for row in found.rows if row.verdict == "loose"]
    if loose:
        OUT.print(
            f"no claim is refuted; less than 80 % of what is claimed is lost by {'; '.join(loose)}: there is more "
            f"noise than is accounted for, or the accountant counts too much",
            markup=False,
            soft_wrap=True,
        )
    elif found.rows:
        OUT.print("every claim holds", markup=False)
