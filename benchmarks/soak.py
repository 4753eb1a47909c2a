"""`make soak`: the node for more than an hour, with what it needed as a table. The tests run a short form of it.

python -m benchmarks.soak [MINUTES]
"""

import statistics
import sys
import tempfile
from pathlib import Path

from tests import node_scenarios


def main(minutes):
    """Runs all scenarios one after the other and prints their measures."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print("| what | measured |\n|---|---|", flush=True)
        load = node_scenarios.load(
            folder / "load", associations=8, slices=2000, rows=512, columns=512, storescu=True
        )
        _row(
            f"{load['slices']} slices of 512×512 from {load['associations']} associations at once (storescu)",
            f"received at {load['slices'] / load['received_s']:.0f} slices/s; denoised at "
            f"{load['slices'] / load['denoising_s']:.1f} slices/s; all, and their originals, in Orthanc after "
            f"{load['settled_s']:.0f} s",
        )
        chaos = node_scenarios.chaos(folder / "chaos", kills=50)
        recovery_s = chaos["recovery_s"]
        _row(
            f"{chaos['kills']} × `kill -9` at random, two scanners sending",
            f"{chaos['slices']} slices and as many derived ones in Orthanc, as one undisturbed run makes them; "
            f"{chaos['sent more than once']} were offered to an archive more than once, with equal content",
        )
        _row(
            "from start to listening, while killed",
            f"{statistics.median(recovery_s):.1f} s (median of {len(recovery_s)}, longest {max(recovery_s):.1f} s; "
            f"{chaos['cut_off']} more starts were cut off)",
        )
        disk = node_scenarios.full_disk(folder / "disk", slices=200, megabytes=60, keep_free_gb=0.04)
        _row(
            f"{disk['slices']} slices (105 MB) through a disk of 60 MB, `keep_free_gb = 0.04`",
            f"{disk['refused']} times refused, all delivered in the end",
        )
        long = node_scenarios.endurance(
            folder / "long", minutes=minutes, slices=30, rows=512, columns=512, pause_s=10.0
        )
        node, network = zip(long["warm_mb"], long["end_mb"], strict=True)
        files, threads = zip(long["warm_held"], long["end_held"], strict=True)
        _row(
            f"{long['slices']} slices in {long['minutes']:g} minutes, after the first tenth and at the end",
            f"node {node[0]} and {node[1]} MB, its network's process {network[0]} and {network[1]} MB; "
            f"{files[0]} and {files[1]} file descriptors, {threads[0]} and {threads[1]} threads; "
            f"journal {long['journal_mb']:.1f} MB at the end",
        )


def _row(what, measured):
    print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
