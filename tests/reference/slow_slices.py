"""Slices of a report read back, one pixel at a time, as its page does."""

import base64
import zlib

import numpy as np

from kpn_tf.report.codec import OTHERS, OWN, UNIT


def decode(encoded, rows, columns, known=()):
    """`kpn_tf.report.codec.Encoded`, and the codes of what is known, to codes and HU, NaN outside the field of view."""
    planes = zlib.decompress(base64.b85decode(encoded.text.replace(",", "<")))
    codes = np.zeros((rows, columns), int)

    def at(image, y, x):
        return int(image[y, x]) if 0 <= y < rows and 0 <= x < columns else 0

    for y in range(rows):
        for x in range(columns):
            i = y * columns + x
            folded = planes[i] + 256 * planes[rows * columns + i]
            error = -(folded + 1) // 2 if folded % 2 else folded // 2
            given = [at(codes, y + dy, x + dx) for dy, dx in OWN]
            given += [at(image, y + dy, x + dx) for image in known for dy, dx in OTHERS]
            total = sum(weight * value for weight, value in zip(encoded.weights, given, strict=True))
            expected = min(max((total + UNIT // 2) // UNIT, 0), 2**16 - 1)
            codes[y, x] = (expected + error) % 2**16
    return codes, np.where(codes > 0, encoded.origin_hu + codes * encoded.step_hu, np.nan)
