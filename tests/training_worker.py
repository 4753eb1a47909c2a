"""One machine of a training, as a process: `python -m tests.training_worker FOLDER [STEP]`.

It trains as `undisturbed` does, keeps the run in `FOLDER/run`, and its losses and weights in `FOLDER/result.npz`.
With STEP it says `FOLDER/reached` before that step and waits there for whoever kills it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

from kpn_tf import StructKPN
from kpn_tf.training import TrainingConfig, strategy_for, train
from kpn_tf.training.pairs import SimulatedPairs, TrainingSlice
from tests.ports import free_port

ROOT = Path(__file__).parents[1]

# Every gradient of this training has a greater norm than 0.02: clipping it must see the whole batch.
CONFIG = TrainingConfig(steps=6, validate_every=3, ema=0.5, clip_norm=0.02)


def pairs():
    """Four patches per step, of which no two are alike."""
    rng = np.random.default_rng(1)
    body_hu = np.where(np.indices((64, 64)).sum(0) % 32 < 16, 60.0, 20.0).astype("float32")
    noise = rng.normal(size=(2, 64, 64)).astype("float16")
    return SimulatedPairs([TrainingSlice(body_hu, noise, 10.0)], batch_size=4, steps=6, patch=32, seed=5)


def undisturbed(batches, strategy, run=None):
    """Trains on the devices of a strategy; returns losses and weights."""
    keras.utils.set_random_seed(2)
    with strategy.scope():
        network = StructKPN("edge")
    losses = train(network, batches, CONFIG, run=run, progress=False)
    return losses, network.get_weights()


class Stopping:
    """Pairs that wait before a step, for ever."""

    def __init__(self, step, reached):
        self.step, self.reached, self.pairs = step, reached, pairs()
        self.describe = self.pairs.describe

    def __getitem__(self, step):
        if step == self.step:
            self.reached.touch()
            time.sleep(600)
        return self.pairs[step]


def start(folders, steps=()):
    """Starts a process for each folder, which know each other by TF_CONFIG; `steps` as STEP, where there are."""
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training_worker", folder, *map(str, steps[index : index + 1])],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, (folder, environment) in enumerate(zip(folders, environments(len(folders)), strict=True))
    ]


def environments(workers):
    """Environments of as many processes of this machine, with a TF_CONFIG that names all of them."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(workers)]}
    places = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(workers)]
    return [{**os.environ, "TF_CONFIG": json.dumps(place), "TF_CPP_MIN_LOG_LEVEL": "3"} for place in places]


def main(folder, step=None):
    folder = Path(folder)
    batches = Stopping(int(step), folder / "reached") if step else pairs()
    losses, weights = undisturbed(batches, strategy_for("TF_CONFIG"), folder / "run")
    np.savez(folder / "result.npz", *weights, losses=losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
