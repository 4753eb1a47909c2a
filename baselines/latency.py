"""What a slice, a process and a job cost on this machine, beside the targets and RED-CNN: `make bench`.

Nothing passes or fails here. Times say something only on a machine that does nothing else meanwhile, which is why
the load is printed with them; the ratio to RED-CNN stands a little more.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from baselines.redcnn import REDCNN
from kpn_tf import __version__
from kpn_tf.denoiser.artefact import open_artefact
from kpn_tf.denoiser.devices import cpu_name, physical_cores
from kpn_tf.phantom import torso, write_series

SIDE = 512
THREADS = 2
JOB_SLICES = 100
# RED-CNN takes seconds where `edge` takes tenths: after each of its runs `edge` has several.
REDCNN_RUNS, EDGE_RUNS_EACH = 3, 3

TARGET_SECONDS, TARGET_MB, TARGET_JOB_RATIO = 0.20, 350, 1.3

_ONE_SLICE = (
    "import numpy; from kpn_tf import Denoiser; "
    f"Denoiser('edge', threads={THREADS})(numpy.zeros(({SIDE}, {SIDE}), 'float32'))"
)

# A process inherits the peak of whoever started it until then: this one is small, whoever started it.
_LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
finished = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - began
if finished.returncode:
    sys.exit(finished.stderr)
print(json.dumps([finished.stdout, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def measured(*command):
    """Runs a command in a process of its own.

    Args:
        command: Program and arguments.

    Returns:
        What it printed, the seconds from its start to its end, and its peak resident memory in MB (1e6 bytes).

    Raises:
        subprocess.CalledProcessError: If it fails; its complaint goes to standard error.
    """
    launched = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *map(str, command)], stdout=subprocess.PIPE, text=True, check=True
    )
    output, seconds, peak = json.loads(launched.stdout)
    # getrusage(2): kilobytes, except on macOS.
    return output, seconds, peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def write_redcnn(network, path):
    """Writes RED-CNN as a .tflite of one size: made for any size, LiteRT takes twice as long over it."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(network)
        signature = [tf.TensorSpec((1, SIDE, SIDE, 1), tf.float32, name="slice_hu")]
        archive.add_endpoint("serving_default", network.call, input_signature=signature)
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        path.write_bytes(converter.convert())


def seconds_per_slice(edge_path, redcnn_path, slice_hu):
    """Medians of inference in LiteRT, `(edge, RED-CNN)`, the two taking turns in this process."""
    batch_hu = slice_hu[None, :, :, None]  # (1, H, W, 1)

    def ready(path):
        interpreter = Interpreter(model_path=str(path), num_threads=THREADS)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], batch_hu.shape)
        interpreter.allocate_tensors()
        return interpreter

    def seconds(interpreter):
        began = time.perf_counter()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch_hu)
        interpreter.invoke()
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return time.perf_counter() - began

    edge, redcnn = ready(edge_path), ready(redcnn_path)
    seconds(edge)  # The first run touches memory for the first time.
    edge_seconds, redcnn_seconds = [], []
    for _ in range(REDCNN_RUNS):
        redcnn_seconds.append(seconds(redcnn))
        edge_seconds += [seconds(edge) for _ in range(EDGE_RUNS_EACH)]
    return statistics.median(edge_seconds), statistics.median(redcnn_seconds)


def noisy_torso():
    """Few slices of the torso over and over, each with noise of its own: `(JOB_SLICES, H, W)` in HU."""
    body_hu = torso(SIDE, SIDE, slices=4, slice_spacing_mm=20.0).volume_hu
    noise_hu = np.random.default_rng(11).standard_normal((JOB_SLICES, SIDE, SIDE), np.float32) * 24
    return body_hu[np.arange(JOB_SLICES) % len(body_hu)] + noise_hu


def main():
    """Measures, and prints two tables."""
    edge, network = open_artefact("edge"), REDCNN()
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("ai-edge-litert", "numpy"))
    print(
        f"{cpu_name()}, {physical_cores()} physical cores, {THREADS} threads, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, kpn_tf {__version__}, {versions}; "
        f"weights {edge.version}, sha256 {edge.sha256[:12]}\n",
        flush=True,
    )
    _, _, slice_mb = measured(sys.executable, "-c", _ONE_SLICE)
    volume_hu = noisy_torso()
    with tempfile.TemporaryDirectory() as folder:
        source, redcnn_path = Path(folder, "series"), Path(folder, "redcnn.tflite")
        write_redcnn(network, redcnn_path)
        redcnn_bytes = redcnn_path.stat().st_size
        edge_seconds, redcnn_seconds = seconds_per_slice(edge.path, redcnn_path, volume_hu[0])
        print(
            f"| LiteRT, {SIDE}x{SIDE} | ms per slice | times edge | GMAC | parameters | file (MB) |\n"
            "|---|---:|---:|---:|---:|---:|\n"
            f"| edge | {1e3 * edge_seconds:.0f} | 1 | {edge.gmac_512} | {edge.parameters:,} "
            f"| {edge.path.stat().st_size / 1e6:.2f} |\n"
            f"| RED-CNN, untrained | {1e3 * redcnn_seconds:.0f} | {redcnn_seconds / edge_seconds:.1f} "
            f"| {network.gmac(SIDE, SIDE):.0f} | {network.count_params():,} | {redcnn_bytes / 1e6:.2f} |\n",
            flush=True,
        )
        write_series(
            volume_hu, source, pixel_spacing_mm=(0.75, 0.75), slice_spacing_mm=3.0, description="Benchmark"
        )
        kpn = [sys.executable, "-m", "kpn_tf.cli", "denoise", source, Path(folder, "denoised")]
        document, job_seconds, job_mb = measured(*kpn, "--threads", THREADS, "--json")
    (series,) = json.loads(document)["series"]
    inside_seconds = JOB_SLICES * series["inference_seconds_per_slice"]
    print(
        "| | measured | target |\n|---|---:|---:|\n"
        f"| edge, one slice | {edge_seconds:.3f} s | {TARGET_SECONDS:.2f} s |\n"
        f"| peak memory, a process that denoises one slice | {slice_mb:.0f} MB | {TARGET_MB} MB |\n"
        f"| `kpn denoise`, {JOB_SLICES} slices, start to end of the process | {job_seconds:.1f} s | |\n"
        f"| the same, over {JOB_SLICES} times the inference alone | {job_seconds / JOB_SLICES / edge_seconds:.2f} "
        f"| {TARGET_JOB_RATIO} |\n"
        f"| the same, over the inference inside the job | {job_seconds / inside_seconds:.2f} | |\n"
        f"| peak memory of that process | {job_mb:.0f} MB | |"
    )


if __name__ == "__main__":
    main()
