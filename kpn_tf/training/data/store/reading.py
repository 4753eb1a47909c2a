"""A store -> its slices, of which only the rows that are asked for are read."""

import hashlib
from pathlib import Path

import numpy as np

from kpn_tf.training.data.slices import TrainingSlice
from kpn_tf.training.data.store.manifest import (
    MANIFEST,
    UNFINISHED,
    StoreError,
    damaged,
    read_manifest,
    record,
)


def open_store(folder):
    """Opens a finished store.

    Looks at its manifest and at the sizes of its files; pixels are read when a patch is cut.

    Args:
        folder: What `kpn prepare` wrote.

    Returns:
        `StoredSlices`.

    Raises:
        StoreError: If it is unfinished, of another version, damaged, or something else lies in it.
    """
    folder = Path(folder)
    series = read_manifest(folder)
    for one in series:
        # Stores of kpn_tf 0.1 have one number for all slices of a series.
        one["noise_std_hu"] = np.broadcast_to(np.array(one["noise_std_hu"]), one["slices"])
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    names = [data_name(number) for number in range(len(series))]
    for name, one in zip(names, series, strict=True):
        if name not in sizes:
            raise damaged(folder / name, "it is missing")
        if sizes[name] != one["bytes"]:
            raise damaged(folder / name, f"it has {sizes[name]} bytes instead of {one['bytes']}")
    known = {MANIFEST, UNFINISHED, *names, *(about_name(number) for number in range(len(series)))}
    others = sorted(name for name in sizes if name not in known and not name.startswith("."))
    if others:
        raise StoreError(
            f"Expected a store alone. Received: {folder / others[0]} beside it; keep DICOM and other files elsewhere"
        )
    return StoredSlices(folder, series, names)


def data_name(number):
    """Name of the file with the slices of a series."""
    return f"{number:06d}.npy"


def about_name(number):
    """Name of the file that describes a series."""
    return f"{number:06d}.json"


class StoredSlices:
    """Slices on disk: a sequence of `TrainingSlice` whose arrays read only what is cut from them.

    In memory are 16 bytes for each slice, its weight and its noise, and about a kilobyte for each series.

    Args:
        folder: The store.
        series: What its manifest says of each.
        names: Name of the file of each.
    """

    def __init__(self, folder, series, names):
        self._folder, self._series, self._names = folder, series, names
        self._ends = np.cumsum([one["slices"] for one in series], dtype=np.int64)

    def __len__(self):
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = int(self._ends.searchsorted(index, side="right"))
        one = self._series[at]
        layout = record(one["rows"], one["columns"])
        left = int(self._ends[at]) - index  # slices from this one to the last
        start = one["bytes"] - left * layout.itemsize
        path = self._folder / self._names[at]
        (pixels, _), (fields, noise_at) = layout.fields["normal_hu"], layout.fields["noise"]
        count, *shape = fields.shape
        step = fields.itemsize // count
        noise = [_Rows(path, start + noise_at + field * step, shape, fields.base) for field in range(count)]
        return TrainingSlice(
            _Rows(path, start, shape, pixels.base), noise, float(one["noise_std_hu"][-left]), one["weight"]
        )

    def of_side(self, patch, note):
        """The slices that patches of this side can be cut from.

        Args:
            patch: Side in pixels.
            note: Callback `(line, failure)` for skipped series.

        Returns:
            `StoredSlices`.
        """
        kept = []
        for name, one in zip(self._names, self._series, strict=True):
            if min(one["rows"], one["columns"]) < patch:
                why = f"its slices are smaller than a patch of {patch} x {patch} pixels"
                note(f"{self._folder / name}: {why}", False)
            else:
                kept.append((one, name))
        return StoredSlices(self._folder, [one for one, _ in kept], [name for _, name in kept])

    @property
    def weights(self):
        """Of each slice: float64 `(n,)`."""
        return np.repeat([one["weight"] for one in self._series], [one["slices"] for one in self._series])

    @property
    def smallest_side(self):
        """Fewest rows or columns of a slice, in pixels."""
        return min(min(one["rows"], one["columns"]) for one in self._series)

    @property
    def normal_sha256(self):
        """Hash of the hashes of the normal-dose slices of each series, in hexadecimal."""
        hashes = "".join(one["normal_sha256"] for one in self._series)
        return hashlib.sha256(hashes.encode()).hexdigest()


class _Rows:
    """An array `(H, W)` in a file; a cut through it reads its rows. A map of the file would end the process with a
    bus error where the disk fails, and would count as memory of the process."""

    def __init__(self, path, start, shape, dtype):
        self._path, self._start, self.shape, self._dtype = path, start, tuple(shape), dtype

    def __getitem__(self, cut):
        rows, columns = cut
        width = self.shape[1] * self._dtype.itemsize
        first, last, _ = rows.indices(self.shape[0])
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._start + first * width)
            read = file.read((last - first) * width)
        if len(read) < (last - first) * width:
            raise damaged(self._path, "it ends early")
        return np.frombuffer(read, self._dtype).reshape(-1, self.shape[1])[:, columns]
