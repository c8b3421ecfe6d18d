"""The records of the clients behind one host; every read goes past the tombstones."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from palimpsest.clients.private import PrivateSlot
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.privacy.noise import noise_of
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import ModelSpec, Precision


class LocalData:
    """The records of one population's clients; whoever reads them asks the tombstones.

    Args:
        reader: of the clients' data.
        seed: the scenario's seed.
        arm: whose tombstones bind.
        tombstones: what the clients have deleted.
        device: where it trains and takes gradients; ridge statistics, in float64, are computed on the CPU.
        precision: of what is computed in float32.

    Attributes:
        reader, seed, device, precision: as given.
        population: what the reader reads.
    """

    def __init__(
        self, reader: Reader, seed: int, arm: str, tombstones: Tombstones, device: str, precision: Precision
    ) -> None:
        self.reader = reader
        self.population = reader.population
        self.seed = seed
        self.device = device
        self.precision = precision
        self._arm = arm
        self._tombstones = tombstones

    def model(self, spec: ModelSpec) -> Model:
        """An architecture where and as exactly as this host computes."""
        return model_of(spec, self.device, self.precision)

    def gather(self, blocks: Sequence[Block]) -> tuple[Tensor, Tensor, dict[int, int]]:
        """Tensors that hold the records of these blocks' clients, and by client where its first one is."""
        x, y, begins = self.population.gather([client for block in blocks for client in block.clients])
        return torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device), begins

    def private_slots(
        self, blocks: Sequence[Block], begins: Mapping[int, int], round: int, of: str
    ) -> list[PrivateSlot]:
        """A slot for each client of each block: its records, the deleted ones (or, ``forgotten``, all others) null."""
        slots = []
        for block in blocks:
            self.ask_tombstones(block, of)
            for client in block.clients:
                places = begins[client] + np.arange(self.population.sizes[client], dtype=np.int64)
                named = np.zeros(len(places), dtype=bool)
                named[list(block.forget.get(client, ()))] = True
                places[named if of == "retained" else ~named] = -1
                coins = None if block.coins is None else noise_of(self.seed, block.coins, client, round)
                slots.append(PrivateSlot(block.model, places, noise_of(self.seed, block.noise, client, round), coins))
        return slots

    def ask_tombstones(self, block: Block, of: str) -> None:
        """Refuse a read of deleted records; see ``Tombstones.check``."""
        self._tombstones.check(self._arm, block.branch, block.clients, block.forget, of)

    def kept_mask(self, block: Block) -> Array:
        """``[records of the block]`` whether each is retained, in the order of ``Reader.rows_of``."""
        self.ask_tombstones(block, "retained")
        mask = np.ones(int(self.population.sizes[list(block.clients)].sum()), dtype=bool)
        begin = 0
        for client in block.clients:
            mask[[begin + record for record in block.forget.get(client, ())]] = False
            begin += int(self.population.sizes[client])
        return mask

    def forgetful_mask(self, block: Block) -> Array:
        """``[records of the block]`` whether each is of a client that forgets something."""
        forgets = [bool(block.forget.get(client)) for client in block.clients]
        return np.repeat(forgets, self.population.sizes[list(block.clients)])

    def forgotten_rows(self, block: Block) -> Array:
        """Rows of exactly the records that a block forgets."""
        self.ask_tombstones(block, "forgotten")
        return np.concatenate([self.population.rows(client, block.forget[client]) for client in block.clients])
