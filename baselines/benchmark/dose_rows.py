"""The DOSE protocol in the benchmark: the noise that each method leaves in scans that have no counterpart."""

import functools
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from baselines.benchmark.data import folder_sha256
from baselines.benchmark.rows import FAILURES, INCOMPLETE
from baselines.benchmark.tables import LOW_DOSE, in_full
from kpn_tf.datasets import dose
from kpn_tf.datasets.dose_noise import NoiseRow, measure_noise
from kpn_tf.evaluation.table import finite


class DoseData:
    """Scans in two doses that are not aligned; they are read anew for every method.

    Args:
        folder: See `kpn_tf.datasets.dose`.
        every: Takes every n-th slice of a low-dose scan.
        twin: Whether it is the synthetic twin, which may be shown anywhere.
        note: Callback `(line, failure)` for skipped inputs.
    """

    def __init__(self, folder, *, every=1, twin=False, note):
        self.twin = twin
        self._folder, self._every, self._note = Path(folder), every, note
        self.failures = set()

    @functools.cached_property
    def test_key(self):
        """What decides the slices, for `json.dumps`; no slice is read for it."""
        return {"dose": folder_sha256(self._folder), "every": self._every}

    def stream(self):
        """A `kpn_tf.datasets.dose.UnpairedStream`; `failures` then holds the lines of what could not be read."""
        return self._opened(self._every)

    def middles(self):
        """The same of the middle slice of every low-dose scan alone."""
        return self._opened(sys.maxsize)

    def _opened(self, every):
        def counted(line, failure):
            self.failures.update([line] * bool(failure))
            self._note(line, failure)

        return dose(self._folder, every=every, note=counted)


class DoseRows:
    """Noise before and after the methods of the table in full that are finished.

    Args:
        benchmark: `baselines.benchmark.rows.Benchmark` that has run.
        data: `DoseData`.
    """

    def __init__(self, benchmark, data):
        self.benchmark, self.data = benchmark, data

    def run(self, note):
        """Measures what is not measured yet.

        Args:
            note: Callback `(line, failure)` for every method that could not be measured.
        """
        for method in in_full(self.benchmark.plan.tables):
            wanted = self.benchmark.plan.wants(method) and self.benchmark.row(method)
            if not (wanted or method == LOW_DOSE):
                continue
            try:
                row = self.row(method) or self._measured(method)
                if row and row["failures"]:
                    note(INCOMPLETE.format(row["failures"], row["data"]), True)
            except ImportError as error:
                note(f"{method.name} in scans that are not aligned: {error}", False)
            except FAILURES as error:
                note(f"{method.name} in scans that are not aligned: {error}", True)

    def row(self, method):
        """What is kept of a method, or `None`: `data`, `patients`, `failures` and `rows`, each a `NoiseRow`.

        The low dose has two rows, its own and that of the normal dose; every other method has one.
        """
        kept = self.benchmark.plan.runs.recall(*self._named(method))
        return kept and kept | {"rows": [_noise_row(row) for row in kept["rows"]]}

    def _measured(self, method):
        denoisers = {}
        if method != LOW_DOSE:
            opened = self.benchmark.opened(method)
            if not opened:
                return None
            denoisers = {method.name: opened[0]}
        stream = self.data.stream()
        table = measure_noise(denoisers, stream.unpaired, data_name=stream.data_name)
        rows = [row for row in table.rows if not denoisers or row.name in denoisers]
        result = {
            "data": table.data_name,
            "patients": table.patients,
            "failures": len(self.data.failures),
            "rows": [finite(asdict(row)) for row in rows],
        }
        self.benchmark.plan.runs.keep(*self._named(method), result)
        return self.row(method)

    def _named(self, method):
        name, key = self.benchmark.named(method, self.data)
        return f"dose-{name}", key


def _noise_row(kept):
    """A `NoiseRow` from JSON, which has null for NaN."""
    spectrum = tuple(np.array(kept["spectrum"], float).tolist())
    numbers = {name: np.nan if value is None else value for name, value in kept.items()}
    return NoiseRow(**numbers | {"spectrum": spectrum})
