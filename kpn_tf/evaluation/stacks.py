"""Slices of a series with their neighbours, each read or made once."""

from kpn_tf.dicom import DicomError
from kpn_tf.dose.low_dose import LowDoseError
from kpn_tf.neighbours import Neighbour


class Stacks:
    """Slices of a series with their neighbours; as many are kept as a stack has, so that each is made once.

    Args:
        series: `Series`.
        slices: Slices of a stack, odd.
        made: Function from a `SliceFile` to `(slice_hu, ct)`; may raise `DicomError` or `LowDoseError`.
    """

    def __init__(self, series, slices, made):
        self._series = series
        self._slices = slices
        self._make = made
        self._kept = {}

    def at(self, index):
        """What `made` makes of a slice."""
        if index not in self._kept:
            self._kept[index] = self._make(self._series.slices[index])
            if len(self._kept) > self._slices:
                self._kept.pop(next(iter(self._kept)))
        return self._kept[index]

    def neighbours(self, index):
        """`Neighbour`s of a slice, `None` for one that is not there or cannot be made: it is named in its turn."""
        return tuple(
            self._neighbour(*place) if place else None
            for place in self._series.neighbours(index, self._slices)
        )

    def _neighbour(self, index, distance_mm):
        try:
            return Neighbour(self.at(index)[0], distance_mm)
        except (DicomError, LowDoseError):
            return None
