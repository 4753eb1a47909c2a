"""What a training draws from, as one small file for a machine that can be had for minutes.

`python -m benchmarks.gpu_data STORE VALIDATION FILE [--megabytes N]`: from a store of `kpn prepare`, and the folder of
the normal-dose series that choose the best weights. docs/train.md says what the file leaves out.
"""

import argparse
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kpn_tf.files import replacing
from kpn_tf.training.data.slices import TrainingSlice

# What values are rounded to: of targets and validation slices in HU, of noise in its standard deviation.
TARGET_STEP_HU, VALIDATION_STEP_HU, NOISE_STEP = 2.0, 1.0, 0.25

# Rows and columns with less than this share of body lie outside of it.
_LEAST_BODY, _BODY_ABOVE_HU = 0.02, -500.0

# That of `kpn benchmark`: the validation pairs are the same.
_SEED = 0

# Bytes of the names and headers of two codes in the file, at most.
_HEADERS = 1000


class ValidationPair(NamedTuple):
    """A slice in both doses, each `(H, W)` in HU."""

    low_hu: np.ndarray
    normal_hu: np.ndarray


def packed(image, step):
    """Rounds an image `(H, W)` to multiples of a step, and compresses it; `unpacked` is the way back.

    Noise leaves nothing to find again elsewhere in the image, so its differences are coded and nothing is searched.

    Example:

    >>> image = np.array([[-1024.0, 30.0, 41.2], [5.0, 0.0, 3071.0]])
    >>> unpacked(packed(image, 2.0), (2, 3), 2.0)
    array([[-1024.,    30.,    42.],
           [    4.,     0.,  3072.]], dtype=float32)
    """
    levels = np.round(np.asarray(image, "float64") / step).astype(np.int32)
    differences = np.diff(np.diff(levels, axis=0, prepend=0), axis=1, prepend=0)
    unsigned = np.where(differences < 0, -2 * differences - 1, 2 * differences).astype("<u2")
    coder = zlib.compressobj(9, strategy=zlib.Z_RLE)
    # First the low bytes, then the high ones, of which hardly any is not zero.
    by_byte = unsigned.reshape(-1, 1).view(np.uint8).T
    return coder.compress(by_byte.tobytes()) + coder.flush()


def unpacked(code, shape, step):
    """The image `(H, W)`, float32, that was `packed`."""
    low, high = np.frombuffer(zlib.decompress(code), np.uint8).reshape(2, -1).astype(np.int32)
    unsigned = low + 256 * high
    differences = np.where(unsigned % 2, -(unsigned + 1) // 2, unsigned // 2).reshape(shape)
    return (differences.cumsum(axis=0).cumsum(axis=1) * step).astype("float32")


def body_box(slice_hu):
    """Rows and columns of a slice that hold some of the body: two slices."""
    body = slice_hu > _BODY_ABOVE_HU
    lines = (np.flatnonzero(body.mean(axis=axis) >= _LEAST_BODY) for axis in (1, 0))
    return tuple(slice(line[0], line[-1] + 1) if len(line) else slice(None) for line in lines)


def write_data(path, slices, validation, megabytes):
    """Writes evenly spread slices, each cut to the body and with one of its noise fields, as many as there is room for.

    Args:
        path: Of the file.
        slices: Sequence of `TrainingSlice`, such as `StoredSlices`.
        validation: Objects with `low_hu` and `normal_hu`, slices `(H, W)` in HU.
        megabytes: Largest size of the file.

    Returns:
        Number of slices in it.

    Raises:
        ValueError: If there is no room for one.
    """
    rng = np.random.default_rng(_SEED)
    coded = []
    for index in range(len(slices)):
        source = slices[index]
        box = body_box(source.normal_hu[:, :])
        noise = source.noise[rng.integers(len(source.noise))][box]
        codes = packed(source.normal_hu[box], TARGET_STEP_HU), packed(noise, NOISE_STEP)
        coded.append((codes, noise.shape, source.noise_std_hu, source.weight))
    pairs = [
        [packed(slice_hu, VALIDATION_STEP_HU) for slice_hu in (p.low_hu, p.normal_hu)] for p in validation
    ]
    room = 1e6 * megabytes - _size(pairs)
    count = len(coded)
    while _size(codes for codes, *_ in _spread(coded, count)) > room:
        count -= 1
    if count < 1:
        raise ValueError(
            f"Expected room for a slice. Received: {megabytes} MB; give more, or fewer validation pairs"
        )
    kept, shapes, noise_std_hu, weights = zip(*_spread(coded, count), strict=True)
    arrays = {
        "shapes": np.array(shapes),
        "noise_std_hu": np.array(noise_std_hu),
        "weights": np.array(weights),
        "validation_shapes": np.array([pair.normal_hu.shape for pair in validation]),
    }
    for name, both in (("slice", kept), ("validation", pairs)):
        for number, codes in enumerate(both):
            arrays |= {f"{name}_{number}_{i}": np.frombuffer(code, np.uint8) for i, code in enumerate(codes)}
    with replacing(Path(path)) as part, open(part, "wb") as file:
        np.savez(file, **arrays)
    return count


def read_data(path):
    """Reads what `write_data` wrote.

    Args:
        path: Of the file.

    Returns:
        List of `TrainingSlice` and list of `ValidationPair`.
    """
    with np.load(path) as arrays:

        def images(name, shapes, *steps):
            for number, shape in enumerate(shapes):
                codes = (arrays[f"{name}_{number}_{i}"] for i in range(len(steps)))
                yield [unpacked(code, shape, step) for code, step in zip(codes, steps, strict=True)]

        slices = [
            TrainingSlice(normal_hu, noise[None].astype("float16"), float(noise_std_hu), float(weight))
            for (normal_hu, noise), noise_std_hu, weight in zip(
                images("slice", arrays["shapes"], TARGET_STEP_HU, NOISE_STEP),
                arrays["noise_std_hu"],
                arrays["weights"],
                strict=True,
            )
        ]
        both = images("validation", arrays["validation_shapes"], VALIDATION_STEP_HU, VALIDATION_STEP_HU)
        return slices, [ValidationPair(*pair) for pair in both]


def _size(coded):
    """Bytes of pairs of codes in the file, with their names and headers."""
    return sum(_HEADERS + sum(map(len, codes)) for codes in coded)


def _spread(items, count):
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def main():
    """Writes the file, and says what it holds."""
    # Not at the top: where the file is read, there is no DICOM.
    from kpn_tf.cli.prepare import left_out
    from kpn_tf.training.data.folders import validation_folder
    from kpn_tf.training.data.store import open_store

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--megabytes", type=float, default=60)
    options = parser.parse_args()
    slices = open_store(options.store)
    validation = validation_folder(options.validation, np.random.default_rng(_SEED), note=left_out)
    count = write_data(options.file, slices, validation, options.megabytes)
    print(
        f"{count} of {len(slices)} slices and {len(validation)} validation pairs in "
        f"{options.file.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
