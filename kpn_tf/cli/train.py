"""`kpn train`: a network from folders of normal-dose series."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kpn_tf.dicom import find_series, read_slice
from kpn_tf.evaluation import Pair
from kpn_tf.hounsfield import AIR_HU, UNIT_HU
from kpn_tf.losses import StructureAwareLoss
from kpn_tf.networks import StructKPN
from kpn_tf.networks.struct_kpn import PRESETS
from kpn_tf.normal_dose import SeriesNoise, noise_like, quiet_slabs, series_noise, simulate_low_dose
from kpn_tf.pairs import SimulatedPairs, training_slices
from kpn_tf.simulation import SPECTRA
from kpn_tf.training import TrainingConfig, train

# Noise of a usual normal dose in HU (3 mm slices, soft kernel): what a quiet validation series is brought to.
USUAL_NOISE_HU = 16.0


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What `kpn train` is told."""

    data: Path = field(metadata={"help": "folder with the normal-dose series of the training patients"})
    validation: Path = field(metadata={"help": "folder with those of the validation patients, who choose"})
    run: Path = field(
        metadata={"help": "folder for weights, log and checkpoints; an interrupted run goes on"}
    )
    preset: str = field(default="edge", metadata={"help": f"network: {' or '.join(PRESETS)} (default edge)"})
    steps: int = field(default=30000, metadata={"help": "optimizer steps (default 30000)"})
    batch: int = field(default=8, metadata={"help": "patches per step (default 8)"})
    patch: int = field(default=96, metadata={"help": "side of a patch in pixels (default 96)"})
    learning_rate: float = field(default=1e-3, metadata={"help": "rate of Adam at the start (default 0.001)"})
    loss: str = field(
        default="structure", metadata={"help": "structure (the structure-aware loss, default) or l1"}
    )
    precision: str = field(
        default="float32", metadata={"help": "of the trunk: float32 (default) or mixed_bfloat16"}
    )
    seed: int = field(default=0, metadata={"help": "seed of network, noise and patches (default 0)"})


def run(config):
    """Reads the series, makes the noise, trains, and leaves `best.keras` in the run folder."""
    losses = {"structure": StructureAwareLoss, "l1": _absolute_error}
    if config.loss not in losses:
        raise ValueError(f"Expected --loss structure or l1. Received: {config.loss}")
    rng = np.random.default_rng(config.seed)
    slices = []
    for name, volume_hu, spacing_mm, step_mm in volumes(config.data):
        try:
            slabs, noise = quiet_slabs(volume_hu, spacing_mm, step_mm)
        except ValueError as error:
            print(f"kpn train: {name} left out: {error}", file=sys.stderr)
            continue
        print(f"{name}: {len(volume_hu)} slices, {len(slabs)} targets with {noise.std_hu:.1f} HU of noise")
        # Quieter targets are better ones; a series must not outweigh another by its number of slices alone.
        weight = 1 / (noise.std_hu * np.sqrt(len(slabs)))
        slices += training_slices(slabs, spacing_mm, noise, rng, weight=weight, progress=_progress(name))
    validation = [pair for volume in volumes(config.validation) for pair in validation_pairs(volume, rng)]
    if not validation:
        raise ValueError(f"Expected series with flat soft tissue in {config.validation}. Received: none")
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    network = StructKPN(config.preset)
    pairs = SimulatedPairs(
        slices, batch_size=config.batch, steps=config.steps, patch=config.patch, seed=config.seed
    )
    plan = TrainingConfig(config.steps, learning_rate=config.learning_rate, seed=config.seed)
    train(network, pairs, plan, loss=losses[config.loss](), validation=validation, run=config.run)
    print(f"best network on the validation patients: {config.run / 'best.keras'}")
    return 0


def volumes(folder):
    """Series of a folder as volumes.

    Args:
        folder: Folder with CT series, searched recursively.

    Yields:
        `(name, volume_hu, pixel_spacing_mm, slice_step_mm)`; outside the field of view there is air. Refused
        files are named on stderr.
    """
    found, refusals = find_series(folder)
    for refusal in refusals:
        print(f"kpn train: {refusal.path}: {refusal.reason}", file=sys.stderr)
    for series in found:
        slices = []
        for file in series.slices:
            ct = read_slice(file.path)
            slices.append(np.where(ct.padding, AIR_HU, ct.slice_hu).astype("float32"))
        positions = [file.position_mm for file in series.slices]
        step_mm = float(np.median(np.diff(positions))) if len(positions) > 1 else np.inf
        name = f"series ...{series.uid[-12:]}"
        yield name, np.stack(slices), float(np.mean(series.pixel_spacing_mm)), step_mm


def validation_pairs(volume, rng, most=6):
    """Pairs of a validation series at two doses: its own, and the usual noise of a 3 mm soft-kernel series.

    Args:
        volume: One item of `volumes`.
        rng: `numpy.random.Generator`.
        most: Slices per dose.

    Returns:
        List of `Pair`.
    """
    name, volume_hu, spacing_mm, _ = volume
    noise = series_noise(volume_hu, spacing_mm)
    pairs = []
    for index in np.linspace(0, len(volume_hu) - 1, min(most, len(volume_hu)) + 2).astype(int)[1:-1]:
        normal = volume_hu[index]
        low = simulate_low_dose(normal, spacing_mm, dose=0.25, noise=noise, rng=rng)
        pairs.append(Pair(low, normal, name, f"{name} {index} own noise", (spacing_mm, spacing_mm)))
        if noise.std_hu < USUAL_NOISE_HU:
            missing = np.sqrt(USUAL_NOISE_HU**2 - noise.std_hu**2)
            normal = normal + noise_like(normal, spacing_mm, missing, SPECTRA["soft"], rng)
            usual = SeriesNoise(USUAL_NOISE_HU, SPECTRA["soft"])
            low = simulate_low_dose(normal, spacing_mm, dose=0.25, noise=usual, rng=rng)
            pairs.append(Pair(low, normal, name, f"{name} {index} usual noise", (spacing_mm, spacing_mm)))
    return pairs


def _progress(name):
    return lambda iterable: tqdm(iterable, desc=f"noise for {name}", unit="slice", leave=False)


def _absolute_error():
    return lambda normal_hu, denoised_hu: ops.mean(ops.abs(denoised_hu - normal_hu)) / UNIT_HU
