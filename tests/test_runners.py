"""What the benchmark times: each runtime by itself, and a naive network that does the same."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from tests.runner_process import answers

EDGE = WEIGHTS_FOLDER / "edge.keras"


@pytest.mark.slow
def test_kernels_and_patches_written_out_give_the_same_slice():
    slice_hu = np.random.default_rng(1).normal(0, 100, (1, 36, 52, 1)).astype("float32")
    expected_hu = keras.saving.load_model(EDGE, compile=False)(slice_hu)
    for denoised_hu in answers(EDGE, slice_hu, "run_naively", "run_artefact"):
        np.testing.assert_allclose(denoised_hu, expected_hu, atol=0.02)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml"])
def test_a_runtime_is_timed_without_the_others_in_memory(suffix, tmp_path):
    lines = (
        "import sys",
        "from export.runners import run_artefact",
        "try: run_artefact(sys.argv[1], 1)",
        "except Exception: pass",
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules), 'another runtime is loaded'",
    )
    command = [sys.executable, "-c", "\n".join(lines), tmp_path / f"edge{suffix}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
