"""What every test runs under: one Keras backend, quiet libraries, and real CT where there is some."""

import os
from pathlib import Path

import pytest

# Read by the libraries when they are first imported, hence before any test module is.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def ct_data():
    """The folder with real CT that the environment variable KPN_TEST_DATA names."""
    folder = os.environ.get("KPN_TEST_DATA")
    if not folder:
        pytest.skip("KPN_TEST_DATA is unset: it names the folder with real CT (normal_dose/, phantom/, ...)")
    folder = Path(folder).resolve()
    if not folder.is_dir():
        pytest.fail(f"Expected KPN_TEST_DATA to name a folder. Received: {folder}; correct it or unset it")
    return folder
