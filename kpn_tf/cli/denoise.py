"""`kpn denoise`: CT series in, derived CT series out."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf.cli.network_in_use import NetworkInUse


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiseConfig(NetworkInUse):
    """What `kpn denoise` is told."""

    input: Path = field(metadata={"help": "CT file, or folder that is searched recursively"})
    output: Path = field(metadata={"help": "folder for the derived series; nothing in it is overwritten"})
    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def run(config):
    """Denoises and returns the exit status."""
    # Only now: help, and a wrong call, wait for no network's runtime.
    from kpn_tf.cli.job_command import run_job
    from kpn_tf.denoiser import Denoiser
    from kpn_tf.job import console, denoise

    with console.hushed():
        denoiser = Denoiser(
            config.network, device=config.device, threads=config.threads, strength=config.strength
        )
    told = denoiser.device_note
    if told:
        console.say(f"kpn denoise: {told}", sys.stderr)
    about = {
        "network": denoiser.identity._asdict(),
        "strength": denoiser.strength,
        "threads": denoiser.threads,
    }

    def start(progress):
        report = denoise(config.input, config.output, denoiser, progress=progress)
        # Only now: a GPU that fails on the way is left for the CPU.
        about.update({name: getattr(denoiser, name) for name in ("device", "adapter", "device_note")})
        if denoiser.device_note != told:
            console.say(f"kpn denoise: {denoiser.device_note}", sys.stderr)
        return report

    return run_job("denoise", config, start, done="denoised", about=about)
