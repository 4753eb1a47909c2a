"""`kpn denoise --watch`: a folder whose series are denoised as they appear, until the command is told to stop."""

import dataclasses
from dataclasses import field
from pathlib import Path

from kpn_tf.cli import kinds
from kpn_tf.cli.commands import OK, complain_of_usage, named_in_the_call
from kpn_tf.cli.strengths import Strengths, how_strong, wrong_strengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig(Strengths):
    """Options of `kpn denoise --watch`."""

    input: Path = field(metadata={"help": "folder that series are put into; it is only read"})
    output: Path = field(
        metadata={"help": "folder that derived series appear in, atomically", "former": ("--output",)}
    )
    watch: bool = field(default=False, metadata={"help": "go on until told to stop: this form"})
    quiet: float = field(
        default=60.0,
        metadata={
            "help": "seconds without a new slice after which a series is complete (default 60)",
            "kind": kinds.positive,
        },
    )


def run(config):
    """Runs the command.

    Returns:
        Exit status.
    """
    from kpn_tf.denoiser.artefact import open_artefact
    from kpn_tf.node.rule import Rule
    from kpn_tf.node.settings import Limits, Own, Retention, Settings
    from kpn_tf.node.watch import watch

    wrong = wrong_strengths(config)
    if wrong:
        return complain_of_usage("kpn denoise", wrong)
    if not config.input.is_dir():
        return complain_of_usage(
            "kpn denoise", f"Expected a folder to watch. Received: {config.input}, which is not one"
        )
    with named_in_the_call():
        artefact = open_artefact(config.weights)
    # The network runs in a process of its own, which may be in another folder.
    weights = str(artefact.path.absolute()) if config.weights.endswith(".tflite") else config.weights
    own = Own(config.output, quiet_s=config.quiet, threads=config.threads, device=config.device)
    strong = how_strong("denoise", config)
    rule = Rule(
        "watch",
        (),
        weights=weights,
        strength=strong.get("strengths", 1.0),
        noise_hu=strong.get("noise_hu"),
    )
    # The copies are of use until a series is done; the day is for slices that come late.
    watch(
        config.input,
        Settings(own, peer=(), rule=(rule,), limits=Limits(keep_free_gb=0.5), retention=Retention(days=1.0)),
    )
    return OK
