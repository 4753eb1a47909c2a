"""The rows of the tables: what has no weights yet is trained, everything is evaluated, what is finished is found."""

import functools
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import kpn_tf
from baselines import shipped
from baselines.benchmark import cost, quality
from baselines.benchmark.budget import Budget
from baselines.benchmark.methods import denoiser, identity, shipped_training
from baselines.benchmark.runs import Runs
from baselines.benchmark.tables import LOW_DOSE, TABLES, Table, in_full, methods, seeds_of
from baselines.benchmark.trainings import Trainings
from kpn_tf.denoiser.artefact import open_artefact
from kpn_tf.denoiser.devices import cpu_name
from kpn_tf.evaluation import DenoiserError, evaluate
from kpn_tf.networks import load_saved
from kpn_tf.networks.cost import gmac
from kpn_tf.training import TrainingDivergedError

CONVENTION = "soft"

# Of what is known of a slice; all of it numbers and names.
_RECORDED = ("denoiser", "patient", "slice", f"psnr_{CONVENTION}_db", f"ssim_{CONVENTION}", "rmse_hu")

INCOMPLETE = (
    "{} files or slices of the {} could not be read: its rows are of the others; mend them and call again"
)

# What ends a row and leaves the others: TensorFlow's own errors are lack of memory, for one.
FAILURES = (
    DenoiserError,
    TrainingDivergedError,
    subprocess.CalledProcessError,
    tf.errors.OpError,
    MemoryError,
    ValueError,
)


@dataclass(frozen=True)
class Plan:
    """What is done with which budget.

    Args:
        budget: `Budget` of every network.
        runs: `Runs`.
        command: The command that makes every row of this plan; a row adds `--row` and its name.
        seeds: Trainings of each network of a table that asks for several.
        rows: Names of the methods to do now; empty for all.
        tables: `Table`s.
    """

    budget: Budget
    runs: Runs
    command: str
    seeds: int = 1
    rows: tuple[str, ...] = ()
    tables: tuple[Table, ...] = field(default=TABLES)

    def wants(self, method):
        """Whether a method is to be done now."""
        return not self.rows or method.name in self.rows


