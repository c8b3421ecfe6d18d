"""The page of an experiment in MLflow's user interface: its columns, its charts, and where it is."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VIEW = "palimpsest"
"""Key of the view that MLflow's page takes over from the experiment's tags, as behind its button Share."""
_METRICS = ("success", "utility", "utility_cost", "epsilon", "top1")
_PARAMS = ("unlearning", "coupling", "defense", "noise_multiplier", "variant", "seed", "run")
_COLUMNS = [*(f"metrics.`{name}`" for name in _METRICS), *(f"params.`{name}`" for name in _PARAMS)]
_WIDTHS = {
    "metrics.`epsilon`": 120,  # 1000000000
    "metrics.`utility_cost`": 120,
    "params.`unlearning`": 160,
    "params.`noise_multiplier`": 140,
}
"""In pixels; elsewhere MLflow's own."""
_SECTION = "palimpsest"
WHAT_TO_CLICK = (
    "Runs are sorted by success: what the best attack got back (0 is what the public mean scores, 1 the deleted record "
    "itself), beside what that way of unlearning and defense costs (utility_cost, epsilon; 1e9: no privacy).\n"
    "  Charts: the second of the three icons above the table.   Compare: tick runs, then Compare.\n"
    "  One run: click its name: verdict, curves (Model metrics), figures and tables (Artifacts)."
)


def experiment_tags(scenario: str) -> dict[str, str]:
    """Tags of an experiment: what it is, that it is about training, and how its page looks."""
    about = (
        f"Federated unlearning under an eavesdropper: scenario **{scenario}**.\n\nA parent run is one "
        "`palimpsest run`; its children are the arms (variant x unlearning x defense x seed). `success` is what the "
        "best attack got back (centred cosine: 0 is what the public mean scores, 1 the deleted record itself), "
        "`utility_cost` what the model is worth less than an undefended retraining, `epsilon` what the deleted have "
        "paid (1e9: no differential privacy)."
    )
    return {
        "mlflow.note.content": about,
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_VIEW}": json.dumps(_state(), separators=(",", ":")),
    }


def newest_experiment(client: "MlflowClient") -> str | None:
    """Id of the experiment with the newest of our runs; None where there is none."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, "tags.`palimpsest.run` != ''", max_results=1, order_by=["attributes.start_time DESC"]
    )
    return str(runs[0].info.experiment_id) if runs else None


def runs_page(address: str, experiment: str | None) -> str:
    """Address of an experiment's runs, in training mode and as above; without one, of all experiments."""
    if experiment is None:
        return f"{address}/#/experiments?workflowType=machine_learning"
    return f"{address}/#/experiments/{experiment}/runs?viewStateShareKey={_VIEW}&workflowType=machine_learning"


def _state() -> dict[str, Any]:
    """What MLflow's page remembers of its own look, as MLflow 3 names it; what it does not know it leaves alone."""
    return {
        "searchFilter": "",
        "orderByKey": "metrics.`success`",  # sorted by a metric, children are listed beside their parents
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
        "columnOrder": _COLUMNS,
        "columnWidths": _WIDTHS,
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "compareRunCharts": [
            _chart("BAR", "Success of the best attack", metricKey="success", runsCountToCompare=60),
            _scatter("Success by epsilon (9: no privacy)", "privacy/log10_epsilon", "success"),
            _scatter("Success by what it costs in utility", "utility_cost", "success"),
            _chart(
                "PARALLEL",
                "Ways of unlearning and defenses",
                selectedParams=["unlearning", "defense"],
                selectedMetrics=["success", "utility"],
                showAllRuns=False,
            ),
            _line("Utility by round of the training", "training/utility"),
            _line("Utility over the server's life", "round/utility"),
            _line("Utility after each request", "request/utility_after"),
        ],
        "isAccordionReordered": True,  # or MLflow sorts sections by name, and ours comes below all the groups
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": "What an eavesdropper gets, and what preventing that costs",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
    }


def _chart(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION} {name}",
        "type": kind,
        "displayName": name,
        "metricSectionId": _SECTION,
        "runsCountToCompare": 200,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }


def _scatter(name: str, x: str, y: str) -> dict[str, Any]:
    return _chart("SCATTER", name, xaxis={"key": x, "type": "METRIC"}, yaxis={"key": y, "type": "METRIC"})


def _line(name: str, metric: str) -> dict[str, Any]:
    keys: Sequence[str] = [metric]
    return _chart("LINE", name, metricKey=metric, selectedMetricKeys=keys, xAxisKey="step", scaleType="linear")
