"""MLflow's user interface on a store, on the loopback interface, for as long as the process that asked for it lives."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

from palimpsest.simulator.tracking.store import store_of

HOST = "127.0.0.1"
_GUARD = """
import os, signal, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
if os.fork() == 0:
    sys.stdin.buffer.read()  # ends when the process that holds the other end does, however it ends
    os.killpg(0, signal.SIGKILL)
sys.exit(server.wait())
"""
"""Runs the server in a process group of its own, and ends the group when its parent is gone."""
_STARTING = 120.0


class PortBusyError(ValueError):
    """Somebody listens there already."""


def check_port(port: int) -> None:
    """See that a port is free.

    Raises:
        PortBusyError: one sentence that names another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PortBusyError(
                f"port {port} of {HOST} cannot be listened on ({error.strerror}): end what uses it, or give another "
                f"with --port"
            ) from None


def page_of(uri: str, port: int) -> str:
    """Address of the runs of the experiment that was run last."""
    from mlflow import MlflowClient

    from palimpsest.simulator.tracking.page import newest_experiment, runs_page

    return runs_page(f"http://{HOST}:{port}", newest_experiment(MlflowClient(store_of(uri))))


def serve(uri: str, port: int, ready: Callable[[], None]) -> int:
    """Run MLflow's user interface until ``KeyboardInterrupt``, which signals of the command are; return its exit code.

    Args:
        uri: of the store; may be empty.
        port: that is free.
        ready: is called once, when it answers.
    """
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    # In the environment, since others can read commands; its job runners judge language models, and are noisy.
    settings = {"MLFLOW_BACKEND_STORE_URI": store_of(uri), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    settings["PYTHONWARNINGS"] = os.environ.get("PYTHONWARNINGS", "ignore")
    process = subprocess.Popen(
        [sys.executable, "-c", _GUARD, *command],
        stdin=subprocess.PIPE,
        env={**os.environ, **settings},
        start_new_session=True,
    )
    try:
        if _answers(port, process):
            ready()
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # it only reads
            process.wait()


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server answers; False where it ends instead."""
    deadline = time.monotonic() + _STARTING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return True
        except OSError:
            time.sleep(0.2)
    return False
