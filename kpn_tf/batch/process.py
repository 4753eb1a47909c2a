"""What a job does to series: the part that differs between removing noise and simulating a lower dose."""

import os
from dataclasses import dataclass
from typing import Protocol

from kpn_tf.dicom import DerivedBy, Series, SimulatedBy, derived_series_uid, derived_sop_instance_uid


class SeriesError(ValueError):
    """A whole series cannot be processed; one sentence that says why."""


class Process(Protocol):
    """What `kpn_tf.batch.derivation.derive` wants to know. `parts` are the `Series` of one key, which differ in
    geometry."""

    def refusal(self, parts):
        """Why a series that this package wrote is not taken, or `None` if it is."""

    def derived_by(self, parts):
        """Who makes the derived series: a `DerivedBy` or a `SimulatedBy`. Decided from the headers alone."""

    def for_series(self, parts):
        """Prepares for a series.

        Returns:
            Function from `(ct, series, slice_file)` to the new slice `(H, W)` in HU, which may raise
            `ValueError` for a slice that it cannot take.

        Raises:
            SeriesError: If none of the series can be processed.
        """


@dataclass(frozen=True)
class Task:
    """One series to derive.

    Args:
        parts: `Series` of one key: its parts of different geometry.
        derived_by: Who makes the derived series.
    """

    parts: tuple[Series, ...]
    derived_by: DerivedBy | SimulatedBy

    @property
    def uid(self):
        """SeriesInstanceUID of the derived series."""
        return derived_series_uid(self.parts[0].key, self.derived_by)

    @property
    def slices(self):
        """How many slices it has."""
        return slice_count(self.parts)

    def is_done(self, output):
        """Whether an output folder holds all of its slices; decided from the names of files."""
        try:
            there = set(os.listdir(output / self.uid))
        except OSError:
            return False
        uids = (one.sop_instance_uid for part in self.parts for one in part.slices)
        return all(f"{derived_sop_instance_uid(uid, self.derived_by)}.dcm" in there for uid in uids)


def slice_count(parts):
    """How many slices the parts of a series have together."""
    return sum(len(part.slices) for part in parts)
