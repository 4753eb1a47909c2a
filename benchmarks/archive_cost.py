"""What an archive costs: `python -m benchmarks.archive_cost FOLDER`, on an idle machine; FOLDER holds CT series.

The tables of docs/scale.md, section Archives. Takes about ten minutes with 257 slices on two cores.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distributed import LocalCluster

from kpn_tf.batch import denoise
from kpn_tf.cluster import denoise_archive
from kpn_tf.cluster.manifest import NAME
from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.devices import cpu_name, physical_cores
from kpn_tf.dicom import find_series
from tests.ct_series import write_ct_series
from tests.test_batch import BOX, contents

# Of one slice of the smallest size each: what is left is what a series costs that has nothing in it.
_SMALL = 200


def main(source):
    """Prints the tables."""
    print(f"{cpu_name()}, {physical_cores()} cores, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        seconds = _throughput(source, folder)
        _bytes(source, folder / "one", seconds)
        _series(folder)
        _slices(folder)
        _sizes(folder)


def _throughput(source, folder):
    print("| series denoised by | seconds | slices/s | times | core seconds |\n|---|---:|---:|---:|---:|")
    base = alone = None
    for name, words in (
        ("one process, one thread", ["--threads", "1"]),
        ("one process, as many threads as cores", []),
        ("`--cluster local`, a worker for each core", ["--cluster", "local"]),
    ):
        output = folder / ("one" if base is None else "other")
        shutil.rmtree(folder / "other", ignore_errors=True)
        began, worked = time.perf_counter(), _core_seconds()
        call = [sys.executable, "-P", "-m", "kpn_tf.cli", "denoise", source, output]
        call += ["--weights", "edge", "--json", *words]
        told = json.loads(subprocess.run(call, check=True, capture_output=True).stdout)
        seconds, worked = time.perf_counter() - began, _core_seconds() - worked
        base = base or seconds
        alone = alone or worked
        slices = told["slices_written"]
        print(
            f"| {name} | {seconds:.1f} | {slices / seconds:.2f} | {base / seconds:.2f} | {worked:.1f} |",
            flush=True,
        )
        if output != folder / "one":
            found = {path: digest for path, digest in contents(output).items() if path != NAME}
            same = found == contents(folder / "one")
            print(f"(files as from one process, one thread, byte for byte: {same})", file=sys.stderr)
    return alone / slices


def _bytes(source, output, seconds):
    began = time.perf_counter()
    series, _ = find_series(source)
    header_ms = (time.perf_counter() - began) * 1e3
    paths = [one.path for part in series for one in part.slices]
    read_mb = sum(path.stat().st_size for path in paths) / 1e6
    written_mb = sum(path.stat().st_size for path in output.rglob("*.dcm")) / 1e6
    print(
        f"\n{len(paths)} slices: {read_mb / len(paths):.3f} MB read and {written_mb / len(paths):.3f} MB written each,"
    )
    print(
        f"{header_ms / len(paths):.2f} ms to find one by its header, {seconds:.3f} core seconds in all\n",
        flush=True,
    )


def _series(folder):
    for number in range(_SMALL):
        write_ct_series(folder / "small" / f"{number}", name=f"s{number}", slices=1, rows=26, columns=26)
    box = Denoiser(BOX, threads=1)
    print(
        f"| {_SMALL} series of one small slice | ms/series | core ms/series in this process |\n|---|---:|---:|"
    )
    _each("one process", denoise, folder / "small", folder / "small_one", box)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        words = folder / "small", folder / "small_cluster", box, cluster.scheduler_address
        _each("client and scheduler, with one worker", denoise_archive, *words)
        _each("client, when all are done", denoise_archive, *words)
    print()


def _each(name, job, *words):
    began, worked = time.perf_counter(), time.process_time()
    job(*words)
    each_ms, worked_ms = (
        (now - then) / _SMALL * 1e3
        for now, then in ((time.perf_counter(), began), (time.process_time(), worked))
    )
    print(f"| {name} | {each_ms:.1f} | {worked_ms:.1f} |", flush=True)


def _slices(folder):
    edge = Denoiser("edge", threads=1)
    print("| slices of 512×512 | seconds | seconds/slice | core seconds/slice |\n|---:|---:|---:|---:|")
    for slices in (4, 16, 64):
        _timed(folder / f"slices{slices}", edge, f"| {slices} |", slices=slices, rows=512, columns=512)
    print()


def _sizes(folder):
    edge = Denoiser("edge", threads=1)
    print("| size, 16 slices | seconds | seconds/slice | core seconds/slice |\n|---|---:|---:|---:|")
    for side in (256, 512, 1024):
        _timed(folder / f"side{side}", edge, f"| {side}×{side} |", slices=16, rows=side, columns=side)


def _timed(folder, denoiser, row, **form):
    write_ct_series(folder / "in", **form)
    began, worked = time.perf_counter(), _core_seconds()
    denoise(folder / "in", folder / "out", denoiser)
    seconds, worked = time.perf_counter() - began, _core_seconds() - worked
    slices = form["slices"]
    print(f"{row} {seconds:.2f} | {seconds / slices:.3f} | {worked / slices:.3f} |", flush=True)


def _core_seconds():
    """Seconds that this process and those that it has waited for have computed: others on the machine do not count."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]))
