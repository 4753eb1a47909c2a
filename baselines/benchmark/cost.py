"""What a slice costs with a method: seconds and memory, in a process of its own on the CPU."""

import json
import statistics
import subprocess
import sys

import numpy as np

from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.phantom import torso

# Rows and columns of the slice, and the noise of a quarter dose in it.
SIDE, PIXEL_MM, NOISE_HU = 512, 0.75, 24.0

# A process inherits the peak of whoever started it until then: this one is small, whoever started it.
_LAUNCHER = """
import json, subprocess, sys, time
try:
    import resource
except ModuleNotFoundError:
    sys.exit("peak memory can be measured on Linux and macOS only")
began = time.perf_counter()
finished = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - began
if finished.returncode:
    sys.exit(finished.stderr)
print(json.dumps([finished.stdout, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""

# Makes `denoise` of a method.
_METHOD = """
import os, sys
# A GPU runs some methods only, and its memory is none of the process.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
from baselines.benchmark.methods import denoiser, new_network
from baselines.benchmark.tables import Method
method = Method(sys.argv[1], sys.argv[2] or None, int(sys.argv[3]) or None)
denoise = denoiser(method, new_network(method) if method.is_trained else None)
"""

# One slice to compile and to touch the memory, then a few that count, at most so many seconds of them.
_TIMED = """
import sys, time, numpy as np
slice_hu = np.load(sys.argv[-1])
denoise(slice_hu)
seconds = []
while len(seconds) < 5 and sum(seconds) < 10:
    began = time.perf_counter()
    denoise(slice_hu)
    seconds.append(time.perf_counter() - began)
print(*seconds)
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


def timed(code, *words):
    """Times a denoiser in a process of its own.

    Args:
        code: Python that makes `denoise`, a function of a slice, of `sys.argv[1:]`.
        words: `sys.argv[1:]`; the last is a `.npy` with the slice.

    Returns:
        Median of the seconds a slice takes, and the peak resident memory of the process in MB.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    printed, _, peak_mb = measured(sys.executable, "-c", code + _TIMED, *words)
    return statistics.median(map(float, printed.split())), peak_mb


def seconds_and_peak(method, slice_path):
    """Times a method, a network with the weights it starts from: what it has learnt changes nothing of its cost.

    Args:
        method: `baselines.benchmark.tables.Method` that does something.
        slice_path: A `.npy` with a slice `(H, W)` in HU.

    Returns, Raises: As `timed`.
    """
    return timed(_METHOD, method.kind, method.loss or "", method.kernel_size or 0, slice_path)


def noisy_slice():
    """A slice of the digital torso with the noise of a quarter dose, `(SIDE, SIDE)` in HU."""
    (slice_hu,) = torso(SIDE, SIDE, 1, PIXEL_MM).volume_hu
    noise_hu = noise_field(slice_hu, PIXEL_MM, NOISE_HU, SPECTRA["soft"], np.random.default_rng(20210919))
    return slice_hu + noise_hu
