"""The trained networks of a benchmark: those that come with the package, those that are finished, and new ones."""

import contextlib
from dataclasses import asdict

import keras

from baselines import shipped
from baselines.benchmark.budget import share_of_papers
from baselines.benchmark.methods import LEARNING_RATES, loss_of, new_network
from kpn_tf.networks.cost import gmac
from kpn_tf.training import TrainingConfig, train
from kpn_tf.training.provenance import device_name
from kpn_tf.training.run_folder import read_log


class Trainings:
    """The trainings of a plan.

    Args:
        plan: `baselines.benchmark.rows.Plan`.
        data: `SimulatedData` or `NihData` of `baselines.benchmark.data`.
    """

    def __init__(self, plan, data):
        self._budget, self._runs, self._data = plan.budget, plan.runs, data

    def decided_by(self, method, seed):
        """What decides the weights of a method, for a key of `Runs`."""
        key = self._key(method, seed)
        if not self._data.trains and self._is_shipped(method, key):
            return {"file_sha256": shipped.file_sha256(method.name)}
        return key

    def found(self, method, seed):
        """Where the weights that did best are, and what they were trained with; `None` before the training."""
        key = self._key(method, seed)
        if self._is_shipped(method, key):
            return shipped.weights(method.name), shipped.record(method.name)["training"]
        training = self._runs.recall(f"training-{method.name}-seed{seed}", key)
        return training and (self._folder(method, seed) / "best.keras", training)

    def made(self, method, seed):
        """Trains, or goes on where it stopped; returns what `found` does."""
        folder = self._folder(method, seed)
        budget, rate = self._budget, self._learning_rate(method)
        keras.utils.set_random_seed(seed)
        with _precision(budget.precision):
            network = new_network(method)
            patch_gmac = gmac(network, budget.patch, budget.patch)
            steps = budget.steps_for(patch_gmac)
            batches = self._data.batches(budget, steps, seed)
            config = TrainingConfig(steps, learning_rate=rate, seed=seed)
            # One checkpoint leaves nothing to choose.
            validation = self._data.validation if steps > config.validate_every else ()
            train(network, batches, config, loss=loss_of(method), validation=validation, run=folder)
        told = batches.describe()
        training = {
            "steps": steps,
            "learning_rate": rate,
            "batch": budget.batch,
            "patch": budget.patch,
            "precision": budget.precision,
            "loss": method.loss,
            "gmac": patch_gmac * steps * budget.batch,
            "share_of_papers": share_of_papers(steps, budget.batch, budget.patch),
            "slices": told["slices"],
            "normal_sha256": told["normal_sha256"],
            "seconds": read_log(folder / "log.jsonl")[-1].get("seconds"),
            "device": device_name(),
        }
        key = self._key(method, seed)
        return folder / "best.keras", self._runs.keep(f"training-{method.name}-seed{seed}", key, training)

    def _is_shipped(self, method, key):
        """Whether the package has the weights of this training, or some and nothing to train others on."""
        record = shipped.record(method.name)
        return record is not None and (not self._data.trains or record["key"] == key)

    def _key(self, method, seed):
        budget = asdict(self._budget) | {"learning_rate": self._learning_rate(method)}
        return {"seed": seed, "budget": budget, **self._data.training_key}

    def _learning_rate(self, method):
        return self._budget.learning_rate or LEARNING_RATES[method.kind]

    def _folder(self, method, seed):
        return self._runs.training_folder(f"{method.name}-seed{seed}", self._key(method, seed))


@contextlib.contextmanager
def _precision(name):
    """Keras's global dtype policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
