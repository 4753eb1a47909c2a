"""A non-subsampled contourlet transform: a slice as 15 images of its own size, by scale and direction."""

import keras
import numpy as np
from keras import ops

from kpn_tf.ops.border import missing_to_multiple, reflect_border

# How often each scale is split by direction, coarsest scale first: 2, 4 and 8 bands.
LEVELS = (1, 2, 3)
CHANNELS = 1 + sum(2**splits for splits in LEVELS)

# Taps of the half-band filter P(cos w), P(x) = (1 + x)^2 (2 - x) / 4: P(x) + P(-x) = 1, flat to second order at
# w = 0 and pi, and between 0 and 1 everywhere. Every filter here is P of one cosine or of a difference of two.
_HALF_BAND = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32
_RADIUS = len(_HALF_BAND) // 2

# How far a coefficient looks in pixels. The filters of a scale have their taps 1, 2 or 4 pixels apart.
_SPACINGS = tuple(2**scale for scale in range(len(LEVELS)))
_SPLITS = tuple(reversed(LEVELS))
REACH = max(
    _RADIUS * (sum(_SPACINGS[: scale + 1]) + splits * _SPACINGS[scale])
    for scale, splits in enumerate(_SPLITS)
)
# Smallest side that the mirrored border of the widest filter fits into.
MINIMUM_SIDE = 1 + _RADIUS * max(splits * spacing for splits, spacing in zip(_SPLITS, _SPACINGS, strict=True))


def analysis(image):
    """Splits an image into bands of scale and direction that add up to it.

    The pyramid: at each of three scales the separable half-band filter, its taps 1, 2, 4 pixels apart, smooths
    what the scale before left; what it took away is the band of that scale. The directions: fan filters, as far
    apart, split each band in two by a sign, `P(m)` and `1 - P(m)`, with `m` half a difference of two cosines:

        columns before rows      m = (cos w_r - cos w_c) / 2
        both signs equal         m = (cos(w_r - w_c) - cos(w_r + w_c)) / 2
        halves of a 45° sector   m = (cos w_r - cos(w_c - w_r)) / 2 in 0..45°, mirrored in the others

    Every filter has zero phase and a gain between 0 and 1, and the 15 gains sum to one at every frequency.

    What differs from the paper's transform: there the analysis and synthesis filters of a stage are different
    ones, nearly a tight frame, and the fans longer; here the pyramid is the à trous one (the paper's case
    `H1 = 1 - H0`, `G0 = G1 = 1`), the pair of a fan is complementary likewise, and so the synthesis is a sum.

    Args:
        image: Tensor `(B, H, W, 1)` of floats, any unit, `H, W >= 13`; mirrored at the border, `32 1234 32`.

    Returns:
        Tensor `(B, H, W, 15)` in the unit of `image`: the smooth rest, then 2 bands of the coarsest scale, 4 of
        the middle, 8 of the finest. The bands of a scale are sorted by the angle of their frequencies from the
        columns' axis towards the rows' axis, edges `-45, 45, 135` degrees; `0, 45, ... 180`; and
        `0, 27, 45, 63, ... 180` (the odd ones at the arc tangents of 1/2 and 2).

    Example:

    >>> image = np.random.default_rng(0).normal(size=(1, 13, 17, 1))
    >>> bands = analysis(ops.convert_to_tensor(image))
    >>> tuple(bands.shape), bool(np.allclose(ops.sum(bands, -1, keepdims=True), image, atol=1e-12))
    ((1, 13, 17, 15), True)

    Source: da Cunha, Zhou, Do, "The nonsubsampled contourlet transform: theory, design, and applications", IEEE
    Trans Image Process 15 (2006); levels [1, 2, 3] of Kang et al., IEEE Trans Med Imaging 37 (2018).
    """
    bands = []
    for splits, spacing in zip(_SPLITS, _SPACINGS, strict=True):
        smooth = _smooth(image, spacing)
        # The smoothing filter is even in rows and in columns: mirroring the band is mirroring the image.
        bands.append(_pass(image - smooth, _FANS[:splits], spacing))
        image = smooth
    return ops.concatenate([image, *reversed(bands)], axis=-1)


