"""``palimpsest audit``: two checkpoints of somebody else's model. What takes time to import is imported within."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.simulator.cli.console import OUT, input_errors

if TYPE_CHECKING:
    from palimpsest.simulator.audit.results import AuditResult


def audit(
    before: Annotated[Path, typer.Argument(help="Checkpoint before the deletion: safetensors or a torch state dict.")],
    after: Annotated[Path, typer.Argument(help="Checkpoint after it.")],
    model: Annotated[str, typer.Option(help="A name of `palimpsest list models`, your package's among them.")],
    public: Annotated[Path, typer.Option(help="npz file with x and y: records like the private ones.")],
    option: Annotated[list[str] | None, typer.Option(help="key=value of the model, such as hidden=32.")] = None,
    truth: Annotated[Path | None, typer.Option(help="npz file with x and y of the deleted records, to score.")] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="npz file with x and y of records: which of them were deleted?")
    ] = None,
    records: Annotated[int, typer.Option(min=1, help="How many records were deleted.")] = 1,
    rule: Annotated[
        str, typer.Option(help="step: a gradient step, such as ascent; optimum: both models minimise their objective.")
    ] = "step",
    step: Annotated[float | None, typer.Option(help="Length of that gradient step.")] = None,
    n: Annotated[int | None, typer.Option(help="Training records before the deletion.")] = None,
    lambda_: Annotated[
        float, typer.Option("--lambda", help="Of the objective: SUM of losses + lambda/2 ||theta||^2.")
    ] = 0.0,
    attack: Annotated[list[str] | None, typer.Option(help="An attack; repeatable; all that apply if left out.")] = None,
    out: Annotated[Path, typer.Option(help="A new directory for what is found.")] = Path("audit"),
) -> None:
    """Audit a deletion that you carried out: which attacks apply to two checkpoints, and what each gives back."""
    with input_errors():
        from palimpsest.simulator.audit import audit as auditing
        from palimpsest.simulator.federation.threads import one_thread
        from palimpsest.simulator.scenario.options import keyed

        question = auditing.AuditQuestion(
            before=before,
            after=after,
            model=model,
            public=public,
            options=keyed("--option", option or ()),
            truth=truth,
            deletion=auditing.deletion_of(records=records, rule=rule, step=step, n=n, regularisation=lambda_),
            attacks=tuple(attack or ()),
            candidates=candidates,
        )
        with one_thread():
            _show(auditing.audit(question, out), out)


def _show(result: "AuditResult", out: Path) -> None:
    for sentence in result.assumed:
        OUT.print(f"assumed: {sentence}", markup=False, soft_wrap=True)
    for name, attempt in result.attacks.items():
        OUT.print(f"{name}: {attempt.says.removeprefix(f'{name} ')}", markup=False, soft_wrap=True)
    for name, reason in result.left_out.items():
        OUT.print(f"{name}: left out: {reason}", markup=False, soft_wrap=True)
    OUT.print(f"\n{result.verdict}", markup=False, soft_wrap=True)
    OUT.print(f"transcript, answers and figures: {out}", markup=False, soft_wrap=True)
