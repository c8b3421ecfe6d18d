"""Where a scenario runs, and where it is tracked."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from palimpsest.simulator.scenario.errors import OWN_WORDS
from palimpsest.simulator.scenario.sections import Count
from palimpsest.simulator.world.errors import holds_secret
from palimpsest.simulator.world.specs import Frozen, Precision

_LAST_PORT = 65535

Device = Literal["cpu", "cuda", "auto"]


class RuntimeConfig(Frozen):
    """Where it runs; none of it changes a bit of the outcome but ``block_size``, ``sites``, ``device`` and
    ``precision``.

    Attributes:
        hosts: ``auto``: one a core. Where a scenario has at least as many arms, each host of this machine does some by
            itself, side by side; with 1, arms come one after the other.
        block_size: clients that a host trains and adds up at once.
        sites: places that hold their own clients' records: blocks are cut within sites, and a host that says which
            site it is gets no others'; 0: any host serves any client.
        ray_address: host:port of a running Ray cluster; empty: a local one is started.
        backend: serial runs in this process, without Ray.
        device: of the hosts' computing. cuda: GPUs, which Ray's hosts share; auto: these where every host has one, else
            the CPU, and the run says which.
        precision: of what hosts compute in float32; server, scores and attacks are not touched. highest: float32
            throughout; medium: products and convolutions may be rounded inside, to TF32 on GPUs and to bfloat16 on CPUs
            with units for it; bfloat16: layers of networks whose gradients PyTorch takes (convnet, vit-tiny, resnet18,
            those of other packages) compute in it.
        compress_updates: whether histories of client updates (for federaser and others) lie on disk compressed, without
            loss: less disk for more processor time.
    """

    hosts: Count | Literal["auto"] = "auto"
    block_size: Count = 32
    sites: int = Field(default=0, ge=0)
    ray_address: str = ""
    backend: Literal["ray", "serial"] = "ray"
    device: Device = "cpu"
    precision: Precision = "highest"
    compress_updates: bool = False

    @field_validator("hosts", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> Any:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        raise ValueError("must be 'auto' or a whole number, at least 1")

    @field_validator("ray_address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if address and not (host and port.isdecimal() and 0 < int(port) <= _LAST_PORT):
            raise ValueError(
                "must be host:port, such as 10.0.0.5:6379, a port of at most 65535, or empty for a Ray of this machine "
                "alone"
            )
        return address


class TrackingConfig(Frozen):
    """Attributes of tracking.

    Attributes:
        uri: of the MLflow tracking server, without a password; empty: ``MLFLOW_TRACKING_URI``, else a local SQLite
            store, mlflow.db, in the working directory.
    """

    uri: str = ""

    @model_validator(mode="after")
    def _no_secret(self) -> "TrackingConfig":
        if holds_secret(self.uri):
            raise PydanticCustomError(OWN_WORDS, "{sentence}", {"sentence": _REFUSED})
        return self


_REFUSED = (
    "uri holds a password or a token, and scenarios are stored and uploaded: give a server's as "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), a database's address as "
    "MLFLOW_TRACKING_URI, and leave it out here"
)
