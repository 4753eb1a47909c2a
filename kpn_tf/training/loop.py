"""The custom training loop: what `model.fit` does, and what a long training needs besides."""

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kpn_tf.files import remove_parts, replacing, write_text
from kpn_tf.losses import StructureAwareLoss
from kpn_tf.training.config import TrainingConfig
from kpn_tf.training.optimizer import make_optimizer, share_kept
from kpn_tf.training.provenance import identity, provenance
from kpn_tf.training.run_folder import score
from kpn_tf.training.validation import validation_scores
from kpn_tf.training.workers import all_workers_needed, expect_no_statistics, from_chief, shares

# Between two states that a killed run can go on from, if no validation comes before.
SAVE_SECONDS = 300


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number; the batch that did it lies in the run folder."""


@all_workers_needed()
def train(
    network: Any,
    pairs: Any,
    config: TrainingConfig,
    *,
    loss: Any = None,
    validation: Sequence[Any] = (),
    run: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> list[float]:
    """Trains a network with `tf.GradientTape`; continues exactly where a killed run of the same folder stopped.

    With the same seed, data and optimizer the losses are those of `model.fit`. A network that was created in the scope
    of a `tf.distribute.Strategy` (see `strategy_for`) is trained on its devices: each takes an equal part of every
    batch, and the losses are those of one device up to rounding.

    Args:
        network: Keras model, slices in HU to slices in HU; trained in place. At the end it holds the
            averaged weights.
        pairs: `SimulatedPairs`, or anything whose item `i` is the batch `(low, normal)` of step `i`, or
            `(low, normal, weights)` with what each pixel counts, `(B, H, W, 1)`.
        config: `TrainingConfig`.
        loss: A Keras loss, or a function `(normal, denoised)` to the error of every pixel; `StructureAwareLoss()` if
            not given.
        validation: Pairs of validation patients (see `validation_scores`), or a function from the network to a dict of
            numbers; the averaged weights that do best (by `kpn_tf.training.run_folder.score`) are kept as
            `best.keras`.
        run: Folder for configuration, log, checkpoints and TensorBoard, or `None` for none. Pairs with a method
            `describe` (see `SimulatedPairs`) are described in it. Of several machines only the first reads and
            writes it, and validates.
        progress: Whether to show a progress bar on stderr.

    Returns:
        List of the losses of the steps taken now.

    Raises:
        TrainingDivergedError: If a loss is not finite; the batch is saved in the run folder.
        WorkerLostError: If another machine has gone; all of them can go on from the last checkpoint.
        ValueError: If the run folder holds a run of another configuration, network, loss or other pairs, another
            machine trains such a one, or the batch or network cannot be shared among devices.
    """
    loop = _Loop(network, config, loss or StructureAwareLoss(), Path(run) if run else None, pairs)
    losses = []
    bar = tqdm(
        total=config.steps,
        initial=loop.done,
        disable=not (progress and loop.is_chief),
        unit="step",
        smoothing=0.05,
    )
    with bar:
        while loop.done < config.steps:
            batch = pairs[loop.done]
            value = float(loop.step(*shares(loop.strategy, batch)))
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
    loop.wait_for_chief()
    return losses


class _Loop:
    """State of a run: weights, optimizer, average, step; and the folder that survives a kill."""

    def __init__(self, network, config, loss, run, pairs):
        expect_no_statistics(network)
        self.network, self.config, self.loss = network, config, loss
        self.strategy = network.distribute_strategy
        self.is_chief = self.strategy.extended.should_checkpoint
        self.run = run if self.is_chief else None
        self.done = 0
        self.best = -np.inf
        self.began = self.saved = time.monotonic()
        with self.strategy.scope():
            self.optimizer = make_optimizer(config)
            self.optimizer.build(network.trainable_variables)
        self.average = [tf.Variable(v.value, trainable=False) for v in network.trainable_variables]
        self.step = tf.function(self._step)
        self.board = None
        same = identity(network, config, loss, pairs)
        if self.run:
            self._open_run(same)
        self._follow_chief(same)

    def _step(self, *batch):
        parts = self.strategy.run(self._replica_step, batch)
        variables = self.network.trainable_variables
        keep = share_kept(self.config, self.optimizer.iterations.value)
        for average, variable in zip(self.average, variables, strict=True):
            average.assign(keep * average + (1 - keep) * variable.value)
        return self.strategy.reduce("SUM", parts, axis=None)

    def _replica_step(self, low, normal, *weights):
        """What one device does with its patches; returns its part of the loss: their sum is the mean of the batch."""
        with tf.GradientTape() as tape:
            denoised = self.network(low, training=True)
            if isinstance(self.loss, keras.losses.Loss):
                value = self.loss(normal, denoised, *weights)
            else:  # Those of Keras have taken the mean, and divided by the replicas.
                value = tf.reduce_mean(math.prod(weights, start=self.loss(normal, denoised)))
                value /= self.strategy.num_replicas_in_sync
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(value, variables), variables)
        return value

    def _state(self):
        return [
            *(v.value for v in self.network.variables),
            *(v.value for v in self.optimizer.variables),
            *self.average,
        ]

    def _open_run(self, same):
        self.run.mkdir(parents=True, exist_ok=True)
        remove_parts(self.run)
        stated = self.run / "run.json"
        if stated.exists():
            before = json.loads(stated.read_text(encoding="utf-8"))
            others = [name for name, value in same.items() if before.get(name) != value]
            if others:
                raise ValueError(
                    f"Expected {self.run} to hold a run of this configuration. Received: one of another "
                    f"{', '.join(others)}; choose a new folder or what its run.json says"
                )
        else:
            write_text(stated, json.dumps({**same, **provenance()}, indent=2) + "\n")
        if (self.run / "last.npz").exists():
            with np.load(self.run / "last.npz") as saved:
                self.done, self.best = int(saved["done"]), float(saved["best"])
                self.began -= float(saved.get("seconds", 0))
                for variable, name in zip(
                    self._state(), sorted(k for k in saved if k[0] == "v"), strict=True
                ):
                    variable.assign(saved[name])
        self.board = tf.summary.create_file_writer(str(self.run / "tensorboard"))

    def _follow_chief(self, same):
        """Starts where the first machine does, the only one that needs the run folder."""
        digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).digest()
        mine = tf.constant(int.from_bytes(digest[:7]), tf.int64)
        done, chiefs, *state = from_chief(
            self.strategy, [tf.constant(self.done, tf.int64), mine, *self._state()]
        )
        if int(chiefs) != int(mine):
            raise ValueError(
                "Expected the configuration, network, loss and pairs of the first worker. Received: others here; "
                "give every worker the same options and series"
            )
        self.done = int(done)
        for variable, value in zip(self._state(), state, strict=True):
            variable.assign(value)

    def wait_for_chief(self):
        """Returns when the first machine has saved the last checkpoint: then nobody is needed any more."""
        from_chief(self.strategy, [self.done])

    def use_average(self):
        """Gives the network the averaged weights."""
        for average, variable in zip(self.average, self.network.trainable_variables, strict=True):
            variable.assign(average)

    def checkpoint(self, losses, validation):
        """Validates the averaged weights, keeps them if they are the best so far, and saves the state."""
        if not self.is_chief:
            return
        entry = {"step": self.done, "loss": float(np.mean(losses))}
        entry["seconds"] = round(time.monotonic() - self.began, 1)
        current = [tf.identity(v.value) for v in self.network.trainable_variables]
        self.use_average()
        if callable(validation):
            entry.update(validation(self.network))
        elif validation:
            scores = validation_scores(self.network, validation)
            entry |= {f"validation_{name}": value for name, value in scores.items()}
        reached = score(entry)
        if self.run and reached > self.best:
            with replacing(self.run / "best.keras", suffix=".keras") as part:
                self.network.save(part)
        self.best = max(reached, self.best)
        for value, variable in zip(current, self.network.trainable_variables, strict=True):
            variable.assign(value)
        if self.run:
            with open(self.run / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
            self._show(entry)
        self.save()

    def save(self):
        """Saves what a killed run goes on from."""
        self.saved = time.monotonic()
        if self.run:
            state = {f"v{i:05d}": np.asarray(v) for i, v in enumerate(self._state())}
            told = {"done": self.done, "best": self.best, "seconds": self.saved - self.began}
            _write_arrays(self.run / "last.npz", **told, **state)

    def _show(self, entry):
        with self.board.as_default(step=self.done):
            for name, value in entry.items():
                tf.summary.scalar(name, value)
        self.board.flush()

    def describe_divergence(self, value, batch):
        sentence = f"Expected a finite loss. Received: {value} at step {self.done}"
        if not self.run:
            return sentence + "; give a run folder to have the batch saved"
        low, normal, *_ = batch
        stack, *distances = low if isinstance(low, tuple) else (low,)
        saved = {"low": stack, "normal": normal, **({"distances": distances[0]} if distances else {})}
        _write_arrays(self.run / "diverged.npz", **saved)
        return f"{sentence}; the batch is in {self.run / 'diverged.npz'}"


def _write_arrays(path, **arrays):
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **arrays)
