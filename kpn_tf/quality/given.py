"""Series that others made of the slices in hand, such as derived ones, in place of a denoiser."""

from kpn_tf.dicom import read_slice
from kpn_tf.dicom.reading.slice_header import read_header
from kpn_tf.dose.low_dose import inside_hu
from kpn_tf.evaluation.matching import same_corner, series_beside, series_name
from kpn_tf.evaluation.stream import found_series

_PLACE = ["ImagePositionPatient", "ImageOrientationPatient"]


class GivenSeries:
    """A callable that answers with the slice of another series at the place of the pair that passed last.

    Args:
        series: The `Series` in hand.
        other: The other.
        pairs: Slices of both at equal positions.
    """

    def __init__(self, series, other, pairs):
        self._series = series
        self._files = {series.slices.index(file): given for file, given in pairs}
        self._index = None
        self.name = series_name(other)

    def heard(self, pairs):
        """Yields `Pair`s, remembering the place of each."""
        for pair in pairs:
            self._index = pair.place.index
            yield pair

    def __call__(self, slice_hu):
        file = self._files.get(self._index)
        if file is None:
            raise ValueError("it has no slice there")
        ct = read_slice(file.path, file.frame)
        mine = read_header(self._series.slices[self._index], _PLACE)
        if not same_corner(mine, ct.dataset, self._series.pixel_spacing_mm):
            raise ValueError("its slice lies elsewhere in its plane, or is tilted")
        return inside_hu(ct)


def given_series(series, folders, note):
    """Finds what folders hold of the same slices.

    Args:
        series: The `Series` in hand.
        folders: CT files, or folders that are searched recursively.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        List of `GivenSeries`, in the order of the folders.

    Raises:
        ValueError: If a folder holds none.
    """
    given = {}
    for folder in folders:
        (matches,) = series_beside([series], found_series(folder, note))
        if not matches:
            raise ValueError(
                f"Expected a series of the patient, size, pixel spacing and positions of INPUT in {folder}. "
                "Received: none"
            )
        given |= {other.key: GivenSeries(series, other, pairs) for other, pairs in matches}
    return list(given.values())
