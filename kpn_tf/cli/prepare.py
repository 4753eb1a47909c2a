"""`kpn prepare`: the slices of a training on disk, ready to draw from."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpn_tf import console
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import OK, complain_of_usage
from kpn_tf.training.data.folders import prepare


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Options of `kpn prepare`."""

    input: tuple[Path, ...] = field(
        metadata={
            "help": "CT file, or folder that is searched recursively; only one is looked through at a time"
        }
    )
    store: Path = field(metadata={"help": "folder for the store; one that was interrupted goes on"})
    seed: int = field(default=0, metadata={"help": "seed of the noise (default 0)", "kind": kinds.seed})


def run(config):
    """Prepares and returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        return complain_of_usage("kpn prepare", wrong)
    count = prepare(
        config.input,
        config.store,
        noise_generator(config.seed),
        note=left_out,
        tell=tell,
        progress=progress,
    )
    size = sum(path.stat().st_size for path in config.store.iterdir())
    tell(f"{count} slices, {size / 1e9:.2f} GB: {config.store}")
    return OK


def noise_generator(seed):
    """What `kpn train` and `kpn prepare` draw the noise of training slices from: the same for the same seed."""
    return np.random.default_rng(seed).spawn(2)[1]


def left_out(line, failure):
    """Says what was left out."""
    console.say(f"left out: {line}", sys.stderr)


def tell(line):
    """Says what was taken."""
    console.say(line, sys.stdout)


def progress(name):
    """A bar for the noise of a series."""
    return lambda slices: tqdm(slices, desc=f"noise for {name}", unit="slice", disable=None, leave=False)


def _wrong(config):
    """What is wrong with the call, or `None`."""
    store = config.store.resolve()
    for path in config.input:
        if not path.exists():
            return f"expected a CT file or a folder, received {path}, which does not exist"
        if store == path.resolve() or path.resolve() in store.parents:
            return f"expected a store outside of what it is made from, received {config.store} in {path}"
    if config.store.exists() and not config.store.is_dir():
        return f"expected a folder for the store, received {config.store}, which is a file"
    return None
