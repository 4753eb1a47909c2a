"""Patches that the input of a training gives a second, and that its step takes: `python -m benchmarks.training_rate`.

Also a part of `make bench`. What a training waits for its input must be a small share of its time, on a CPU that
does both as well as beside a GPU.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

# Read when TensorFlow is first imported; without it, it greets with lines about its devices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kpn_tf import StructKPN
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.phantom import torso
from kpn_tf.training import TrainingConfig, train
from kpn_tf.training.data.store import StoreWriter, open_store
from kpn_tf.training.pairs import Ahead, SimulatedPairs, TrainingSlice

SIDE, SLICES, PIXEL_MM = 512, 64, 0.75

# Those of `kpn train`.
PATCH, BATCH = 96, 8

# Of each series of steps, the first few compile.
STEPS, COMPILING = 24, 4


class _Timed:
    """Pairs that note when they are asked and when they have answered."""

    def __init__(self, pairs):
        self._pairs, self.asked, self.answered = pairs, [], []

    def __getitem__(self, index):
        self.asked.append(time.perf_counter())
        batch = self._pairs[index]
        self.answered.append(time.perf_counter())
        return batch


def slices():
    """Slices of the torso; their noise is white: it costs nothing here and its values cost nothing later."""
    rng = np.random.default_rng(12)
    for slice_hu in torso(SIDE, SIDE, SLICES, PIXEL_MM).volume_hu:
        noise = rng.standard_normal((3, SIDE, SIDE), "float32").astype("float16")
        yield TrainingSlice(slice_hu.astype("float32"), noise, 8.0)


def input_rate(pairs):
    """Patches a second of the input alone, in one thread: median over batches."""
    seconds = []
    for index in range(100):
        began = time.perf_counter()
        pairs[index]
        seconds.append(time.perf_counter() - began)
    return BATCH / statistics.median(seconds)


def trained(pairs):
    """Patches a second of `edge` in training, and the share of its time that it waits for them: medians over steps."""
    timed = _Timed(pairs)
    train(StructKPN("edge"), timed, TrainingConfig(STEPS), progress=False)
    step_seconds = np.diff(timed.asked)[COMPILING:]
    waited_seconds = np.subtract(timed.answered, timed.asked)[COMPILING:-1]
    return BATCH / np.median(step_seconds), np.median(waited_seconds / step_seconds)


def main():
    """Measures, and prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        with StoreWriter(store, "bench") as writer:
            writer.add(
                slices(),
                SLICES,
                identity="torso",
                patient="torso",
                pixel_mm=PIXEL_MM,
                spectrum=SPECTRA["soft"],
                shape=(SIDE, SIDE),
            )
            writer.finish()
        how = {"batch_size": BATCH, "steps": 100, "patch": PATCH}
        stored = SimulatedPairs(open_store(store), **how)
        memory = SimulatedPairs(list(slices()), **how)
        batch = memory[0]
        step_rate, _ = trained([batch] * STEPS)
        rows = [("training step of `edge` alone, its batch at hand", step_rate, None)]
        rows += [
            (f"input alone, one thread, from {name}", input_rate(pairs), None)
            for name, pairs in (("memory", memory), ("a store", stored))
        ]
        rows.append(("both, a store, each batch made when it is asked for", *trained(stored)))
        rows.append(("both, a store, each batch made during the step before", *trained(Ahead(stored))))
    print(
        f"| training, {BATCH} patches of {PATCH}x{PATCH} | patches a second | over the step alone | waits for input |\n"
        "|---|---:|---:|---:|"
    )
    for name, rate, waits in rows:
        waiting = "" if waits is None else f"{100 * waits:.1f} %"
        print(f"| {name} | {rate:,.0f} | {rate / step_rate:.2f} | {waiting} |")


if __name__ == "__main__":
    main()
