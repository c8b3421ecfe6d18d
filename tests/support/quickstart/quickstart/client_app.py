"""What a client does."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from quickstart.task import FORGOTTEN, Net, ascend, load_data, train

app = ClientApp()


@app.train()
def fit(message: Message, context: Context) -> Message:
    net, partition = Net(), int(context.node_config["partition-id"])
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = load_data(partition)
    config = message.content["config"]
    mode, rate, examples = str(config["mode"]), float(config["rate"]), len(x)
    leaving = partition == 0 and mode != "train"
    if mode == "ascend":
        if leaving:
            ascend(net, x, y, rate)
    else:
        draws = torch.Generator()
        if config["seeds"]:
            draws.manual_seed(1000 * int(config["server-round"]) + partition)
        else:
            draws.seed()
        order = torch.randperm(len(x), generator=draws)
        examples = train(net, x, y, rate, order, FORGOTTEN if leaving else None)
    content = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": examples})}
    return Message(content=RecordDict(content), reply_to=message)
