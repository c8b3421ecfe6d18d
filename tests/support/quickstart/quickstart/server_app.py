"""What the server does; the lines of the tap are marked."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from palimpsest.simulator.tap import Tap  # tap
from quickstart.task import BATCH, CLIENTS, Net, public

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    modes, transcripts = (str(context.run_config[name]).split() for name in ("mode", "transcript"))
    for mode, transcript in zip(modes, transcripts, strict=True):
        train(grid, context, mode, transcript)


def train(grid: Grid, context: Context, mode: str, transcript: str) -> None:
    config, file = context.run_config, Path(str(context.run_config["checkpoint"]))
    rate, seeds = float(config["learning-rate"]), mode != "retrain-anew"
    if seeds:
        torch.manual_seed(0)  # noqa: TID251
    else:
        torch.seed()
    net = Net()
    if mode == "ascend":
        net.load_state_dict(torch.load(file, weights_only=True))  # noqa: TID251
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    training = {"batch_size": BATCH, "learning_rate": rate}
    strategy = Tap(strategy, transcript, public=public(), model="quickstart", training=training)  # tap
    if mode != "train":
        strategy.deletion(records=1, rule="ascent" if mode == "ascend" else "retrain")  # tap
    rounds = 1 if mode == "ascend" else int(config["rounds"])
    told = ConfigRecord({"mode": mode, "rate": rate, "seeds": seeds})
    result = strategy.start(grid, ArrayRecord(net.state_dict()), rounds, train_config=told)
    if mode == "train":
        torch.save(result.arrays.to_torch_state_dict(), file)
