"""`kpn simulate`: CT series at a lower dose."""

import dataclasses
from dataclasses import field
from pathlib import Path

from kpn_tf.batch import simulate
from kpn_tf.cli import kinds
from kpn_tf.cli.batch_command import run_batch
from kpn_tf.cli.naming import Named


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulateConfig(Named):
    """Options of `kpn simulate`."""

    input: Path = field(metadata={"help": "CT file, or folder that is searched recursively"})
    output: Path = field(metadata={"help": "folder for the derived series; nothing in it is overwritten"})
    dose: float = field(
        default=0.25,
        metadata={"help": "fraction of the dose of the input (default 0.25)", "kind": kinds.dose},
    )
    seed: int = field(default=0, metadata={"help": "seed of the noise (default 0)", "kind": kinds.seed})
    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def run(config):
    """Simulates and returns the exit status."""

    def start(progress):
        return simulate(
            config.input,
            config.output,
            dose=config.dose,
            seed=config.seed,
            names=config.names,
            progress=progress,
        )

    about = {"dose": config.dose, "seed": config.seed}
    return run_batch("simulate", config, start, done="simulated", about=about)
