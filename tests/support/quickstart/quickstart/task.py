"""The network, the data and the two loops."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from palimpsest.simulator.world.models.card import ModelCard

CLIENTS = 4
FORGOTTEN = 7
"""Position of the record that client 0 asks to delete."""
BATCH = 512


class Net(nn.Module):
    """One hidden layer."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


MODEL = ModelCard(lambda schema, options: Net(), "the quickstart's network", first="fc1")
"""What the entry point ``palimpsest.models`` names."""


def images():
    digits = load_digits()
    return (digits.images / 16.0).astype(np.float32)[:, None], digits.target.astype(np.int64)


def public():
    """Records that everybody may have."""
    x, y = images()
    return {"x": x[900:], "y": y[900:]}


def load_data(partition):
    """A quarter of the first 900 records."""
    x, y = images()
    mine = slice(partition * 225, (partition + 1) * 225)
    return torch.from_numpy(x[mine]), torch.from_numpy(y[mine])


def train(net, x, y, rate, order, without=None):
    """One epoch of plain SGD; a deleted record is left out of its batch, and the order stays what it was."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    for batch in order.split(BATCH):
        kept = batch if without is None else batch[batch != without]
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[kept]), y[kept]).backward()
        optimiser.step()
    return len(x) - (without is not None)


def ascend(net, x, y, rate):
    """One step up the loss of the record that is to be forgotten."""
    loss = nn.functional.cross_entropy(net(x[FORGOTTEN, None]), y[FORGOTTEN, None])
    slopes = torch.autograd.grad(loss, list(net.parameters()))
    with torch.no_grad():
        for value, slope in zip(net.parameters(), slopes, strict=True):
            value += rate * slope
