"""Slices as greyscale PNG files by the standard library alone: the base install has no imaging package."""

import struct
import zlib
from pathlib import Path

import numpy as np

from kpn_tf.files import replacing


def grey(slice_hu, window):
    """HU as grey values: black at the lower end of the window, white at the upper.

    Args:
        slice_hu: `(H, W)` in HU.
        window: A `kpn_tf.hounsfield.Window`.

    Returns:
        `(H, W)` uint8.

    Example:

    >>> from kpn_tf.hounsfield import WINDOWS
    >>> grey(np.array([[-1000.0, 40.0, 240.0]]), WINDOWS["soft"]).tolist()
    [[0, 128, 255]]
    """
    unit = (np.asarray(slice_hu, np.float64) - window.low_hu) / window.width_hu
    return np.rint(255 * np.clip(unit, 0, 1)).astype(np.uint8)


def png(image):
    """An 8-bit greyscale PNG, bytes.

    Args:
        image: `(H, W)` uint8.

    Raises:
        ValueError: If the image is not `(H, W)` uint8.

    Source: W3C, "Portable Network Graphics (PNG) Specification", second edition, 5 and 11.2.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"Expected an image (H, W) of uint8. Received: {image.dtype} {image.shape}")
    height, width = image.shape
    # Each line starts with its filter type: 0, none.
    lines = np.hstack([np.zeros((height, 1), np.uint8), image]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_png(path, image):
    """Writes an 8-bit greyscale PNG.

    Args:
        path: The file, replaced if there is one.
        image: `(H, W)` uint8.

    Raises:
        ValueError: If the image is not `(H, W)` uint8.
    """
    content = png(image)
    with replacing(Path(path)) as part:
        part.write_bytes(content)
