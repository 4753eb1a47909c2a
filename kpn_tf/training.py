"""The custom training loop: what `model.fit` does, and what a long training needs besides."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import kpn_tf
from kpn_tf.losses import StructureAwareLoss
from kpn_tf.metrics import psnr
from kpn_tf.run_folder import score

# Steps in which the learning rate rises from nothing, if a training is ten times as long: without them, one seed in
# a few saturates the shares of the filters for good.
WARMUP_STEPS = 500

# Between two states that a killed run can go on from, if no validation comes before.
SAVE_SECONDS = 300


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number; the batch that did it lies in the run folder."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Args:
        steps: Optimizer steps in all.
        learning_rate: Greatest rate of Adam, reached after a linear warm-up; a cosine takes it to zero.
        clip_norm: Greatest norm of the gradient over all weights.
        ema: Share of the old average that weight averaging keeps per step; 0 for none.
        validate_every: Steps from one validation to the next.
        seed: Seed that is written to the run folder; the pairs and the network's creation use it.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    ema: float = 0.999
    validate_every: int = 1000
    seed: int = 0

    def __post_init__(self):
        if (
            min(self.steps, self.learning_rate, self.clip_norm, self.validate_every) <= 0
            or not 0 <= self.ema < 1
        ):
            raise ValueError(
                f"Expected positive steps, rates and norms, and an ema in [0, 1). Received: {self}"
            )


def learning_rate_schedule(config):
    """A linear warm-up and a cosine.

    Args:
        config: `TrainingConfig`.

    Returns:
        A Keras schedule: steps taken to learning rate.
    """
    warmup = min(WARMUP_STEPS, config.steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        config.steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(config):
    """Adam with the schedule and clipping of a configuration, the same for `model.fit` and the loop.

    Args:
        config: `TrainingConfig`.

    Returns:
        A Keras optimizer.
    """
    return keras.optimizers.Adam(learning_rate_schedule(config), global_clipnorm=config.clip_norm)


def validation_psnr(network, pairs):
    """Mean PSNR over slices, convention `soft`: what chooses the best checkpoint.

    Args:
        network: Keras model, HU to HU.
        pairs: Sequence of objects with `low_hu` and `normal_hu`, slices `(H, W)` in HU of validation patients.

    Returns:
        PSNR in dB.
    """
    scores = []
    for pair in pairs:
        denoised = np.asarray(network(pair.low_hu[None, :, :, None], training=False))[0, :, :, 0]
        scores.append(psnr(pair.normal_hu, denoised, convention="soft"))
    return float(np.mean(scores))


def train(network, pairs, config, *, loss=None, validation=(), run=None, progress=True):
    """Trains a network with `tf.GradientTape`; continues exactly where a killed run of the same folder stopped.

    With the same seed, data and optimizer the losses are those of `model.fit`.

    Args:
        network: Keras model, slices in HU to slices in HU; trained in place. At the end it holds the
            averaged weights.
        pairs: `kpn_tf.pairs.SimulatedPairs`, or anything whose item `i` is the batch `(low, normal)` of step `i`.
        config: `TrainingConfig`.
        loss: A Keras loss; `StructureAwareLoss()` if not given.
        validation: Pairs of validation patients (see `validation_psnr`); the averaged weights that do best
            on them are kept as `best.keras`.
        run: Folder for configuration, log, checkpoints and TensorBoard, or `None` for none. Pairs with a method
            `describe` (see `kpn_tf.pairs.SimulatedPairs`) are described in it.
        progress: Whether to show a progress bar on stderr.

    Returns:
        List of the losses of the steps taken now.

    Raises:
        TrainingDivergedError: If a loss is not finite; the batch is saved in the run folder.
        ValueError: If the run folder holds a run of another configuration, network, loss or other pairs.
    """
    loop = _Loop(network, config, loss or StructureAwareLoss(), Path(run) if run else None, pairs)
    losses = []
    bar = tqdm(total=config.steps, initial=loop.done, disable=not progress, unit="step", smoothing=0.05)
    with bar:
        while loop.done < config.steps:
            batch = pairs[loop.done]
            value = float(loop.step(*map(tf.constant, batch)))
            if not np.isfinite(value):
                raise TrainingDivergedError(loop.describe_divergence(value, batch))
            losses.append(value)
            loop.done += 1
            bar.update()
            bar.set_postfix(loss=f"{value:.4f}", refresh=False)
            if loop.done % config.validate_every == 0 or loop.done == config.steps:
                loop.checkpoint(losses[-config.validate_every :], validation)
            elif time.monotonic() - loop.saved > SAVE_SECONDS:
                loop.save()
    loop.use_average()
    return losses


class _Loop:
    """State of a run: weights, optimizer, average, step; and the folder that survives a kill."""

    def __init__(self, network, config, loss, run, pairs):
        self.network, self.config, self.loss, self.run = network, config, loss, run
        self.done = 0
        self.best = -np.inf
        self.saved = time.monotonic()
        self.optimizer = make_optimizer(config)
        self.optimizer.build(network.trainable_variables)
        self.average = [tf.Variable(v.value, trainable=False) for v in network.trainable_variables]
        self.step = tf.function(self._step)
        self.board = None
        if run:
            self._open_run(pairs)

    def _step(self, low, normal):
        with tf.GradientTape() as tape:
            value = self.loss(normal, self.network(low, training=True))
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(value, variables), variables)
        taken = tf.cast(self.optimizer.iterations.value, tf.float32)
        # A young average forgets faster, or it would remember the initial weights.
        keep = tf.minimum(self.config.ema, taken / (taken + 10.0))
        for average, variable in zip(self.average, variables, strict=True):
            average.assign(keep * average + (1 - keep) * variable.value)
        return value

    def _state(self):
        return [
            *(v.value for v in self.network.variables),
            *(v.value for v in self.optimizer.variables),
            *self.average,
        ]

    def _open_run(self, pairs):
        self.run.mkdir(parents=True, exist_ok=True)
        # The name counts how many networks this process made: it says nothing of the network.
        network = {key: value for key, value in self.network.get_config().items() if key != "name"}
        # What must be the same for a run to go on exactly.
        same = {
            "config": asdict(self.config),
            "network": {"class": type(self.network).__name__, **network},
            "precision": keras.config.dtype_policy().name,
            "loss": _described_loss(self.loss),
            "pairs": pairs.describe() if hasattr(pairs, "describe") else None,
        }
        stated = self.run / "run.json"
        if stated.exists():
            before = json.loads(stated.read_text())
            others = [name for name, value in same.items() if before.get(name) != value]
            if others:
                raise ValueError(
                    f"Expected {self.run} to hold a run of this configuration. Received: one of another "
                    f"{', '.join(others)}; choose a new folder or what its run.json says"
                )
        else:
            partial = self.run / "run.partial.json"
            partial.write_text(json.dumps({**same, **_provenance()}, indent=2) + "\n")
            partial.replace(stated)
        if (self.run / "last.npz").exists():
            with np.load(self.run / "last.npz") as saved:
                self.done, self.best = int(saved["done"]), float(saved["best"])
                for variable, name in zip(
                    self._state(), sorted(k for k in saved if k[0] == "v"), strict=True
                ):
                    variable.assign(saved[name])
        self.board = tf.summary.create_file_writer(str(self.run / "tensorboard"))

    def use_average(self):
        """Gives the network the averaged weights."""
        for average, variable in zip(self.average, self.network.trainable_variables, strict=True):
            variable.assign(average)

    def checkpoint(self, losses, validation):
        """Validates the averaged weights, keeps them if they are the best so far, and saves the state."""
        entry = {"step": self.done, "loss": float(np.mean(losses))}
        current = [tf.identity(v.value) for v in self.network.trainable_variables]
        self.use_average()
        if validation:
            entry["validation_psnr_soft"] = validation_psnr(self.network, validation)
        reached = score(entry)
        if self.run and reached > self.best:
            self.network.save(self.run / "best.keras.partial.keras")
            (self.run / "best.keras.partial.keras").replace(self.run / "best.keras")
        self.best = max(reached, self.best)
        for value, variable in zip(current, self.network.trainable_variables, strict=True):
            variable.assign(value)
        if self.run:
            with open(self.run / "log.jsonl", "a") as log:
                log.write(json.dumps(entry) + "\n")
            self._show(entry)
        self.save()

    def save(self):
        """Saves what a killed run goes on from."""
        self.saved = time.monotonic()
        if self.run:
            state = {f"v{i:05d}": np.asarray(v) for i, v in enumerate(self._state())}
            partial = self.run / "last.partial.npz"
            np.savez(partial, done=self.done, best=self.best, **state)
            partial.replace(self.run / "last.npz")

    def _show(self, entry):
        with self.board.as_default(step=self.done):
            for name, value in entry.items():
                tf.summary.scalar(name, value)
        self.board.flush()

    def describe_divergence(self, value, batch):
        sentence = f"Expected a finite loss. Received: {value} at step {self.done}"
        if not self.run:
            return sentence + "; give a run folder to have the batch saved"
        np.savez(self.run / "diverged.npz", low=batch[0], normal=batch[1])
        return f"{sentence}; the batch is in {self.run / 'diverged.npz'}"


def _described_loss(loss):
    if isinstance(loss, keras.losses.Loss):
        return {"class": type(loss).__name__, **loss.get_config()}
    return getattr(loss, "__name__", type(loss).__name__)


def _git_revision():
    """Revision of the checkout this package runs from; `None` if it runs from none, or without git."""
    checkout = Path(kpn_tf.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None  # Installed: the repository around it, if any, is somebody else's.
    with contextlib.suppress(OSError):
        finished = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False
        )
        return finished.stdout.strip() or None
    return None


def _provenance():
    return {
        "git_revision": _git_revision(),
        "versions": {
            "kpn_tf": kpn_tf.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        # Folders may be named after patients.
        "command": [
            Path(sys.argv[0]).name,
            *("PATH" if os.sep in word or os.path.exists(word) else word for word in sys.argv[1:]),
        ],
    }
