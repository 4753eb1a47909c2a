"""Slices as text inside a page: lossless, and near what their noise allows; `page/slices.js` reads them.

Noise cannot be compressed, but the slice after is made of the slice before, and both share noise with the normal dose.
So each code is predicted from codes that are known already: neighbours above and to the left, and all neighbours in
the images that come before it. The weights are fitted to each image, in whole numbers: all machines predict alike.
"""

import base64
import zlib
from dataclasses import dataclass, field

import numpy as np

# Code of a pixel outside the field of view; HU begin at 1.
_OUTSIDE = 0
_LARGEST = 0xFFFF

# (row, column) from a pixel to what predicts it: in its own image, and in the others.
OWN = ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1))
OTHERS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
_MARGIN = 2

# What the weights are whole multiples of one part of.
UNIT = 4096

# The fit sees one row in so many, and counts what is far off less: noise shall be predicted well, edges are few.
_EVERY, _ROUNDS, _FAR = 3, 4, 4.0

# The 85 letters of RFC 1924, without the one that could end the element that holds them.
_LETTER, _INSTEAD = b"<", b","


@dataclass(frozen=True)
class Encoded:
    """A slice as text.

    Args:
        text: Base 85 of the deflated errors of prediction.
        weights: Of the neighbours in `OWN` and of those in `OTHERS` for each image known before, in units of 1/4096.
        origin_hu: HU of code 0, if it stood for any.
        step_hu: HU from a code to the next.
        codes: `(H, W)` whole numbers, for what comes after.
    """

    text: str
    weights: list[int]
    origin_hu: float
    step_hu: float
    codes: np.ndarray = field(repr=False)


def encode(slice_hu, step_hu, known=()):
    """Encodes a slice whose HU lie a whole number of steps apart; what lies between is rounded.

    Args:
        slice_hu: `(H, W)` in HU, NaN outside the field of view.
        step_hu: HU between neighbouring values: 1, or the slope of the series.
        known: `Encoded` of images of the same place, as the reader will have read them.

    Returns:
        `Encoded`.
    """
    outside = np.isnan(slice_hu)
    origin_hu = 0.0 if outside.all() else float(np.nanmin(slice_hu) - step_hu)
    # Stored values have 16 bits: only such as span all of them, and no padding, would lose their last.
    codes = np.clip(np.rint((np.nan_to_num(slice_hu) - origin_hu) / step_hu), 1, _LARGEST).astype(np.int64)
    codes[outside] = _OUTSIDE
    neighbours = [_shifted(codes, *offset) for offset in OWN]
    neighbours += [_shifted(image.codes, *offset) for image in known for offset in OTHERS]
    weights = _fitted(codes, neighbours)
    total = sum(weight * neighbour for weight, neighbour in zip(weights, neighbours, strict=True))
    expected = np.clip((total + UNIT // 2) // UNIT, 0, _LARGEST)
    # Modulo 2^16, as which the reader adds it up again.
    error = (codes - expected + 0x8000) % 0x10000 - 0x8000
    folded = np.where(error >= 0, 2 * error, -2 * error - 1)
    # Low bytes, then high ones, which are almost all zero.
    planes = np.stack([folded & 0xFF, folded >> 8]).astype(np.uint8)
    squeezer = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    text = text_of(squeezer.compress(planes.tobytes()) + squeezer.flush())
    return Encoded(text, weights, origin_hu, float(step_hu), codes)


def text_of(values):
    """Base 85 of bytes, or of an array's numbers as they lie in memory."""
    content = values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()
    return base64.b85encode(content).replace(_LETTER, _INSTEAD).decode("ascii")


def _shifted(codes, row, column):
    """The code at an offset from every pixel, 0 beyond the border."""
    rows, columns = codes.shape
    padded = np.pad(codes, _MARGIN)
    return padded[_MARGIN + row : _MARGIN + row + rows, _MARGIN + column : _MARGIN + column + columns]


def _fitted(codes, neighbours):
    """Weights that predict most codes best, whole numbers: least squares, what was far off counting less each round."""
    wanted = codes[::_EVERY].ravel().astype(np.float64)
    given = np.stack([neighbour[::_EVERY].ravel() for neighbour in neighbours], axis=1).astype(np.float64)
    trust = np.ones(len(wanted))
    for _ in range(_ROUNDS):
        trusted = given * trust[:, None]
        # A trace on the diagonal: an image of one value has no one answer.
        square = trusted.T @ given + 1e-3 * np.eye(len(neighbours))
        weights = np.linalg.solve(square, trusted.T @ wanted)
        trust = 1 / (np.abs(wanted - given @ weights) + _FAR)
    return [int(weight) for weight in np.rint(UNIT * weights)]
