"""Slices as text inside a page: lossless, an eighth of what they take as numbers; `page/slices.js` reads them."""

import base64
import zlib
from typing import NamedTuple

import numpy as np

# Code of a pixel outside the field of view; HU begin at 1.
_OUTSIDE = 0
_LARGEST = 0xFFFF


class Encoded(NamedTuple):
    """A slice as text.

    Args:
        text: Base64 of the deflated codes.
        origin_hu: HU of code 0, if it stood for any.
        step_hu: HU from a code to the next.
    """

    text: str
    origin_hu: float
    step_hu: float


def encode(slice_hu, step_hu):
    """Encodes a slice whose HU lie a whole number of steps apart; what lies between is rounded.

    Each code is predicted from its neighbours to the left, above and between (the median predictor of JPEG-LS), the
    error folded to a whole number from 0 on, and low and high bytes deflated apart: noise fills the low ones alone.

    Args:
        slice_hu: `(H, W)` in HU, NaN outside the field of view.
        step_hu: HU between neighbouring values: 1, or the slope of the series.

    Returns:
        `Encoded`.

    Source: ISO/IEC 14495-1 (JPEG-LS), A.4.1 (prediction).
    """
    outside = np.isnan(slice_hu)
    origin_hu = 0.0 if outside.all() else float(np.nanmin(slice_hu) - step_hu)
    # Stored values have 16 bits: only such as span all of them, and no padding, would lose their last.
    codes = np.clip(np.rint((np.nan_to_num(slice_hu) - origin_hu) / step_hu), 1, _LARGEST).astype(np.int64)
    codes[outside] = _OUTSIDE
    around = np.pad(codes, ((1, 0), (1, 0)))
    left, above, corner = around[1:, :-1], around[:-1, 1:], around[:-1, :-1]
    expected = np.clip(left + above - corner, np.minimum(left, above), np.maximum(left, above))
    # Modulo 2^16, as which the reader adds it up again.
    error = (codes - expected + 0x8000) % 0x10000 - 0x8000
    folded = np.where(error >= 0, 2 * error, -2 * error - 1).astype("<u2")
    low_and_high = np.stack([folded & 0xFF, folded >> 8]).astype(np.uint8)
    squeezer = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    deflated = squeezer.compress(low_and_high.tobytes()) + squeezer.flush()
    return Encoded(base64.b64encode(deflated).decode("ascii"), origin_hu, float(step_hu))


def text_of(values):
    """Base64 of an array's numbers as they lie in memory, or of bytes."""
    content = values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()
    return base64.b64encode(content).decode("ascii")
