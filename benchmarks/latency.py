"""What a slice, a process, a job and the input of a training cost on this machine: `make bench`.

Nothing passes or fails here. Times say something only on a machine that does nothing else meanwhile, which is why
the load is printed with them; the ratio to `edge`, measured anew before every other artefact, stands a little more.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from baselines.benchmark.cost import measured, timed
from baselines.redcnn import REDCNN
from export import Release, to_onnx, to_openvino, to_saved_model, to_tflite
from kpn_tf import StructKPN, __version__
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER, open_artefact
from kpn_tf.denoiser.devices import cpu_name, physical_cores
from kpn_tf.phantom import torso, write_series

SIDE = 512
THREADS = 2
JOB_SLICES = 100

TARGET_SECONDS, TARGET_MB, TARGET_JOB_RATIO = 0.20, 350, 1.3

# Of the network of stacks: times as fast as RED-CNN, and multiply-accumulates in 1e9.
TARGET_TIMES, TARGET_GMAC = 45, 8
_STACKS, _REDCNN = "stacks of five slices, float32, any size", "RED-CNN, untrained, float32, 512"

# Makes `denoise` of an artefact.
ARTEFACT = f"""
import sys
from export import runners
denoise = getattr(runners, sys.argv[1])(sys.argv[2], {THREADS})
"""

_ONE_SLICE = (
    "import numpy; from kpn_tf import Denoiser; "
    f"Denoiser('edge', threads={THREADS})(numpy.zeros(({SIDE}, {SIDE}), 'float32'))"
)


def artefacts(folder, calibration):
    """Writes `edge` for every runtime, and the other networks, untrained, for LiteRT.

    Args:
        folder: Where to.
        calibration: Slices `(H, W)` in HU that integers are fitted to.

    Yields:
        Name, runtime, path and function of `export.runners`, one after the other as they are written.
    """
    shipped = WEIGHTS_FOLDER / "edge.keras"
    edge = keras.saving.load_model(shipped, compile=False)
    release = Release("1", "benchmark", "see the model card")
    litert, run = "LiteRT", "run_artefact"

    def tflite(name, network, **how):
        to_tflite(network, folder / f"{name}.tflite", release, **how)
        return folder / f"{name}.tflite"

    yield "edge, float32, any size (shipped)", litert, WEIGHTS_FOLDER / "edge.tflite", run
    yield "edge, float32, 512 (shipped)", litert, WEIGHTS_FOLDER / "edge_512.tflite", run
    yield "edge, float16, any size", litert, tflite("edge_float16", edge), run
    yield "edge, float16, 512", litert, tflite("edge_float16_512", edge, side=SIDE), run
    integers = tflite("edge_int16x8", edge, precision="int16x8", side=SIDE, calibration=calibration)
    yield "edge, int16x8, 512", litert, integers, run
    to_onnx(edge, folder / "edge.onnx", release)
    yield "edge, float32, any size", "onnxruntime", folder / "edge.onnx", run
    to_openvino(edge, folder / "edge.xml", release)
    yield "edge, float32, any size", "OpenVINO", folder / "edge.xml", run
    to_saved_model(edge, folder / "served", release)
    yield "edge, SavedModel", "TensorFlow", folder / "served" / "1", run
    yield "edge, .keras", "Keras", shipped, run
    yield "edge, its kernels and patches written out", "TensorFlow", shipped, "run_naively"
    paper = StructKPN("paper")
    path = tflite("paper", paper, precision="float32")
    yield "paper, untrained, float32, any size", litert, path, run
    to_onnx(paper, folder / "paper.onnx", release)
    yield "paper, untrained, float32, any size", "onnxruntime", folder / "paper.onnx", run
    to_openvino(paper, folder / "paper.xml", release)
    yield "paper, untrained, float32, any size", "OpenVINO", folder / "paper.xml", run
    redcnn = tflite("redcnn", REDCNN(), precision="float32", side=SIDE)
    yield _REDCNN, litert, redcnn, run
    stacks = keras.saving.load_model(WEIGHTS_FOLDER / "stack.keras", compile=False)
    # Without neighbours it is called with the slice itself in their place: what it costs is the same.
    yield _STACKS, litert, tflite("stacks", stacks, precision="float32"), run


def size_mb(path):
    """Size of an artefact in MB (1e6 bytes), of all files where it is several."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def noisy_torso():
    """Few slices of the torso over and over, each with noise of its own: `(JOB_SLICES, H, W)` in HU."""
    body_hu = torso(SIDE, SIDE, slices=4, slice_spacing_mm=20.0).volume_hu
    noise_hu = np.random.default_rng(11).standard_normal((JOB_SLICES, SIDE, SIDE), np.float32) * 24
    return body_hu[np.arange(JOB_SLICES) % len(body_hu)] + noise_hu


