"""Networks for stacks by other losses and of other shapes, trained alike, as a table.

    python -m benchmarks.stack_search DATA VALIDATION RUNS

Each has the same patches of the same volumes, few steps, and is judged by what chooses weights in `kpn train`:
validation patients, and faint lesions in a torso. An interrupted search goes on where it stopped; the times of the
table are measured at the end, and say something only on a machine that does nothing else meanwhile.
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

# Read when TensorFlow is first imported; without it, it greets with lines about its devices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from baselines.benchmark.cost import timed
from benchmarks.latency import ARTEFACT, SIDE
from export import Release, to_tflite
from kpn_tf.losses import HuberError, StructureAwareLoss, absolute_error
from kpn_tf.networks import StackKPN
from kpn_tf.networks.cost import gmac
from kpn_tf.training import TrainingConfig, train
from kpn_tf.training.data.volume_folders import training_volumes
from kpn_tf.training.data.volume_validation import VolumeValidation, validation_stacks
from kpn_tf.training.pairs import Ahead
from kpn_tf.training.volume_pairs import VolumePairs

# As `kpn train --slices 5 --lesions 0.9 --steps 4000 --patch 72`.
STEPS, BATCH, PATCH, LESION_SHARE, SEED = 4000, 8, 72, 0.9, 0

LOSSES = {
    "huber": HuberError(),
    "l1": absolute_error,
    "published": StructureAwareLoss(absolute="window"),
    "structure": StructureAwareLoss(),
}


@dataclass(frozen=True)
class Candidate:
    """What is compared.

    Args:
        name: Of its run folder.
        words: In the table.
        shape: Arguments of `StackKPN` that are not its defaults.
        loss: One of `LOSSES`.
    """

    name: str
    words: str
    shape: dict = field(default_factory=dict)
    loss: str = "huber"


CANDIDATES = (
    Candidate("huber", "as shipped: five slices, Huber"),
    Candidate("l1", "L1", loss="l1"),
    Candidate("published", "L_S as published", loss="published"),
    Candidate("structure", "L_S of this project", loss="structure"),
    Candidate("three", "three slices", {"slices": 3}),
    Candidate("kernel13", "kernels of 13×13", {"kernel_size": 13}),
    Candidate("narrow", "32 features at a quarter of the resolution", {"wide_channels": 32}),
    Candidate("shallow", "one residual block", {"blocks": 1}),
    Candidate("deep", "six residual blocks", {"blocks": 6}),
)


def trained(candidate, volumes, data, runs):
    """The best weights of a candidate, and what they have on the validation data."""
    keras.utils.set_random_seed(SEED)
    network = StackKPN(**candidate.shape)
    pairs = VolumePairs(
        volumes,
        slices=network.slices,
        batch_size=BATCH,
        steps=STEPS,
        patch=PATCH,
        lesion_share=LESION_SHARE,
        seed=SEED,
    )
    stacks = validation_stacks(data, network.slices, SEED, note=_note)
    run = runs / candidate.name
    train(
        network,
        Ahead(pairs),
        TrainingConfig(STEPS, seed=SEED),
        loss=LOSSES[candidate.loss],
        validation=VolumeValidation(stacks, network.slices, SEED),
        run=run,
    )
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["validation_score"])
    return keras.saving.load_model(run / "best.keras", compile=False), best


def _note(line, _failure):
    print(f"left out: {line}", file=sys.stderr)


def main():
    """Trains what is not trained yet, and prints the table."""
    data, validation, runs = map(Path, sys.argv[1:])
    volumes = training_volumes(data, runs / "huber" / "volumes", SEED, note=_note)
    rows = [(candidate, *trained(candidate, volumes, validation, runs)) for candidate in CANDIDATES]
    print(
        "| network | GMAC | ms | PSNR, patient (dB) | contrast at half of the noise | d' |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        slice_path = Path(folder, "slice.npy")
        np.save(slice_path, np.random.default_rng(2).normal(40, 24, (1, SIDE, SIDE, 1)).astype("float32"))
        for candidate, network, best in rows:
            path = Path(folder, "network.tflite")
            to_tflite(network, path, Release("1", "search", "none"), precision="float32")
            seconds, _ = timed(ARTEFACT, "run_artefact", path, slice_path)
            print(
                f"| {candidate.words} | {gmac(network):.1f} | {1e3 * seconds:.0f} "
                f"| {best['validation_psnr_soft']:.2f} | {best['validation_contrast']:.0%} "
                f"| {best['validation_d_prime']:+.0%} |"
            )


if __name__ == "__main__":
    main()