class Benchmark:
    """A plan on data.

    Args:
        plan: `Plan`.
        data: `SimulatedData` or `NihData` of `baselines.benchmark.data`.
        phantom: `PhantomData`.
    """

    def __init__(self, plan, data, phantom):
        self.plan, self.data, self.phantom = plan, data, phantom
        self._trainings = Trainings(plan, data)

    def run(self, note, tell):
        """Does what is not done yet.

        Args:
            note: Callback `(line, failure)` for every row that could not be done.
            tell: Called with a line for every method that is done.
        """
        for method in filter(self.plan.wants, methods(self.plan.tables)):
            if method.is_trained and not self.data.trains and not shipped.record(method.name):
                note(f"{method.name}: no training data given, and no weights come with the package", False)
                continue
            try:
                # One training of each network comes with the package.
                seeds = seeds_of(method, self.plan.tables, self.plan.seeds if self.data.trains else 1)
                done = [self._row(method, seed, self.data) for seed in seeds]
                for seed in seeds:
                    self._quality(method, seed)
                if method in in_full(self.plan.tables):
                    done.append(self._row(method, 0, self.phantom))
                    self._cost(method)
                for row in filter(lambda row: row["failures"], done):
                    note(INCOMPLETE.format(row["failures"], row["data"]), True)
                tell(f"{method.name}: done")
            except ImportError as error:
                note(f"{method.name}: {error}", False)
            except FAILURES as error:
                note(f"{method.name}: {error}", True)

    def row(self, method, seed=0):
        """The finished row of a method on the test data, or `None`: a dict as `_row` makes it."""
        return self.plan.runs.recall(*self.named(method, self.data, seed))

    def finished(self, method):
        """The rows of all its seeds that are finished."""
        seeds = seeds_of(method, self.plan.tables, self.plan.seeds)
        return [row for seed in seeds if (row := self.row(method, seed))]

    def shown(self):
        """The tables of which more than the low dose is finished; all of them if there are none."""

        def is_begun(table):
            return any(row.method != LOW_DOSE and self.finished(row.method) for row in table.rows)

        return tuple(filter(is_begun, self.plan.tables)) or self.plan.tables

    def quality(self, method):
        """What `_quality` kept of all its seeds that are finished."""
        seeds = seeds_of(method, self.plan.tables, self.plan.seeds)
        return [kept for seed in seeds if (kept := self.plan.runs.recall(*self._quality_named(method, seed)))]

    def curve(self, method):
        """The same on the phantom, or `None`."""
        return self.plan.runs.recall(*self.named(method, self.phantom))

    def cost(self, method):
        """Seconds, peak memory and processor of a method, or `None`."""
        return self.plan.runs.recall(*_cost_named(method))

    def opened(self, method, seed=0):
        """The denoiser of a method, and its network if it is trained here; `None` if its weights are elsewhere."""
        network = None
        if method.is_trained:
            found = self._trainings.found(method, seed)
            if found is None:
                return None
            network = load_saved(found[0])
        return denoiser(method, network), network

    def named(self, method, data, seed=0):
        """Name and key of what a method makes of data, for `Runs`."""
        key = {"kpn_tf": kpn_tf.__version__, "convention": CONVENTION, **data.test_key, **identity(method)}
        if not method.is_trained:
            return method.name, key
        return f"{method.name}-seed{seed}", key | self._trainings.decided_by(method, seed)

    def _row(self, method, seed, data):
        name, key = self.named(method, data, seed)
        row = self.plan.runs.recall(name, key)
        if row:
            return row
        network, training, size = None, None, (None, None)
        if method.is_trained:
            path, training = self._trainings.found(method, seed) or self._trainings.made(method, seed)
            network = load_saved(path)
            weights = network.trainable_variables
            size = sum(int(np.prod(weight.shape)) for weight in weights), gmac(network)
        if method.is_shipped:
            artefact = open_artefact(Path(method.kind).stem)
            training, size = shipped_training(method), (artefact.parameters, artefact.gmac_512)
        denoise = denoiser(method, network)
        pairs = tqdm(data.test, desc=name, unit="slice", disable=None, leave=False)
        results = evaluate(
            {} if denoise is None else {method.name: denoise}, pairs, (CONVENTION,), data_name=data.name
        )
        wanted = method.kind if denoise is None else method.name
        records = [
            {what: record[what] for what in _RECORDED}
            for record in results.slices
            if record["denoiser"] == wanted
        ]
        return self.plan.runs.keep(
            name,
            key,
            {
                "data": data.name,
                "remark": data.remark,
                "failures": data.failures,
                "convention": CONVENTION,
                "records": records,
                "training": training,
                "parameters": size[0],
                "gmac_512": size[1],
            },
        )

    @functools.cached_property
    def _references(self):
        return quality.references_of(self.data.test)

    @functools.cached_property
    def _normal_dose(self):
        return quality.of_normal_dose(self._references)

    def _quality_named(self, method, seed):
        name, key = self.named(method, self.data, seed)
        return f"quality-{name}", key | quality.measured_with()

    def _quality(self, method, seed):
        name, key = self._quality_named(method, seed)
        if self.plan.runs.recall(name, key):
            return
        denoise, _ = self.opened(method, seed)
        kept = {
            "slices": quality.of_slices(method.name, denoise, self._references),
            "normal": self._normal_dose,
            "torso": quality.of_torso(method.name, denoise),
        }
        self.plan.runs.keep(name, key, kept)

    def _cost(self, method):
        name, key = _cost_named(method)
        if method.kind == "low dose" or self.plan.runs.recall(name, key):
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "slice.npy"
            np.save(path, cost.noisy_slice().astype(np.float32))
            seconds, peak_mb = cost.seconds_and_peak(method, path)
        self.plan.runs.keep(
            name, key, {"seconds": seconds, "peak_mb": peak_mb, "processor": key["processor"]}
        )


def _cost_named(method):
    # The loss changes nothing of what a slice costs.
    key = {"kpn_tf": kpn_tf.__version__, "side": cost.SIDE, "processor": cpu_name(), **identity(method)}
    return f"cost-{method.kind.replace(' ', '-')}-{method.kernel_size}", key
