"""What a job does to series: the part that differs between removing noise and simulating a lower dose."""

import os
from dataclasses import dataclass, replace
from typing import Protocol

from kpn_tf.dicom import (
    DerivedBy,
    Series,
    SimulatedBy,
    derived_series_uid,
    derived_sop_instance_uid,
    is_written,
)


class SeriesError(ValueError):
    """A whole series cannot be processed; one sentence that says why."""


class Process(Protocol):
    """What `kpn_tf.batch.derivation.derive` wants to know. `parts` are the `Series` of one key, which differ in
    geometry."""

    # Slices on each side that the function of `for_series` is handed besides the slice.
    slices_around: int = 0

    def refusal(self, parts):
        """Why a series that this package wrote is not taken, or `None` if it is."""

    def outside(self, parts):
        """What of a series that is taken the process was not made for: a tuple of short reasons."""

    def derived_by(self, parts):
        """Who makes the derived series: a tuple of a `DerivedBy` or `SimulatedBy` for each of them. Decided from the
        headers alone."""

    def for_series(self, parts, makers):
        """Prepares for a series.

        Args:
            parts: `Series` of one key.
            makers: Those of `derived_by` whose series are still to be made.

        Returns:
            `(makers, function)`: the makers with what was measured in the series, their UIDs as before; and a function
            from `(ct, series, slice_file)` to a list of the new slices `(H, W)` in HU, one for each of them, which may
            raise `ValueError` for a slice that it cannot take. With `slices_around` it gets a fourth argument: a dict
            of the `CTSlice`s around it in the same geometry, by their place counted from it; what could not be read is
            not in it.

        Raises:
            SeriesError: If none of the series can be processed.
        """


@dataclass(frozen=True)
class Task:
    """One series to derive.

    Args:
        parts: `Series` of one key: its parts of different geometry.
        derived_by: Who makes the derived series.
        kept: Names of the slices that the output folder holds already, where it holds a part of the series; else
            `None`.
        outside: What of the series the process was not made for.
    """

    parts: tuple[Series, ...]
    derived_by: DerivedBy | SimulatedBy
    outside: tuple[str, ...] = ()
    kept: frozenset[str] | None = None

    @property
    def uid(self):
        """SeriesInstanceUID of the derived series."""
        return derived_series_uid(self.parts[0].key, self.derived_by)

    @property
    def slices(self):
        """How many slices it has."""
        return slice_count(self.parts)

    def lacks(self, part, slice_file):
        """Whether a slice of a part is still to be made."""
        return not self.kept or self.name_of(part, slice_file) not in self.kept

    def name_of(self, part, slice_file):
        """Name of the file of a derived slice."""
        return f"{derived_sop_instance_uid(part.key, slice_file.sop_instance_uid, self.derived_by)}.dcm"

    def is_done(self, output):
        """Whether an output folder holds all of its slices; decided from the names of files."""
        return self._names() <= _listed(output / self.uid)

    def resumed(self, output):
        """The same task, to complete what an output folder holds of the series; each of these slices is read."""
        folder = output / self.uid
        if not folder.is_dir():
            return self
        there = self._names() & _listed(folder)
        return replace(self, kept=frozenset(name for name in there if is_written(folder / name, self.uid)))

    def _names(self):
        return {self.name_of(part, one) for part in self.parts for one in part.slices}


def _listed(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def left(tasks):
    """Pairs of a part and a slice of it that any of the tasks, all of one source, still has to make, in order."""
    return [
        (part, one)
        for part in tasks[0].parts
        for one in part.slices
        if any(task.lacks(part, one) for task in tasks)
    ]


def slice_count(parts):
    """How many slices the parts of a series have together."""
    return sum(len(part.slices) for part in parts)