def main():
    """Measures, and prints three tables."""
    edge = open_artefact("edge")
    packages = ("ai-edge-litert", "tensorflow", "onnxruntime", "openvino", "numpy")
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(
        f"{cpu_name()}, {physical_cores()} physical cores, {THREADS} threads, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, kpn_tf {__version__}, {versions}; "
        f"weights {edge.version}, file sha256 {edge.file_sha256[:12]}\n",
        flush=True,
    )
    _, _, slice_mb = measured(sys.executable, "-c", _ONE_SLICE)
    volume_hu = noisy_torso()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        batch_path = folder / "slice.npy"
        np.save(batch_path, volume_hu[:1, :, :, None].astype("float32"))
        print(
            f"| one slice of {SIDE}x{SIDE} | runtime | ms | times edge | peak memory (MB) | file (MB) |\n"
            "|---|---|---:|---:|---:|---:|",
            flush=True,
        )
        edge_times, measured_of = [], {}
        for name, runtime, path, how in artefacts(folder, volume_hu[:2]):
            edge_seconds, _ = timed(ARTEFACT, "run_artefact", edge.path, batch_path)
            edge_times.append(edge_seconds)
            seconds, peak_mb = measured_of[name] = timed(ARTEFACT, how, path, batch_path)
            print(
                f"| {name} | {runtime} | {1e3 * seconds:.0f} | {seconds / edge_seconds:.2f} | {peak_mb:.0f} "
                f"| {size_mb(path):.2f} |",
                flush=True,
            )
        stacks_gmac = open_artefact(folder / "stacks.tflite").gmac_512
        edge_seconds = statistics.median(edge_times)
        source = folder / "series"
        write_series(
            volume_hu, source, pixel_spacing_mm=(0.75, 0.75), slice_spacing_mm=3.0, description="Benchmark"
        )
        kpn = [sys.executable, "-m", "kpn_tf.cli", "denoise", source, folder / "denoised"]
        document, job_seconds, job_mb = measured(*kpn, "--weights", "edge", "--threads", THREADS, "--json")
    (series,) = json.loads(document)["series"]
    inside_seconds = JOB_SLICES * series["inference_seconds_per_slice"]
    print(
        "\n| | measured | target |\n|---|---:|---:|\n"
        f"| edge, one slice | {edge_seconds:.3f} s | {TARGET_SECONDS:.2f} s |\n"
        f"| peak memory, a process that denoises one slice | {slice_mb:.0f} MB | {TARGET_MB} MB |\n"
        f"| the same, five slices | {measured_of[_STACKS][1]:.0f} MB | {TARGET_MB} MB |\n"
        f"| five slices, GMAC a slice | {stacks_gmac:.1f} | {TARGET_GMAC} |\n"
        f"| five slices, times as fast as RED-CNN | {measured_of[_REDCNN][0] / measured_of[_STACKS][0]:.0f} "
        f"| {TARGET_TIMES} |\n"
        f"| `kpn denoise`, {JOB_SLICES} slices, start to end of the process | {job_seconds:.1f} s | |\n"
        f"| the same, over {JOB_SLICES} times the inference alone | {job_seconds / JOB_SLICES / edge_seconds:.2f} "
        f"| {TARGET_JOB_RATIO} |\n"
        f"| the same, over the inference inside the job | {job_seconds / inside_seconds:.2f} | |\n"
        f"| peak memory of that process | {job_mb:.0f} MB | |\n",
        flush=True,
    )
    print(measured(sys.executable, "-m", "benchmarks.training_rate")[0], end="")


if __name__ == "__main__":
    main()
