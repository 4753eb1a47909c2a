"""Slices as text inside a page: lossless, and near what their noise allows; `page/slices.js` reads them.

Noise cannot be compressed, but the slice after is made of the slice before, and both share noise with the normal dose.
So each code is predicted from codes that are known already: neighbours above and to the left, and all neighbours in
the images that come before it. The weights are fitted to each image, in whole numbers: all machines predict alike.
"""

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

# The fit sees rows of about so many pixels in all, and counts what is far off less: noise shall be predicted well,
# edges are few.
_PIXELS, _ROUNDS, _FAR = 2**13, 4, 4.0
# Matrices of so few pixels are multiplied on one thread: more would take the cores from the network.
_BLOCK = 256

# The 85 letters of RFC 1924, without the one that could end the element that holds them.
_LETTERS = np.frombuffer(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~", np.uint8
)


@dataclass(frozen=True)
class Encoded:
    """A slice as text.

    Args:
        text: Base 85 of the deflated errors of prediction.
        weights: Of the neighbours in `OWN` and of those in `OTHERS` for each image known before, in units of 1/4096.
        origin_hu: HU of code 0, if it stood for any.
        step_hu: HU from a code to the next.
        padded: `(H + 4, W + 4)` whole numbers with a margin of zeros, for what comes after.
    """

    text: str
    weights: list[int]
    origin_hu: float
    step_hu: float
    padded: np.ndarray = field(repr=False)


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
    codes = np.clip(np.rint((np.nan_to_num(slice_hu) - origin_hu) / step_hu), 1, _LARGEST).astype(np.int32)
    codes[outside] = _OUTSIDE
    padded = np.pad(codes, _MARGIN)
    neighbours = [_shifted(padded, *offset) for offset in OWN]
    neighbours += [_shifted(image.padded, *offset) for image in known for offset in OTHERS]
    weights = _fitted(codes, neighbours)
    # Errors modulo 2^16, as which the reader adds them up again, and small ones first: 0, -1, 1, -2, 2 ...
    errors = (codes - _expected(neighbours, weights)).astype(np.int16)
    folded = ((errors << 1) ^ (errors >> 15)).astype("<u2")
    # Low bytes, then high ones, which are almost all zero.
    planes = folded.ravel().view(np.uint8).reshape(-1, 2).T
    # Of noise, runs are all that repeats: to look for more takes eight times as long and finds less.
    squeezer = zlib.compressobj(9, strategy=zlib.Z_RLE)
    text = text_of(squeezer.compress(planes.tobytes()) + squeezer.flush())
    return Encoded(text, weights, origin_hu, float(step_hu), padded)


def text_of(values):
    """Base 85 of bytes, or of an array's numbers as they lie in memory: five letters for four bytes."""
    content = values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()
    missing = -len(content) % 4
    words = np.frombuffer(content + bytes(missing), ">u4").astype(np.uint32)
    letters = np.empty((len(words), 5), np.uint8)
    for place in range(4, -1, -1):
        words, digits = np.divmod(words, np.uint32(85))
        letters[:, place] = _LETTERS[digits]
    return letters.tobytes()[: letters.size - missing].decode("ascii")


def _shifted(padded, row, column):
    """The code at an offset from every pixel, 0 beyond the border."""
    rows, columns = np.subtract(padded.shape, 2 * _MARGIN)
    return padded[_MARGIN + row : _MARGIN + row + rows, _MARGIN + column : _MARGIN + column + columns]


def _fitted(codes, neighbours):
    """Weights that predict most codes best, whole numbers: least squares, what was far off counting less each round."""
    every = max(1, codes.size // _PIXELS)
    values = np.stack([image[::every].ravel() for image in (codes, *neighbours)])
    # Zeros at the end weigh nothing.
    values = np.pad(values, ((0, 0), (0, -values.shape[1] % _BLOCK))).astype(np.float64)
    values = values.reshape(len(values), -1, _BLOCK).swapaxes(0, 1)  # (blocks, 1 + N, _BLOCK)
    wanted, given = values[:, :1], values[:, 1:]
    trust = np.ones_like(wanted)
    for _ in range(_ROUNDS):
        products = ((given * trust) @ values.swapaxes(1, 2)).sum(axis=0)  # (N, 1 + N)
        # A trace on the diagonal: an image of one value has no one answer.
        square = products[:, 1:] + 1e-3 * np.eye(len(neighbours))
        weights = np.linalg.solve(square, products[:, 0])
        trust = 1 / (np.abs(wanted - weights[None] @ given) + _FAR)
    return [int(weight) for weight in np.rint(UNIT * weights)]


def _expected(neighbours, weights):
    """Each code as its neighbours predict it."""
    # Half as wide where no code can make the sum overflow, which takes half as long.
    narrow = sum(map(abs, weights)) * _LARGEST + UNIT < 2**31
    total = np.full(neighbours[0].shape, UNIT // 2, np.int32 if narrow else np.int64)
    product = np.empty_like(total)
    for neighbour, weight in zip(neighbours, weights, strict=True):
        total += np.multiply(neighbour, weight, out=product)
    return np.clip(total // UNIT, 0, _LARGEST)
