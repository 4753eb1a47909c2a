"""`kpn train`: a network from folders of normal-dose series, or from a prepared store."""

import contextlib
import dataclasses
import os
import signal
import sys
from dataclasses import field
from pathlib import Path

import numpy as np

from kpn_tf import console
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.prepare import left_out, noise_generator, progress, tell
from kpn_tf.training.data.store import is_store, scratch

NETWORKS = ("edge", "paper", "redcnn", "wavresnet")

LESIONS = 0.7


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of `kpn train`."""

    data: Path = field(
        metadata={
            "help": "folder with the normal-dose series of the training patients, or a store of kpn prepare"
        }
    )
    validation: Path = field(metadata={"help": "folder with those of the validation patients, who choose"})
    run: Path = field(
        metadata={"help": "folder for weights, log and checkpoints; an interrupted run goes on"}
    )
    preset: str = field(
        default="edge",
        metadata={
            "help": f"network and its size: {', '.join(NETWORKS)} (default edge)",
            "kind": kinds.one_of(*NETWORKS),
        },
    )
    steps: int = field(
        default=30000, metadata={"help": "optimizer steps (default 30000)", "kind": kinds.count}
    )
    batch: int = field(default=8, metadata={"help": "patches per step (default 8)", "kind": kinds.count})
    patch: int = field(
        default=96,
        metadata={"help": "side of a patch in pixels, 21 or more (default 96)", "kind": kinds.patch},
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": "greatest rate of Adam (default 0.001)", "kind": kinds.positive}
    )
    slices: int = field(
        default=1,
        metadata={
            "help": "neighbouring slices that edge sees, the middle one denoised: 1 (default), 3 or 5",
            "kind": kinds.slices,
        },
    )
    lesions: float | None = field(
        default=None,
        metadata={
            "help": f"share of the patches of several slices that faint lesions are drawn into (default {LESIONS})",
            "kind": kinds.fraction,
        },
    )
    loss: str | None = field(
        default=None,
        metadata={
            "help": "structure (the structure-aware loss, default), published (the same as the paper has it, blind "
            "outside the window), l1, or huber (default with several slices)",
            "kind": kinds.one_of("structure", "published", "l1", "huber"),
        },
    )
    precision: str = field(
        default="float32",
        metadata={
            "help": "of the trunk: float32 (default) or mixed_bfloat16",
            "kind": kinds.one_of("float32", "mixed_bfloat16"),
        },
    )
    workers: int | str = field(
        default=1,
        metadata={
            "help": "devices of this machine that share each batch (default 1), or TF_CONFIG: all of the machines "
            "that this environment variable names",
            "kind": kinds.workers,
        },
    )
    seed: int = field(
        default=0, metadata={"help": "seed of network, noise and patches (default 0)", "kind": kinds.seed}
    )


def run(config):
    """Reads the series, makes the noise, trains, and leaves `best.keras` in the run folder."""
    wrong = _wrong(config)
    if wrong:
        console.say(f"kpn train: {wrong}", sys.stderr)
        return USAGE
    # Read when TensorFlow is first imported; without it, it greets with lines about its devices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with scratch(config.run) as folder:
        return _train(config, folder)


def _train(config, place):
    with console.silenced():
        import keras

        from kpn_tf.losses import HuberError, StructureAwareLoss, absolute_error
        from kpn_tf.training import TrainingConfig, TrainingDivergedError, WorkerLostError, train
        from kpn_tf.training.pairs import Ahead

    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    try:
        network = _network(config)
    except ValueError as error:
        console.say(f"kpn train: {error}", sys.stderr)
        return USAGE
    drawn = _of_slices(config, place) if config.slices == 1 else _of_stacks(config)
    if drawn is None:
        return FAILED
    pairs, validation = drawn
    plan = TrainingConfig(config.steps, learning_rate=config.learning_rate, seed=config.seed)
    losses = {
        "structure": StructureAwareLoss(),
        "published": StructureAwareLoss(absolute="window"),
        "l1": absolute_error,
        "huber": HuberError(),
    }
    loss = losses[config.loss or ("structure" if config.slices == 1 else "huber")]
    try:
        train(network, Ahead(pairs), plan, loss=loss, validation=validation, run=config.run)
    except (TrainingDivergedError, WorkerLostError) as error:
        console.say(f"kpn train: {error}", sys.stderr)
        return FAILED
    if network.distribute_strategy.extended.should_checkpoint:
        console.say(f"best network on the validation patients: {config.run / 'best.keras'}", sys.stdout)
    else:
        console.say("the first worker has the run", sys.stdout)
    return OK


def _of_slices(config, place):
    """Training pairs and validation pairs of single slices; `None`, after a sentence, if there are none."""
    from kpn_tf.training.data.folders import DOSE, training_folder, validation_folder
    from kpn_tf.training.pairs import SimulatedPairs

    for_validation, _ = np.random.default_rng(config.seed).spawn(2)
    # Little work compared with the training series, and nothing goes without it: it comes first.
    validation = validation_folder(config.validation, for_validation, note=left_out)
    slices = training_folder(
        config.data,
        config.patch,
        noise_generator(config.seed),
        scratch=place,
        note=left_out,
        tell=tell,
        progress=progress,
    )
    if _empty(config, validation, slices):
        return None
    pairs = SimulatedPairs(
        slices,
        batch_size=config.batch,
        steps=config.steps,
        patch=config.patch,
        dose=DOSE,
        seed=config.seed,
    )
    return pairs, validation


def _of_stacks(config):
    """The same of stacks: training pairs, and the function that validates."""
    from kpn_tf.training.data.folders import DOSE
    from kpn_tf.training.data.volume_folders import training_volumes
    from kpn_tf.training.data.volume_validation import VolumeValidation, validation_stacks
    from kpn_tf.training.volume_pairs import VolumePairs

    stacks = validation_stacks(config.validation, config.slices, config.seed, note=left_out)
    # Not a scratch folder: what an interrupted run has made, it finds again.
    volumes = training_volumes(
        config.data, config.run / "volumes", config.seed, note=left_out, tell=tell, progress=progress
    )
    if _empty(config, stacks, volumes):
        return None
    pairs = VolumePairs(
        volumes,
        slices=config.slices,
        batch_size=config.batch,
        steps=config.steps,
        patch=config.patch,
        dose=DOSE,
        lesion_share=LESIONS if config.lesions is None else config.lesions,
        seed=config.seed,
    )
    return pairs, VolumeValidation(stacks, config.slices, config.seed)


def _empty(config, validation, training):
    """Whether one of the two is empty, after a sentence that says so."""
    for folder, found in ((config.validation, validation), (config.data, training)):
        if not len(found):
            console.say(f"kpn train: expected a normal-dose series in {folder}, found none", sys.stderr)
            return True
    return False


def _network(config):
    """The untrained network, on the devices that will train it."""
    from baselines.redcnn import REDCNN
    from baselines.wavresnet import WavResNet
    from kpn_tf.networks import StackKPN, StructKPN
    from kpn_tf.training.workers import TF_CONFIG, expect_equal_parts, expect_no_statistics, strategy_for

    if config.workers == TF_CONFIG:
        tell("waiting until every worker of TF_CONFIG has started")
    with console.silenced(), _stoppable():
        strategy = strategy_for(config.workers)
    expect_equal_parts(strategy, config.batch)
    baselines = {"redcnn": REDCNN, "wavresnet": WavResNet}
    with console.silenced(), strategy.scope():
        if config.slices > 1:
            network = StackKPN(config.slices)
        else:
            network = baselines.get(config.preset, lambda: StructKPN(config.preset))()
    expect_no_statistics(network)
    return network


@contextlib.contextmanager
def _stoppable():
    """Lets signals end the process at once: Python sees none of them while TensorFlow waits for machines."""
    kept = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _wrong(config):
    """What is wrong with the call, or `None`."""
    if config.slices > 1 and config.preset != "edge":
        return f"--slices {config.slices} belongs to --preset edge, received {config.preset}"
    if config.slices == 1 and config.lesions is not None:
        return "--lesions belongs to --slices 3 or 5"
    for folder in (config.data, config.validation):
        if not os.path.exists(folder):
            return f"expected a CT file or a folder, received {folder}, which does not exist"
    if config.slices > 1 and is_store(config.data):
        return f"expected the folder of the series with --slices {config.slices}, received a store, {config.data}"
    if os.path.exists(config.run) and not os.path.isdir(config.run):
        return f"expected a folder for the run, received {config.run}, which is a file"
    return None
