"""A SuperLink in simulation mode on this machine, for ``flwr run``."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def superlink(place: Path, extra: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start one on a free port of the loopback; yield the environment in which ``flwr run`` finds it.

    Args:
        place: an empty directory.
        extra: more of the environment, for the SuperLink and the apps too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    home = place / "flwr"
    home.mkdir()
    address = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(address)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "FLWR_HOME": str(home), "PATH": path, **extra}
    command = ["flower-superlink", "--insecure", "--simulation", "--disable-runtime-dependency-installation"]
    with (place / "superlink.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port],
            env=environment,
            cwd=place,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for(port)
            yield environment
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def wait_for(port: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"no SuperLink on port {port}")
