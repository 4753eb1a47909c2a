"""The full recipe in minutes, on a GPU with JAX and without TensorFlow.

`KERAS_BACKEND=jax python -m benchmarks.gpu_training FILE OUT --network paper --loss structure --seconds 480`: FILE is
what `python -m benchmarks.gpu_data` wrote; OUT gets `best.keras`, `run.json` and `log.jsonl` as of `kpn train`.
"""

import argparse
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

from baselines.benchmark.budget import PAPER_BATCH, PAPER_PATCH, PAPER_STEPS
from baselines.redcnn import REDCNN
from benchmarks.gpu_data import read_data
from kpn_tf import StructKPN
from kpn_tf.files import replacing, write_text
from kpn_tf.losses import StructureAwareLoss, absolute_error
from kpn_tf.training.config import TrainingConfig
from kpn_tf.training.optimizer import learning_rate_schedule, share_kept
from kpn_tf.training.pairs import Ahead, SimulatedPairs
from kpn_tf.training.provenance import identity, provenance
from kpn_tf.training.run_folder import score
from kpn_tf.training.validation import validation_scores

NETWORKS = {"paper": StructKPN, "redcnn": REDCNN}
LOSSES = {"structure": StructureAwareLoss(), "l1": absolute_error}

# Greatest rate of both networks in their papers.
LEARNING_RATE = 1e-4

CHECKPOINTS = 12

# Steps that compile and fill the queue, and steps that are measured; share of the time that is planned.
_FIRST, _MEASURED, _PLANNED = 4, 24, 0.95


class AveragingAdam(keras.optimizers.Adam):
    """The Adam of `make_optimizer`, which also keeps the averaged weights, as `kpn_tf.training.train` does itself."""

    def __init__(self, config, variables):
        super().__init__(learning_rate_schedule(config), global_clipnorm=config.clip_norm)
        self._config = config
        self.build(variables)
        self.average = [self.add_variable_from_reference(v, name="average") for v in variables]
        for average, variable in zip(self.average, variables, strict=True):
            average.assign(_copied(variable))

    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)
        keep = share_kept(self._config, self.iterations)
        for average, variable in zip(self.average, self._trainable_variables, strict=True):
            average.assign(keep * average + (1 - keep) * variable)


class _Part(keras.utils.PyDataset):
    """So many batches of `Ahead` from one on. Keras's own threads mix up the first ones: it looks at one beforehand."""

    def __init__(self, ahead, first, count):
        super().__init__()
        self._ahead, self._first, self._count = ahead, first, count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return self._ahead[self._first + index]


