"""Options of every command that denoises with one network: which, and on what."""

import dataclasses
from dataclasses import field

from kpn_tf.cli import kinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkInUse:
    """Which network, and on what."""

    network: str = field(
        default="edge", metadata={"help": "shipped network or exported .tflite (default edge)"}
    )
    device: str = field(
        default="cpu",
        metadata={
            "help": "cpu (default), gpu (where it proves right), auto (where it is faster as well)",
            "kind": kinds.one_of("cpu", "gpu", "auto"),
        },
    )
    threads: int | None = field(
        default=None,
        metadata={
            "help": "threads for the network (default: physical cores, at most 4)",
            "kind": kinds.count,
        },
    )