def confine(images):
    """Filters each of 15 images with its own band's filter, and adds them up.

    What an image holds outside the frequencies of its band is lost; a constant, in all but the first. Away from
    the border it is the adjoint of `analysis`.

    Args:
        images: Tensor `(B, H, W, 15)` of floats, any unit, `H, W >= 13`, in the order of `analysis`; mirrored at
            the border, anew at every scale.

    Returns:
        Tensor `(B, H, W, 1)` in the unit of `images`.
    """
    first = CHANNELS
    bands = []
    for splits, spacing in zip(_SPLITS, _SPACINGS, strict=True):
        first -= 2**splits
        band = images[..., first : first + 2**splits]
        bands.append(_pass(band, _FANS_BACK[-splits:], spacing))
    image = images[..., :1]
    for band, spacing in zip(reversed(bands), reversed(_SPACINGS), strict=True):
        image = band + _smooth(image - band, spacing)
    return image


def _smooth(image, spacing):
    """The half-band filter along rows and columns; the image keeps its size."""
    image = reflect_border(image, _RADIUS * spacing)
    return _convolve(image, (_HALF_BAND[:, None, None, None], _HALF_BAND[None, :, None, None]), spacing)


def _pass(image, fans, spacing):
    """Fans one after the other; the image keeps its size."""
    return _convolve(reflect_border(image, len(fans) * _RADIUS * spacing), fans, spacing)


def _convolve(image, kernels, spacing):
    """Kernels one after the other, taps `spacing` pixels apart; `(B, H, W, in)` to `(B, H - lost, W - lost, out)`."""
    kernels = [ops.convert_to_tensor(kernel, dtype=image.dtype) for kernel in kernels]
    if keras.backend.backend() == "tensorflow":
        return _convolve_phases(image, kernels, spacing)
    for kernel in kernels:
        image = ops.conv(image, kernel, padding="valid", dilation_rate=spacing, data_format="channels_last")
    return image


def _convolve_phases(image, kernels, spacing):
    """`_convolve` of each phase of the image by itself, as an image of the batch.

    Where oneDNN is off, TensorFlow has no gradient of a convolution with spaced taps on a CPU; in a phase they are
    neighbours.
    """
    import tensorflow as tf

    added = [[0, missing_to_multiple(side, spacing)] for side in ops.shape(image)[1:3]]
    if spacing > 1:
        image = tf.space_to_batch(image, [spacing, spacing], added)
    for kernel in kernels:
        image = tf.nn.conv2d(image, kernel, strides=1, padding="VALID")
    return tf.batch_to_space(image, [spacing, spacing], added) if spacing > 1 else image


def _fan(one, other):
    """Taps `(7, 7)` of `P(m)`, `m = (cos(one . w) - cos(other . w)) / 2`; `one` and `other` are (row, column)."""
    m = np.zeros((3, 3))
    for (row, column), share in ((one, 0.25), (other, -0.25)):
        m[1 + row, 1 + column] += share
        m[1 - row, 1 - column] += share
    cube = _product(m, _product(m, m))  # (7, 7)
    taps = -cube / 4
    taps[2:5, 2:5] += 3 * m / 4
    taps[_RADIUS, _RADIUS] += 1 / 2
    return taps


def _product(one, other):
    """The filter that applies two filters one after the other: the full convolution of their taps."""
    taps = np.zeros(np.add(one.shape, other.shape) - 1)
    for (row, column), tap in np.ndenumerate(one):
        taps[row : row + other.shape[0], column : column + other.shape[1]] += tap * other
    return taps


def _split(filters, order):
    """Kernels `(7, 7, C, 2C)` that give, of each of C channels, what its filter keeps and what it leaves.

    Args:
        filters: C filters `(7, 7)`.
        order: Of the outputs, by angle: pairs (channel, whether it is the part that the filter keeps).
    """
    kernels = np.zeros((2 * _RADIUS + 1, 2 * _RADIUS + 1, len(filters), len(order)))
    for output, (channel, kept) in enumerate(order):
        kernels[:, :, channel, output] = filters[channel] if kept else -filters[channel]
        kernels[_RADIUS, _RADIUS, channel, output] += 0 if kept else 1
    return kernels


_COLUMNS, _ROWS, _FALLING, _RISING = (0, 1), (1, 0), (1, -1), (1, 1)
_FANS = (
    _split([_fan(_ROWS, _COLUMNS)], [(0, True), (0, False)]),
    _split([_fan(_FALLING, _RISING)] * 2, [(0, True), (1, True), (1, False), (0, False)]),
    _split(
        [_fan(_ROWS, _FALLING), _fan(_COLUMNS, _FALLING), _fan(_COLUMNS, _RISING), _fan(_ROWS, _RISING)],
        [(0, True), (0, False), (1, False), (1, True), (2, True), (2, False), (3, False), (3, True)],
    ),
)
# The taps of a fan are the same turned by 180 degrees: its adjoint exchanges inputs and outputs only.
_FANS_BACK = tuple(kernels.swapaxes(2, 3) for kernels in reversed(_FANS))
