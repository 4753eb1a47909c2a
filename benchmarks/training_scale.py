"""What a step of training costs on one and two workers: `python -m benchmarks.training_scale [PRESET [BATCH]]`.

Two cores, idle; in a network of its own (`unshare --net bash -c 'ip link set lo up; python -m ...'`), or the bytes
are also those of others.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PATCH, STEPS, FIRST = 96, 34, 4  # The first steps trace the graph and fill caches.


class Timed:
    """Pairs that note the time at which each batch is asked for, in seconds, what it took to draw, and bytes sent."""

    def __init__(self, pairs):
        self.pairs, self.describe = pairs, pairs.describe
        self.asked, self.worked, self.drawn, self.sent = [], [], [], []

    def __getitem__(self, step):
        self.asked.append(time.perf_counter())
        self.worked.append(time.process_time())
        self.sent.append(bytes_sent())
        batch = self.pairs[step]
        self.drawn.append(time.perf_counter() - self.asked[-1])
        return batch


def bytes_sent():
    """What this machine has sent to itself."""
    return int((Path("/proc/net/dev").read_text().split("lo:")[1]).split()[8])


def worker(workers, cores, preset, batch):
    """Trains in this process on some cores, and prints what a step took."""
    os.sched_setaffinity(0, set(map(int, cores.split(","))))
    # Read when TensorFlow is imported, as many threads as cores.
    import keras
    import numpy as np

    from kpn_tf import StructKPN
    from kpn_tf.training import TrainingConfig, strategy_for, train
    from kpn_tf.training.pairs import SimulatedPairs, TrainingSlice

    strategy = strategy_for(int(workers) if workers.isdecimal() else workers)
    rng = np.random.default_rng(1)
    slice_hu, noise = np.zeros((512, 512), "float32"), rng.normal(size=(3, 512, 512)).astype("float16")
    pairs = Timed(
        SimulatedPairs(
            [TrainingSlice(slice_hu, noise, 10.0)], batch_size=int(batch), steps=STEPS, patch=PATCH
        )
    )
    keras.utils.set_random_seed(0)
    with strategy.scope():
        network = StructKPN(preset)
    train(network, pairs, TrainingConfig(steps=STEPS), progress=False)
    told = {
        # The fastest: what else the machine does makes others slower.
        "step_ms": 1e3 * np.diff(pairs.asked)[FIRST:].min(),
        "core_ms": 1e3 * statistics.median(np.diff(pairs.worked)[FIRST:]),
        "draw_ms": 1e3 * statistics.median(pairs.drawn[FIRST:]),
        "sent_mb": (pairs.sent[-1] - pairs.sent[FIRST]) / (STEPS - 1 - FIRST) / 1e6,
    }
    print(json.dumps(told))


def measure(workers, cores, preset, batch):
    """Starts a process for each entry of `cores`; returns what the first one says."""
    from tests.training_worker import ROOT, environments

    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_scale", "worker", workers, own, preset, batch],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for own, environment in zip(cores, environments(len(cores)), strict=True)
    ]
    told = [process.communicate()[0] for process in processes]
    return json.loads(told[0].splitlines()[-1])


def main(preset="edge", batch="8"):
    """Prints a row for every way to share a batch: ms of the fastest step; of a median one core-ms of the first
    process, ms to draw, MB sent by all.
    """
    for name, workers, cores in (
        ("one process, two cores", "1", ["0,1"]),
        ("`--workers 2`, two cores", "2", ["0,1"]),
        ("two processes that share two cores", "TF_CONFIG", ["0,1", "0,1"]),
        ("one process, one core", "1", ["0"]),
        ("two processes of one core each", "TF_CONFIG", ["0", "1"]),
    ):
        told = measure(workers, cores, preset, batch)
        print(
            f"| {name} | {told['step_ms']:.0f} | {told['core_ms']:.0f} | {told['draw_ms']:.1f} "
            f"| {told['sent_mb']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
