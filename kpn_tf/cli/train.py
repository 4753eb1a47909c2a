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
from kpn_tf.cli.about import PRESETS
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.prepare import left_out, noise_generator, progress, tell
from kpn_tf.training.data.store import spill

NETWORKS = (*PRESETS, "redcnn", "wavresnet")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What `kpn train` is told."""

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
        metadata={"help": f"network: {', '.join(NETWORKS)} (default edge)", "kind": kinds.one_of(*NETWORKS)},
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
    loss: str = field(
        default="structure",
        metadata={
            "help": "structure (the structure-aware loss, default) or l1",
            "kind": kinds.one_of("structure", "l1"),
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
    with spill(config.run) as folder:
        return _train(config, folder)


def _train(config, spilled):
    with console.hushed():
        import keras

        from kpn_tf.losses import StructureAwareLoss, absolute_error
        from kpn_tf.training import TrainingConfig, TrainingDivergedError, WorkerLostError, train
        from kpn_tf.training.data.folders import DOSE, training_folder, validation_folder
        from kpn_tf.training.pairs import Ahead, SimulatedPairs

    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    try:
        network = _network(config)
    except ValueError as error:
        console.say(f"kpn train: {error}", sys.stderr)
        return USAGE
    for_validation, _ = np.random.default_rng(config.seed).spawn(2)
    # Little work compared with the training series, and nothing goes without it: it comes first.
    validation = validation_folder(config.validation, for_validation, note=left_out)
    slices = training_folder(
        config.data,
        config.patch,
        noise_generator(config.seed),
        spill=spilled,
        note=left_out,
        tell=tell,
        progress=progress,
    )
    for folder, found in ((config.validation, validation), (config.data, slices)):
        if not len(found):
            console.say(f"kpn train: expected a normal-dose series in {folder}, found none", sys.stderr)
            return FAILED
    pairs = SimulatedPairs(
        slices,
        batch_size=config.batch,
        steps=config.steps,
        patch=config.patch,
        dose=DOSE,
        seed=config.seed,
    )
    plan = TrainingConfig(config.steps, learning_rate=config.learning_rate, seed=config.seed)
    loss = StructureAwareLoss() if config.loss == "structure" else absolute_error
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


def _network(config):
    """The untrained network, on the devices that will train it."""
    from baselines.redcnn import REDCNN
    from baselines.wavresnet import WavResNet
    from kpn_tf.networks import StructKPN
    from kpn_tf.training.workers import TF_CONFIG, expect_equal_parts, expect_no_statistics, strategy_for

    if config.workers == TF_CONFIG:
        tell("waiting until every worker of TF_CONFIG has started")
    with console.hushed(), _stoppable():
        strategy = strategy_for(config.workers)
    expect_equal_parts(strategy, config.batch)
    baselines = {"redcnn": REDCNN, "wavresnet": WavResNet}
    with console.hushed(), strategy.scope():
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
    for folder in (config.data, config.validation):
        if not os.path.exists(folder):
            return f"expected a CT file or a folder, received {folder}, which does not exist"
    if os.path.exists(config.run) and not os.path.isdir(config.run):
        return f"expected a folder for the run, received {config.run}, which is a file"
    return None
