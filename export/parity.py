"""Whether an artefact gives Keras's numbers, in HU."""

import numpy as np
from pydicom.data import get_testdata_file

from export.graphs import slices_of
from kpn_tf.dicom import read_slice
from kpn_tf.phantom import torso

# Greatest difference in HU that an artefact may have from Keras on any pixel, by the precision of its weights.
TOLERANCE_HU = {"float32": 0.05, "float16": 1.0}

# Standard deviation of the random slice.
_RANDOM_HU = 300.0

# Beyond what networks see, and within int16.
_METAL_HU, _PADDING_HU = 20000.0, -3024.0

# Width of the torso in mm.
_FIELD_MM = 384.0


class ParityError(ValueError):
    """An artefact that does not give Keras's numbers; one sentence that says by how much."""


def comparison_slices(side=None):
    """Slices to compare on.

    Args:
        side: Side of square slices in pixels; `None` gives three sizes, one a multiple of 8, two odd ones.

    Returns:
        Dict of float32 arrays `(H, W)` in HU: `"real"`, the CT slice that pydicom brings along, mirrored up to
        the size; `"anatomy"`, a digital torso with noise, metal and padding that nobody declared; `"random"`, noise
        about water, ten times that of a low-dose slice.
    """
    rng = np.random.default_rng(20)
    real_hu = read_slice(get_testdata_file("CT_small.dcm")).slice_hu  # (128, 128)
    (height, width) = (131, 167) if side is None else (side, side)
    body_hu = torso(height, width, slices=1, pixel_spacing_mm=_FIELD_MM / width).volume_hu[0]
    body_hu[height // 2 : height // 2 + 5, width // 2 : width // 2 + 3] = _METAL_HU
    body_hu[:7, :11] = _PADDING_HU
    spare = 0 if side is None else max(0, side - len(real_hu))
    return {
        "real": np.pad(real_hu, [(0, spare)] * 2, mode="symmetric")[:side, :side].astype("float32"),
        "anatomy": (body_hu + rng.normal(0, 30, body_hu.shape)).astype("float32"),
        "random": rng.normal(0, _RANDOM_HU, (92, 125) if side is None else (side, side)).astype("float32"),
    }


def inputs_like(slice_hu, slices):
    """What a network takes, made of one slice.

    Args:
        slice_hu: `(H, W)` in HU.
        slices: How many slices the network sees.

    Returns:
        List of float32 arrays: `(1, H, W, 1)`; or `(1, H, W, S)`, the slice moved along its rows for every neighbour,
        and `(1, S)` distances in mm, the first of them 0: a neighbour that is not there.
    """
    places = range(-(slices // 2), slices // 2 + 1)
    stack_hu = np.stack([np.roll(slice_hu, 3 * place, axis=1) for place in places], axis=-1)[None]
    distances_mm = np.float32([[1.5 * abs(place) for place in places]])
    distances_mm[:, 0] = 0
    return [stack_hu] if slices == 1 else [stack_hu, distances_mm]


def compare(run, network, tolerance_hu, *, slices=None, side=None, multiple=1):
    """Compares an artefact with the network it came from, on `comparison_slices`.

    Args:
        run: The artefact: function from a float32 array `(1, H, W, 1)` in HU, or `inputs_like`, to `(1, H, W, 1)`.
        network: Keras model, or a function of what one takes.
        tolerance_hu: Greatest difference allowed on any pixel.
        slices: How many slices it sees; as the Keras model says if `None`.
        side: Side of the slices the artefact takes; `None` if it takes any.
        multiple: What the sides it takes must divide by; slices are cut down to it.

    Returns:
        A list with a dict per slice: `slice`, `rows`, `columns`, `largest_hu`, `rms_hu`, `tolerance_hu`.

    Raises:
        ParityError: If a pixel of any slice is further off, or is NaN.
    """
    slices = slices_of(network) if slices is None else slices
    report = []
    for name, slice_hu in comparison_slices(side).items():
        rows, columns = (length // multiple * multiple for length in slice_hu.shape)
        inputs = inputs_like(slice_hu[:rows, :columns], slices)
        expected_hu = np.asarray(network(inputs if len(inputs) > 1 else inputs[0]))
        received_hu = np.asarray(run(*inputs))
        if received_hu.shape != expected_hu.shape:
            raise ParityError(
                f"Expected the artefact to return the shape {expected_hu.shape}. Received: {received_hu.shape}; "
                "not written"
            )
        difference_hu = np.abs(received_hu.astype("float64") - expected_hu)
        largest_hu = float(difference_hu.max())
        if not largest_hu < tolerance_hu:
            finer = ", use float32" if tolerance_hu == TOLERANCE_HU["float16"] else ""
            raise ParityError(
                f"Expected the artefact within {tolerance_hu} HU of Keras. "
                f"Received: {largest_hu:.3g} HU on the {name} slice; not written{finer}"
            )
        report.append(
            {
                "slice": name,
                "rows": rows,
                "columns": columns,
                "largest_hu": _short(largest_hu),
                "rms_hu": _short(np.sqrt((difference_hu**2).mean())),
                "tolerance_hu": tolerance_hu,
            }
        )
    return report


def _short(value):
    return float(f"{value:.2g}")
