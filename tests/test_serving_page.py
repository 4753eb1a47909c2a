"""docs/serving.md holds: its export runs, and its client gets slices denoised over HTTP."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from kpn_tf.cli.networks import load_network
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from tests.fresh_process import run_without
from tests.test_readme import blocks_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/serving.md"
BLOCKS = blocks_of(PAGE.read_text(encoding="utf-8"))
EXPORT, CLIENT, _ = (block for block in BLOCKS if block.language == "python")
ADDRESS = "http://localhost:8501"


@pytest.fixture(scope="module")
def network():
    return load_network(WEIGHTS_FOLDER / "edge.keras")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page's export has run."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copy(WEIGHTS_FOLDER / "edge.keras", folder / "network.keras")
    here = os.getcwd()
    os.chdir(folder)
    try:
        exec(compile("\n" * (EXPORT.line - 1) + EXPORT.code, PAGE.name, "exec"), {})
    finally:
        os.chdir(here)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """The address of a server of the page's export."""
    command = [sys.executable, str(ROOT / "tests/rest_server.py"), str(folder / "served/1"), "StructKPN-edge"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        port = process.stdout.readline().strip()
        assert port, (folder / "server.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=300)


@pytest.fixture(scope="module")
def slice_hu():
    return np.random.default_rng(8).normal(0, 200, (45, 58)).astype("int16")


@pytest.fixture(scope="module")
def expected_hu(network, slice_hu):
    return np.asarray(network(slice_hu.astype("float32")[None, :, :, None]))[0, :, :, 0]


def predicted(server, **request):
    answer = requests.post(f"{server}/v1/models/StructKPN-edge:predict", json=request, timeout=300)
    return answer.status_code, answer.json()


def test_the_client_of_the_page_gets_its_slice_denoised(server, slice_hu, expected_hu, tmp_path):
    assert ADDRESS in CLIENT.code
    np.save(tmp_path / "slice.npy", slice_hu)
    blocked = ["kpn_tf", "export", "tensorflow", "keras", "pydicom"]
    run_without(blocked, CLIENT.code.replace(ADDRESS, server), tmp_path)
    denoised = np.load(tmp_path / "denoised.npy")
    assert denoised.dtype == np.int16
    np.testing.assert_allclose(denoised, expected_hu, atol=0.55)


def test_slices_of_different_sizes_go_in_one_request_of_bytes(server, slice_hu, expected_hu):
    instances = [
        {
            "slice_bytes": {"b64": base64.b64encode(one.astype("<i2").tobytes()).decode()},
            "rows": one.shape[0],
            "columns": one.shape[1],
        }
        for one in (slice_hu, slice_hu[:30, 3:])
    ]
    status, answer = predicted(server, signature_name="bytes", instances=instances)
    assert status == 200
    whole, part = (np.frombuffer(base64.b64decode(p["b64"]), "<i2") for p in answer["predictions"])
    np.testing.assert_allclose(whole.reshape(45, 58), expected_hu, atol=0.55)
    assert part.size == 30 * 55


@pytest.mark.parametrize(
    ("words", "tolerance_hu"), [({}, 0.05), ({"signature_name": "int16"}, 0.55)], ids=["default", "int16"]
)
@pytest.mark.parametrize("named", [False, True])
def test_json_numbers_are_answered_with_json_numbers(
    server, slice_hu, expected_hu, words, tolerance_hu, named
):
    values = slice_hu[:, :, None].tolist()
    instance = {"slice_hu": values} if named else values
    status, answer = predicted(server, **words, instances=[instance])
    assert status == 200
    np.testing.assert_allclose(np.array(answer["predictions"])[0, :, :, 0], expected_hu, atol=tolerance_hu)


def test_bytes_that_are_not_the_slice_they_claim_to_be_are_refused_with_a_reason(server):
    instance = {"slice_bytes": {"b64": "AAAA"}, "rows": 3, "columns": 5}
    status, answer = predicted(server, signature_name="bytes", instances=[instance])
    assert status == 400
    assert "Expected slice_bytes of 2 * rows * columns bytes" in answer["error"]


def test_a_signature_that_is_not_there_is_refused(server):
    status, answer = predicted(server, signature_name="float64", instances=[[0.0]])
    assert status == 400
    assert "float64" in answer["error"]


def test_the_line_that_starts_the_server_names_the_files_that_were_written(folder):
    (docker,) = (block for block in BLOCKS if "docker run" in block.code)
    assert docker.reason
    mounted = '-v "$PWD/served:/models/StructKPN-edge:ro"'
    assert mounted in docker.code
    assert 'base_path: "/models/StructKPN-edge"' in (folder / "served/models.config").read_text()
    for flag, name in (
        ("--model_config_file", "models.config"),
        ("--batching_parameters_file", "batching.config"),
    ):
        assert f"{flag}=/models/StructKPN-edge/{name}" in docker.code
        assert (folder / "served" / name).is_file()