def train(network, pairs, config, loss, validation, out, *, ends=math.inf):
    """Trains a network by `model.fit`, with the steps, the checkpoints and the record of `kpn_tf.training.train`.

    Args:
        network: Keras model, slices in HU to slices in HU.
        pairs: `SimulatedPairs`.
        config: `TrainingConfig`.
        loss: Keras loss or function.
        validation: Validation pairs, with `low_hu` and `normal_hu`.
        out: New folder for `run.json`, `log.jsonl` and `best.keras`.
        ends: Time of `time.monotonic`: no checkpoint is begun that would come after it, if it took as long as the last.

    Raises:
        FileExistsError: If the folder holds a run.
        FloatingPointError: If the loss is not finite; what was best so far is in the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (out / "run.json").exists():
        raise FileExistsError(f"Expected a new folder. Received: {out}, which holds a run; choose another")
    began = time.monotonic()
    record = {**identity(network, config, loss, pairs), **provenance()}
    write_text(out / "run.json", json.dumps(record, indent=2) + "\n")
    optimizer = AveragingAdam(config, network.trainable_variables)
    network.compile(optimizer, loss)
    # Holds the averaged weights, and no optimizer that its file would carry along.
    averaged = type(network).from_config(network.get_config())
    ahead = Ahead(pairs)
    done, best, latest = 0, -math.inf, 0.0
    while done < config.steps and time.monotonic() + latest < ends:
        started = time.monotonic()
        count = min(config.validate_every, config.steps - done)
        (mean_loss,) = network.fit(_Part(ahead, done, count), shuffle=False, verbose=0).history["loss"]
        done += count
        if not math.isfinite(mean_loss):
            raise FloatingPointError(f"Expected a finite loss. Received: {mean_loss} up to step {done}")
        entry = {"step": done, "loss": mean_loss, "seconds": round(time.monotonic() - began, 1)}
        for average, variable in zip(optimizer.average, averaged.trainable_variables, strict=True):
            variable.assign(_copied(average))
        scores = validation_scores(averaged.predict_on_batch, validation)
        entry |= {f"validation_{name}": value for name, value in scores.items()}
        if score(entry) > best:
            best = score(entry)
            with replacing(out / "best.keras", suffix=".keras") as part:
                averaged.save(part)
        with open(out / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)
        latest = time.monotonic() - started


def steps_until(ends, network, pairs, loss, validation):
    """Steps of a training that ends at a time, its checkpoints included; the network is left as it was.

    Args:
        ends: Time of `time.monotonic`.
        network: Keras model, slices in HU to slices in HU.
        pairs: `SimulatedPairs`.
        loss: Keras loss or function.
        validation: Validation pairs.

    Returns:
        An integer, no greater than the steps of the pairs.
    """
    weights = [_copied(variable) for variable in network.variables]
    optimizer = AveragingAdam(TrainingConfig(pairs.steps), network.trainable_variables)
    network.compile(optimizer, loss)
    ahead = Ahead(pairs)

    def seconds(work):
        began = time.monotonic()
        work()
        return time.monotonic() - began

    def validate():
        validation_scores(network.predict_on_batch, validation)

    compiling = seconds(lambda: network.fit(_Part(ahead, 0, _FIRST), shuffle=False, verbose=0))
    compiling += seconds(validate)
    step = seconds(lambda: network.fit(_Part(ahead, 0, _MEASURED), shuffle=False, verbose=0)) / _MEASURED
    checkpoint = seconds(validate)
    for variable, value in zip(network.variables, weights, strict=True):
        variable.assign(value)
    left = _PLANNED * (ends - time.monotonic()) - compiling - CHECKPOINTS * checkpoint
    print(f"{step:.4f} s a step, {checkpoint:.1f} s a validation, {compiling:.0f} s to compile", flush=True)
    return max(1, min(pairs.steps, int(left / step)))


def _copied(variable):
    """What a variable holds now; a step of JAX writes its results where its arguments were."""
    return np.array(ops.convert_to_numpy(variable))


def main():
    """Reads the file, measures a step where no number of steps is given, and trains."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", choices=NETWORKS, default="paper")
    parser.add_argument("--loss", choices=LOSSES, default="structure")
    parser.add_argument(
        "--seconds", type=float, default=480, help="from the reading of the file to the last checkpoint"
    )
    parser.add_argument(
        "--steps", type=int, help="exactly; without it the recipe's, fewer if the time is short"
    )
    parser.add_argument("--batch", type=int, default=PAPER_BATCH)
    parser.add_argument("--patch", type=int, default=PAPER_PATCH)
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="mixed_bfloat16")
    options = parser.parse_args()
    ends = began + options.seconds
    slices, validation = read_data(options.file)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.precision)
    network, loss = NETWORKS[options.network](), LOSSES[options.loss]
    most = options.steps or PAPER_STEPS
    pairs = SimulatedPairs(slices, batch_size=options.batch, steps=most, patch=options.patch)
    steps = options.steps or steps_until(ends, network, pairs, loss, validation)
    config = TrainingConfig(steps, learning_rate=LEARNING_RATE, validate_every=math.ceil(steps / CHECKPOINTS))
    train(network, pairs, config, loss, validation, options.out, ends=ends)


if __name__ == "__main__":
    main()
