"""Options of every command that denoises with one network: which, and on what."""

import dataclasses
from dataclasses import field

from kpn_tf.cli import kinds
from kpn_tf.cli.commands import named_in_the_call
from kpn_tf.console import silenced
from kpn_tf.trained import DEFAULT_WEIGHTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkInUse:
    """Which weights, and on what."""

    weights: str = field(
        default=DEFAULT_WEIGHTS,
        metadata={
            "help": f"trained weights: {DEFAULT_WEIGHTS} (default), others that are shipped, or a .tflite",
            "former": ("--network",),
        },
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

    def opened(self, threads=None):
        """The `Denoiser`.

        Args:
            threads: Its threads where the call names none.

        Raises:
            WrongCallError: If there are no such weights, or they are no network that runs here.
        """
        # Only now: help, and other mistakes of a call, wait for no network's runtime.
        from kpn_tf.denoiser import Denoiser

        with named_in_the_call(), silenced():
            return Denoiser(self.weights, device=self.device, threads=self.threads or threads)
