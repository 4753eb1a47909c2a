"""Slices of a report read back, one pixel at a time, as its page does."""

import base64
import zlib

import numpy as np


def decode(encoded, rows, columns):
    """`kpn_tf.report.codec.Encoded` to `(rows, columns)` in HU, NaN outside the field of view."""
    planes = zlib.decompress(base64.b64decode(encoded.text))
    codes = np.zeros((rows, columns), int)
    for y in range(rows):
        for x in range(columns):
            i = y * columns + x
            folded = planes[i] + 256 * planes[rows * columns + i]
            error = -(folded + 1) // 2 if folded % 2 else folded // 2
            left = codes[y, x - 1] if x else 0
            above = codes[y - 1, x] if y else 0
            corner = codes[y - 1, x - 1] if x and y else 0
            expected = sorted((left, above, left + above - corner))[1]
            codes[y, x] = (expected + error) % 2**16
    return np.where(codes > 0, encoded.origin_hu + codes * encoded.step_hu, np.nan)
