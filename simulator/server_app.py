"""The ServerApp: a whole scenario on the hosts that ``flwr run .`` or a Flower deployment provides."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

import palimpsest.simulator.world.telemetry  # noqa: F401  # before Flower, Ray or MLflow do anything

server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario that the run configuration names, on the hosts that Flower provides."""
    from palimpsest.simulator.experiment.runner import run_on_grid
    from palimpsest.simulator.scenario.load import load_scenario

    config = {name: str(value) for name, value in context.run_config.items()}
    scenario = load_scenario(config["scenario"], config.get("set", "").split())
    out = config.get("out", "")
    result = run_on_grid(scenario, grid, Path(out) if out else None)
    print(f"Results are in {result.directory.resolve()}")
