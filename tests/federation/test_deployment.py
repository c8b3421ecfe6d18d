"""A Flower deployment on loopback: a SuperLink and two SuperNodes as processes, each with its own clients alone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.federation import FederationError
from palimpsest.simulator.federation.hosts import HostsError
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.planning.sites import split
from palimpsest.simulator.scenario.load import load_scenario
from palimpsest.simulator.world.data.build import DataConfig, build_population
from palimpsest.simulator.world.data.population import Population
from palimpsest.simulator.world.data.sites import open_site, site_of
from tests.federation.test_flower import PROJECT, _digests
from tests.support.superlink import wait_for

pytestmark = pytest.mark.slow

SCENARIO = """
name = "two-sites"
data = {source = "digits", clients = 9}
training = {rounds = 1, clients_per_round = 6}
deletion = {requests = 1}
unlearning = [{method = "retrain", coupling = "same-order"}]
attack = [{kind = "hrec"}]
runtime = {sites = 2, backend = "serial", block_size = 2}
"""
OPENSSL = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "two-sites.toml"
    file.write_text(SCENARIO)
    return file


def _in_process(scenario: Path, directory: Path, grid: SerialGrid, *changes: str) -> dict[str, str]:
    directory.mkdir()
    loaded = load_scenario(str(scenario), changes)
    return _digests(simulate(loaded, prepare(loaded), directory, grid))


class SitesGrid(SerialGrid):
    """The serial twin of a deployment: node i has the data of site i."""

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__(len(places))
        for context, place in zip(self._contexts.values(), places, strict=True):
            context.node_config["site-data"] = str(place)


def test_hosts_with_their_own_data_alone_give_the_digest_of_hosts_that_have_all(tmp_path: Path, scenario: Path) -> None:
    places = list(split(load_scenario(str(scenario)), tmp_path / "sites"))
    expected = _in_process(scenario, tmp_path / "all", SerialGrid(1))
    assert _in_process(scenario, tmp_path / "apart", SitesGrid(places)) == expected
    assert _in_process(scenario, tmp_path / "swapped", SitesGrid(places[::-1])) == expected


def test_a_site_holds_its_clients_records_and_nothing_else(tmp_path: Path, scenario: Path) -> None:
    places = list(split(load_scenario(str(scenario)), tmp_path / "sites"))
    whole = build_population(DataConfig(source="digits", clients=9), 0)
    assert isinstance(whole, Population)
    for site, place in enumerate(places):
        [name] = [path.name for path in place.iterdir() if path.is_dir()]
        held = open_site(place, name)
        own = np.flatnonzero(site_of(np.arange(9), 9, 2) == site)
        assert own.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8]][site]
        assert np.flatnonzero(held.sizes).tolist() == own.tolist()
        rows = np.concatenate([whole.rows(int(client)) for client in own])
        assert np.array_equal(held.train_x, whole.train_x[rows]) and np.array_equal(held.train_y, whole.train_y[rows])
        assert len(held.public_x) == len(held.test_x) == 0


def test_sites_that_do_not_make_up_the_federation_are_refused(
    tmp_path: Path, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palimpsest.simulator.federation.hosts.PATIENCE", 0.0)
    places = list(split(load_scenario(str(scenario)), tmp_path / "sites"))
    with pytest.raises(HostsError, match=r"sites \[1\] are not connected"):
        _in_process(scenario, tmp_path / "one", SitesGrid(places[:1]))
    with pytest.raises(HostsError, match=r"site 0 of 2, and the scenario has runtime.sites = 3"):
        _in_process(scenario, tmp_path / "three", SitesGrid(places), "runtime.sites=3")
    with pytest.raises(FederationError, match="split from another scenario"):
        _in_process(scenario, tmp_path / "seed", SitesGrid(places), "seeds=[1]")


@contextmanager
def _process(command: Sequence[str], home: Path, log: Path) -> Iterator[None]:
    """A process of Flower's with a home of its own, ended with all that it started."""
    home.mkdir()
    beside_python = str(Path(sys.executable).parent)
    environment = os.environ | {"FLWR_HOME": str(home), "PATH": f"{beside_python}:{os.environ['PATH']}"}
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=file, stderr=file, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def _free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in probes]


@pytest.mark.skipif(
    "PALIMPSEST_DEPLOYMENT" not in os.environ,
    reason="Flower starts a process a message: minutes; set PALIMPSEST_DEPLOYMENT=1 to run it",
)
def test_a_superlink_and_two_supernodes_under_tls_give_the_digest_of_the_simulation(
    tmp_path: Path, scenario: Path
) -> None:
    places = list(split(load_scenario(str(scenario)), tmp_path / "sites"))
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*OPENSSL.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    tls = ["--ssl-ca-certfile", certificate, "--ssl-certfile", certificate, "--ssl-keyfile", key]
    port, *own = _free_ports(3)
    link = ["flower-superlink", *tls, "--disable-runtime-dependency-installation", "--host", "127.0.0.1"]
    with ExitStack() as stack:
        stack.enter_context(_process([*link, "--port", port], tmp_path / "link", tmp_path / "link.log"))
        wait_for(port)
        for site, place in enumerate(places):
            node = ["flower-supernode", "--root-certificates", certificate, "--superlink", f"127.0.0.1:{port}", *tls]
            node += ["--host", "127.0.0.1", "--port", own[site], "--node-config", f'site-data="{place}"']
            stack.enter_context(_process(node, tmp_path / f"node-{site}", tmp_path / f"node-{site}.log"))
        results = _flwr_run(tmp_path, scenario, port, certificate)
    assert _digests(results) == _in_process(scenario, tmp_path / "serial", SerialGrid(1))


def _flwr_run(tmp_path: Path, scenario: Path, port: str, certificate: str) -> dict[str, list[dict[str, str]]]:
    """Submit the scenario, wait for its end, and return the results."""
    home, out, project = tmp_path / "cli", tmp_path / "through-flower", tmp_path / "project"
    home.mkdir()
    connection = f'address = "127.0.0.1:{port}"\nroot-certificates = "{certificate}"\n'
    (home / "config.toml").write_text(f'[superlink]\ndefault = "here"\n[superlink.here]\n{connection}')
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".git", "runs", "mlruns", "*.db", "tests", "docs"))
    settings = f"scenario='{scenario}' set='tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}' out='{out}'"
    command = [str(Path(sys.executable).parent / "flwr"), "run", str(project), "--run-config", settings, "--stream"]
    environment = os.environ | {"FLWR_HOME": str(home)}
    done = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 60
    while not (out / "tracking.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.5)
    found: dict[str, list[dict[str, str]]] = json.loads((out / "results.json").read_text())
    return found
