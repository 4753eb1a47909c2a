"""`kpn denoise`: CT series in, derived CT series out."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf.cli import extras, kinds
from kpn_tf.cli.commands import complain_of_usage
from kpn_tf.cli.naming import Named
from kpn_tf.cli.strengths import Strengths, how_strong, wrong_strengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiseConfig(Strengths, Named):
    """Options of `kpn denoise`."""

    input: Path = field(metadata={"help": "CT file, or folder that is searched recursively"})
    output: Path = field(metadata={"help": "folder for the derived series; nothing in it is overwritten"})
    cluster: str | None = field(
        default=None,
        metadata={
            "help": "denoise on the Dask scheduler at tcp://HOST:PORT, or with a worker for each core (local); "
            "what the output holds already is skipped",
            "kind": kinds.scheduler,
        },
    )
    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def run(config):
    """Denoises and returns the exit status."""
    wrong = wrong_strengths(config)
    if wrong:
        return complain_of_usage("kpn denoise", wrong)
    if config.cluster:
        try:
            extras.require("kpn denoise --cluster", "cluster")
        except extras.MissingExtraError as error:
            return complain_of_usage(None, error)
        if config.device != "cpu":
            return complain_of_usage(
                "kpn denoise", f"Expected --device cpu with --cluster. Received: --device {config.device}"
            )
    from kpn_tf import console
    from kpn_tf.batch import denoise
    from kpn_tf.cli.batch_command import run_batch

    # On a cluster a core takes one series, not a part of a slice.
    denoiser = config.opened(threads=1 if config.cluster else None)
    strong = how_strong("denoise", config)
    told = denoiser.device_note
    if told:
        console.say(f"kpn denoise: {told}", sys.stderr)
    about = {
        "network": denoiser.identity._asdict(),
        "threads": denoiser.threads,
    }

    def tell(line):
        console.say(f"kpn denoise: {line}", sys.stderr)

    def start(progress):
        more = {**strong, "names": config.names, "progress": progress}
        if config.cluster:
            from kpn_tf.cluster import denoise_archive

            report = denoise_archive(config.input, config.output, denoiser, config.cluster, **more, tell=tell)
        else:
            report = denoise(config.input, config.output, denoiser, **more)
        # Only now: a GPU that fails on the way is left for the CPU.
        about.update({name: getattr(denoiser, name) for name in ("device", "adapter", "device_note")})
        if denoiser.device_note != told:
            tell(denoiser.device_note)
        return report

    return run_batch("denoise", config, start, done="denoised", about=about)
