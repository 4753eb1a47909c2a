"""What a job does to series: the part that differs between removing noise and simulating a lower dose."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from kpn_tf.dicom import (
    DerivedBy,
    Series,
    SimulatedBy,
    derived_name,
    derived_series_uid,
    derived_sop_instance_uid,
    is_written,
    volume_suffix,
)

# What the folder of a derived series may be named after.
NAMES = ("uid", "description")

# Characters of a description, and of a UID's end that tells series of one description apart.
_LONGEST_DESCRIPTION, _UID_END = 60, 12


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
        names: One of `NAMES`.
        below: Folder below the output that a derived volume file goes into: that of its source below the input.
    """

    parts: tuple[Series, ...]
    derived_by: DerivedBy | SimulatedBy
    outside: tuple[str, ...] = ()
    kept: frozenset[str] | None = None
    names: str = "uid"
    below: str = ""

    @property
    def uid(self):
        """SeriesInstanceUID of the derived series."""
        return derived_series_uid(self.parts[0].key, self.derived_by)

    @property
    def volume(self):
        """The volume file that it is made of, and becomes; `None` of DICOM."""
        path = self.parts[0].slices[0].path
        return path if volume_suffix(path) else None

    @property
    def place(self):
        """Name of its folder in the output, or of its file where it becomes a volume file."""
        if self.volume:
            return str(Path(self.below, derived_name(self.volume, self.derived_by.name_word)))
        if self.names == "uid":
            return self.uid
        described = re.sub(r"[^\w.-]+", "_", self.parts[0].description)[:_LONGEST_DESCRIPTION].strip("._-")
        return "_".join([described or "CT", self.derived_by.name_word, self.uid[-_UID_END:]])

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
        if self.volume:
            return os.path.isfile(output / self.place)
        return self._names() <= _listed(output / self.place)

    def resumed(self, output):
        """The same task, to complete what an output folder holds of the series; each of these slices is read."""
        folder = output / self.place
        if self.volume or not folder.is_dir():
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
