"""The page of an experiment in MLflow's user interface: which columns it shows, and where it is."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VIEW = "palimpsest"
"""Key of the view that MLflow's page takes over from the experiment's tags, as behind its button Share."""
_PARAMS = ("unlearning", "coupling", "defense", "noise_multiplier", "variant", "seed")
_METRICS = ("success", "top1", "utility", "utility_cost", "epsilon")
_COLUMNS = [*(f"metrics.`{name}`" for name in _METRICS), *(f"params.`{name}`" for name in _PARAMS)]
WHAT_TO_CLICK = (
    "Runs are listed with what each unlearning gives back (success: 0 is what the public mean scores, 1 the deleted "
    "record itself) and what it costs (utility_cost, epsilon).\n"
    "  Compare ways: tick the runs, then Compare.   Plot: the chart icon above the table, or Compare > Scatter plot, "
    "success against epsilon.   One run: its name; verdict, curves (Model metrics) and figures (Artifacts) are there."
)


def experiment_tags(scenario: str) -> dict[str, str]:
    """Tags of an experiment: what it is, that it is about training, and the columns of its page."""
    about = (
        f"Federated unlearning under an eavesdropper: scenario **{scenario}**.\n\nA parent run is one "
        "`palimpsest run`; its children are the arms (variant x unlearning x defense x seed). `success` is what the "
        "best attack got back (centred cosine: 0 is what the public mean scores, 1 the deleted record itself), "
        "`utility_cost` what the model is worth less than an undefended retraining, `epsilon` what the deleted have "
        "paid (1e9: no differential privacy)."
    )
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "viewMaximized": True,
        "runListHidden": False,
    }
    return {
        "mlflow.note.content": about,
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_VIEW}": json.dumps(state),
    }


def newest_experiment(client: "MlflowClient") -> str | None:
    """Id of the experiment with the newest of our runs; None where there is none."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, "tags.`palimpsest.run` != ''", max_results=1, order_by=["attributes.start_time DESC"]
    )
    return str(runs[0].info.experiment_id) if runs else None


def runs_page(address: str, experiment: str | None) -> str:
    """Address of an experiment's runs, in training mode and with the columns above; without one, of all experiments."""
    if experiment is None:
        return f"{address}/#/experiments?workflowType=machine_learning"
    return f"{address}/#/experiments/{experiment}/runs?viewStateShareKey={_VIEW}&workflowType=machine_learning"
