"""Which records are deleted: drawn from the clients' sizes alone, or spelled out by the scenario."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from palimpsest.simulator.scenario.errors import ScenarioError, closest, listed
from palimpsest.simulator.scenario.sections import DeletionConfig, RequestConfig
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.records import Array, DeletionRequest, Forget, Level
from palimpsest.simulator.world.seeding import generator


def draw_requests(
    deletion: DeletionConfig, population: AbstractPopulation, rounds: int, seed: int
) -> tuple[DeletionRequest, ...]:
    """Draw a scenario's requests.

    For records and clients a function of (deletion, sizes, seed): what a record contains never decides whether it is
    deleted. For classes the labels count, and nothing else does.

    Args:
        deletion: how many of what.
        population: the clients.
        rounds: of training; drawn requests arrive after the last.
        seed: of the scenario.

    Raises:
        ScenarioError: the population has not so much to delete, or not what is spelled out; or rounds that should be
            unseen would be seen.
    """
    if deletion.request:
        requests = tuple(_spelled_out(deletion, population, rounds, index) for index in range(len(deletion.request)))
        if (
            deletion.rounds_between
            and deletion.pattern == "independent"
            and len({request.round for request in requests}) > 1
        ):
            raise ScenarioError(
                f"deletion.rounds_between = {deletion.rounds_between} with requests at different rounds: the rounds "
                f"that nobody should see would be heard in another request's past; give all the same round, or take "
                f"pattern = 'sequential'"
            )
        return requests
    if deletion.level == "label":
        classes = enumerate(_labels(deletion, population, seed))
        return tuple(DeletionRequest(index, rounds, "label", forget, label) for index, (forget, label) in classes)
    draw = _clients if deletion.level == "client" else _records
    chosen = enumerate(draw(deletion, population.sizes, seed))
    return tuple(DeletionRequest(index, rounds, deletion.level, forget) for index, forget in chosen)


def _records(deletion: DeletionConfig, sizes: Array, seed: int) -> Iterator[Forget]:
    """Requests spread over the clients: each has its turn, in random order, as long as it has records left.

    No record is in two requests, and no client twice in one. Where groups use up nearly everything, another order of
    turns might have gone further.
    """
    wanted, group = deletion.records_per_request, deletion.group
    turns = deque(int(client) for client in generator(seed, "deletion").permutation(np.flatnonzero(sizes >= wanted)))
    used: dict[int, int] = {}
    for index in range(deletion.requests):
        if len(turns) < group:
            raise ScenarioError(
                f"deletion.requests = {deletion.requests}: after {index} requests no {group} clients with "
                f"{wanted} undeleted records are left among {len(sizes)} clients with {int(sizes.sum())} records; "
                f"ask for fewer requests, records_per_request or group"
            )
        members = [turns.popleft() for _ in range(group)]
        forget = {}
        for client in members:
            begin = used.get(client, 0)
            order = generator(seed, "deletion", client).permutation(int(sizes[client]))
            forget[client] = _ascending(order[begin : begin + wanted])
            used[client] = begin + wanted
            if used[client] + wanted <= sizes[client]:
                turns.append(client)
        yield _by_client(forget)


def _clients(deletion: DeletionConfig, sizes: Array, seed: int) -> Iterator[Forget]:
    """Whole clients, each at most once."""
    order = generator(seed, "deletion").permutation(np.flatnonzero(sizes > 0))
    needed = deletion.requests * deletion.group
    if needed > len(order):
        groups = f" of {deletion.group}" if deletion.group > 1 else ""
        raise ScenarioError(
            f"deletion.requests = {deletion.requests}{groups} at level 'client' needs {needed} clients, and "
            f"{len(order)} have records; ask for at most {len(order) // deletion.group}"
        )
    for begin in range(0, needed, deletion.group):
        members = order[begin : begin + deletion.group]
        yield _by_client({int(client): tuple(range(int(sizes[client]))) for client in members})


def _labels(deletion: DeletionConfig, population: AbstractPopulation, seed: int) -> Iterator[tuple[Forget, int]]:
    """Classes, each at most once: everywhere, or at one client that has it."""
    _refuse_regression(population)
    labels = population.labels()
    rng = generator(seed, "deletion")
    order = rng.permutation(np.unique(labels))
    if deletion.requests > len(order):
        raise ScenarioError(
            f"deletion.requests = {deletion.requests} at level 'label': the clients' records have {len(order)} "
            f"classes; ask for at most {len(order)}"
        )
    for label in order[: deletion.requests]:
        forget = _of_class(population, labels, int(label))
        if deletion.scope == "client":
            client = int(rng.choice(list(forget)))
            forget = {client: forget[client]}
        yield _share_of(forget, deletion.fraction, seed, int(label)), int(label)


def _share_of(forget: Forget, fraction: float, seed: int, label: int) -> Forget:
    """A random share of these records, at least one; a larger share contains a smaller one."""
    if fraction == 1.0:
        return forget
    pairs = [(client, record) for client, records in forget.items() for record in records]
    kept = generator(seed, "deletion-share", label).permutation(len(pairs))[: max(1, round(fraction * len(pairs)))]
    shared: dict[int, list[int]] = {}
    for client, record in (pairs[i] for i in np.sort(kept)):
        shared.setdefault(client, []).append(record)
    return {client: tuple(records) for client, records in shared.items()}


def _spelled_out(deletion: DeletionConfig, population: AbstractPopulation, rounds: int, index: int) -> DeletionRequest:
    request, path = deletion.request[index], f"deletion.request.{index}"
    level = request.level or deletion.level
    forget, label = _named(level, request, population, path)
    rejoin = request.rejoin or None
    return DeletionRequest(index, request.round or rounds, level, forget, label, rejoin)


def _named(
    level: Level, request: RequestConfig, population: AbstractPopulation, path: str
) -> tuple[Forget, int | None]:
    client = _number_of(request.client, population, path)
    if level == "label":
        return _class_named(request, client, population, path)
    assert client is not None  # DeletionConfig saw to it
    size = int(population.sizes[client])
    if level == "client":
        return {client: tuple(range(size))}, None
    beyond = [record for record in request.records if record >= size]
    if beyond:
        raise ScenarioError(
            f"{path}.records holds {listed(beyond)}: client {client} has {size} records, numbered 0 to {size - 1}"
        )
    return {client: tuple(sorted(request.records))}, None


def _number_of(client: int | str | None, population: AbstractPopulation, path: str) -> int | None:
    """The number of a client that is given by its number or its name."""
    names = population.schema.site_names
    if isinstance(client, str):
        if client not in names:
            there = f"the data name {listed(names[:10])}{', ...' if len(names) > 10 else ''}" if names else "none has"
            raise ScenarioError(
                f"{path}.client = {client!r}: there is no client of that name;{closest(client, names)} {there}"
            )
        return names.index(client)
    if client is not None and client >= population.clients:
        raise ScenarioError(
            f"{path}.client = {client}: there is no such client; ids go from 0 to {population.clients - 1}"
        )
    return client


def _class_named(
    request: RequestConfig, named: int | None, population: AbstractPopulation, path: str
) -> tuple[Forget, int]:
    _refuse_regression(population)
    assert request.label is not None  # DeletionConfig saw to it
    forget = _of_class(population, population.labels(), request.label)
    if named is not None:
        forget = {client: records for client, records in forget.items() if client == named}
    if not forget:
        whose = "the clients have" if named is None else f"client {request.client} has"
        classes = population.schema.outputs
        raise ScenarioError(
            f"{path}.label = {request.label}: {whose} no record of it; the data has classes 0 to {classes - 1}"
        )
    return forget, request.label


def _of_class(population: AbstractPopulation, labels: Array, label: int) -> Forget:
    """All records of a class, by client."""
    rows = np.flatnonzero(labels == label)
    ends = np.cumsum(population.sizes)
    owners = np.searchsorted(ends, rows, side="right")
    local = rows - (ends - population.sizes)[owners]
    return {int(client): _ascending(local[owners == client]) for client in np.unique(owners)}


def _refuse_regression(population: AbstractPopulation) -> None:
    if population.schema.task == "regression":
        raise ScenarioError(
            f"deletion.level = 'label': {population.schema.name} is a regression and has no classes; take record or "
            f"client"
        )


def _ascending(records: Array) -> tuple[int, ...]:
    return tuple(int(record) for record in np.sort(records))


def _by_client(forget: dict[int, tuple[int, ...]]) -> Forget:
    return {client: forget[client] for client in sorted(forget)}
