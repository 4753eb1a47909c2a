"""What a prepared store could be: `python -m benchmarks.store_formats`, after `pip install zarr`, on an idle machine.

Slices of the digital torso with noise fields, as training draws from them, in five layouts; each gives the same
patches of 64x64: how many a second, out of the system's cache and from the disk, and how many bytes on disk.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from kpn_tf.dose.series_noise import SeriesNoise
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.phantom import torso
from kpn_tf.training.data.slices import FIELDS, training_slices
from kpn_tf.training.data.store import StoreWriter, open_store

SIDE, SLICES, PATCH, DRAWS, COLD_DRAWS, CHUNK = 512, 16, 64, 2000, 100, 128


def places():
    """The same places for every layout: slice, field, rows, columns."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, SIDE - PATCH + 1, (DRAWS, 2))
    drawn = zip(rng.integers(0, SLICES, DRAWS), rng.integers(0, FIELDS, DRAWS), corners, strict=True)
    return [
        (int(one), int(field), slice(row, row + PATCH), slice(column, column + PATCH))
        for one, field, (row, column) in drawn
    ]


def rows(folder, slices, noise):
    """This package's store: arrays row by row, of which the rows of a patch are read."""
    with StoreWriter(folder, "") as store:
        how = {"identity": "a", "patient": "b", "pixel_mm": 0.75, "spectrum": noise.spectrum}
        store.add(iter(slices), len(slices), shape=(SIDE, SIDE), **how)
        store.finish()
    stored = open_store(folder)
    return lambda one, field, *cut: (stored[one].normal_hu[tuple(cut)], stored[one].noise[field][tuple(cut)])


def mapped(folder, slices, noise):
    """The same file as a memory map, made for each patch: one that stays would become memory of the process."""
    rows(folder, slices, noise)

    def read(one, field, *cut):
        record = np.load(folder / "000000.npy", mmap_mode="r")[one]
        return np.array(record["normal_hu"][tuple(cut)]), np.array(record["noise"][(field, *cut)])

    return read


def chunks(folder, slices, noise, *, compressed):
    """Zarr: chunks of 128x128, each compressed with zstd, or none."""
    import zarr  # no dependency of this project: only compared with

    how = {} if compressed else {"compressors": None}
    normal = zarr.create_array(
        folder / "hu", shape=(SLICES, SIDE, SIDE), chunks=(1, CHUNK, CHUNK), dtype="float32", **how
    )
    fields = zarr.create_array(
        folder / "noise",
        shape=(SLICES, FIELDS, SIDE, SIDE),
        chunks=(1, 1, CHUNK, CHUNK),
        dtype="float16",
        **how,
    )
    for number, one in enumerate(slices):
        normal[number], fields[number] = one.normal_hu, one.noise
    return lambda one, field, *cut: (normal[(one, *cut)], fields[(one, field, *cut)])


def records(folder, slices, noise):
    """TFRecord: a record for each slice, read whole; where each begins is known here because all are of one size."""
    folder.mkdir()
    path = str(folder / "slices.tfrecord")
    with tf.io.TFRecordWriter(path) as file:
        for one in slices:
            file.write(one.normal_hu.tobytes() + one.noise.tobytes())
    pixels = SIDE * SIDE
    length = (4 + 2 * FIELDS) * pixels + 16  # the data, their length, and the checksums of both

    def read(one, field, *cut):
        with open(path, "rb") as file:
            file.seek(one * length + 12)
            data = file.read(length - 16)
        normal = np.frombuffer(data, "<f4", pixels).reshape(SIDE, SIDE)
        fields = np.frombuffer(data, "<f2", offset=4 * pixels).reshape(FIELDS, SIDE, SIDE)
        return normal[tuple(cut)], fields[(field, *cut)]

    return read


def seconds(read, drawn, files):
    """What reading patches takes, after each of `files` was dropped from the cache."""
    total = 0.0
    for one in drawn:
        for path in files:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        read(*one)
        total += time.perf_counter() - began
    return total


def main():
    """Writes and reads each, and prints a table."""
    noise = SeriesNoise(8.0, SPECTRA["soft"])
    volume_hu = torso(SIDE, SIDE, slices=SLICES, pixel_spacing_mm=0.75).volume_hu
    volume_hu += np.random.default_rng(1).normal(0, noise.std_hu, volume_hu.shape)
    slices = training_slices(volume_hu.round(), 0.75, noise, np.random.default_rng(2))
    layouts = {
        "rows of a .npy, read": rows,
        "rows of a .npy, mapped": mapped,
        "zarr, 128x128, zstd": lambda *what: chunks(*what, compressed=True),
        "zarr, 128x128, not compressed": lambda *what: chunks(*what, compressed=False),
        "TFRecord": records,
    }
    print(
        "| layout | patches a second, cached | from the disk | MB a slice | files |\n|---|---:|---:|---:|---:|",
        flush=True,
    )
    expected = None
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, layout) in enumerate(layouts.items()):
            place = Path(folder, str(number))
            read = layout(place, slices, noise)
            total = sum(float(patch.astype("float64").sum()) for one in places() for patch in read(*one))
            expected = total if expected is None else expected
            if total != expected:
                raise RuntimeError(f"{name} gives other patches")
            os.sync()
            files = [path for path in place.rglob("*") if path.is_file()]
            cached = DRAWS / seconds(read, places(), [])
            cold = COLD_DRAWS / seconds(read, places()[:COLD_DRAWS], files)
            size_mb = sum(path.stat().st_size for path in files) / 1e6 / SLICES
            print(f"| {name} | {cached:,.0f} | {cold:,.0f} | {size_mb:.2f} | {len(files)} |", flush=True)


if __name__ == "__main__":
    main()
