"""Images in the MetaImage format: a text header `.mhd` and raw pixels beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


@dataclass(frozen=True)
class MetaImage:
    """A header that was understood.

    Args:
        shape: `(rows, columns)` of a slice.
        dtype: Of a stored pixel.
        files: Raw files, one slice each.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    files: tuple[Path, ...]

    def read(self, file):
        """Reads one of its files.

        Args:
            file: One of `files`.

        Returns:
            `(rows, columns)` float32, stored values.

        Raises:
            ValueError: If the file is of another size.
            OSError: If it cannot be read.
        """
        data = file.read_bytes()
        expected = self.shape[0] * self.shape[1] * self.dtype.itemsize
        if len(data) != expected:
            raise ValueError(
                f"Expected {self.shape[0]}x{self.shape[1]} pixels of {self.dtype.itemsize} bytes in {file}. "
                f"Received: {len(data)} bytes"
            )
        return np.frombuffer(data, self.dtype).reshape(self.shape).astype(np.float32)


def open_metaimage(path):
    """Reads a header.

    Args:
        path: The `.mhd`. Its `ElementDataFile` is one slice, or a pattern with the numbers of the first and last:
            `name_%03d.raw 1 10 1`.

    Returns:
        `MetaImage`.

    Raises:
        ValueError: If the header is not one, or says what this reader does not know.
        OSError: If it cannot be read.

    Source: ITK, "MetaImage documentation", tags of the header.
    """
    path = Path(path)
    # A megabyte of something else is told by its first bytes.
    with open(path, "rb") as file:
        text = file.read(65536).decode("ascii", "replace")
    tags = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    tags = {key.strip(): value.strip() for key, value in tags.items()}
    try:
        sizes = [int(word) for word in tags["DimSize"].split()]
        kind = _TYPES[tags["ElementType"]]
        words = tags["ElementDataFile"].split()
        columns, rows, *slices = sizes
        if min(sizes) < 1 or len(slices) > 1 or tags.get("CompressedData", "False") == "True":
            raise ValueError(text)
        big = "True" in (tags.get("ElementByteOrderMSB"), tags.get("BinaryDataByteOrderMSB"))
        names = _names(words)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"Expected a MetaImage header with DimSize, ElementType and ElementDataFile in {path}, its pixels in raw "
            "files of one slice each. Received: something else"
        ) from error
    files = tuple(path.parent / name for name in names)
    if len(files) != (slices[0] if slices else 1):
        raise ValueError(f"Expected as many files as slices in {path}. Received: {len(files)} for {sizes}")
    return MetaImage((rows, columns), np.dtype(kind).newbyteorder(">" if big else "<"), files)


def _names(words):
    name, *numbers = words
    if Path(name).name != name or name in ("LIST", "LOCAL"):
        raise ValueError(name)
    if numbers:
        first, last, step = (int(word) for word in numbers)
        return [name % number for number in range(first, last + 1, step)]
    # The ground truth of LCD_CT's sample data is written with a dot too many.
    return [name.rstrip(".")]
