"""What a store of many slices takes to open and to draw from: `python -m benchmarks.store_scale`.

The files have the length of real ones and no content, so that ten million slices fit on any disk: what is measured is
the memory and the time that grow with their number. What reading takes from a disk is in `benchmarks.store_formats`.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE, SLICES_IN_SERIES = 512, 100


def write(folder, count):
    """A store of `count` series without content."""
    from kpn_tf.training.data.store.manifest import record, write_manifest
    from kpn_tf.training.data.store.reading import data_name

    size = 192 + SLICES_IN_SERIES * record(SIDE, SIDE).itemsize
    for number in range(count):
        path = folder / data_name(number)
        path.touch()
        os.truncate(path, size)
    one = {"slices": SLICES_IN_SERIES, "rows": SIDE, "columns": SIDE, "noise_std_hu": 9.0, "bytes": size}
    hashes = [f"{number:064x}" for number in range(count)]
    write_manifest(folder, [{**one, "weight": 1 / (9 + hash(h) % 7), "normal_sha256": h} for h in hashes])


def draw(folder):
    """Opens it and draws patches; prints what that took, in this process alone."""
    from kpn_tf.training.data.store import open_store
    from kpn_tf.training.pairs import SimulatedPairs

    def peak_mb():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    before_mb, began = peak_mb(), time.perf_counter()
    pairs = SimulatedPairs(open_store(folder), batch_size=8, steps=300)
    opened = time.perf_counter()
    opened_mb = peak_mb()
    for index in range(300):
        pairs[index]
    rate = 8 * 300 / (time.perf_counter() - opened)
    print(f"{opened - began:.2f} | {opened_mb - before_mb:.0f} | {peak_mb() - opened_mb:.0f} | {rate:,.0f} |")


def main():
    """Measures stores of growing size, and prints a table."""
    print(
        "| slices | TB | s to open | MB to open | MB more to draw 2,400 patches | patches a second |\n"
        "|---:|---:|---:|---:|---:|---:|"
    )
    for count in (10, 1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), count)
            words = [sys.executable, "-m", "benchmarks.store_scale", folder]
            printed = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
            size = sum(path.stat().st_size for path in Path(folder).glob("*.npy")) / 1e12
            print(f"| {count * SLICES_IN_SERIES:,} | {size:.3f} | {printed.strip()}", flush=True)


if __name__ == "__main__":
    draw(sys.argv[1]) if sys.argv[1:] else main()
