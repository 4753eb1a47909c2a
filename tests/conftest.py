"""What every test runs under: one Keras backend, quiet libraries, and real CT where there is some."""

import os
from pathlib import Path

import filelock
import hypothesis
import pytest

# Read by the libraries when they are first imported, hence before any test module is.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Each worker of pytest-xdist has a core; threads of one would wait for those of another.
for threads in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

# The same examples in every run, and no deadline for one: a busy machine is not a fault of the code.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items):
    """Files that mostly wait for other processes come first: what `make test` runs beside them needs a core then."""
    items.sort(key=lambda item: not item.path.name.startswith(("test_node", "test_watch")))


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


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function of a name and of what fills a folder: the folder, filled once for all processes of a run."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent

    def made(name, fill):
        folder = session / f"made-{name}"
        with filelock.FileLock(f"{folder}.lock"):
            if not folder.exists():
                partial = folder.with_name(f"{folder.name}.partial")
                partial.mkdir()
                fill(partial)
                partial.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def written_phantom_twin(made_once):
    """The twin of the PHANTOM protocol; whoever changes it takes a copy."""
    from kpn_tf.datasets.phantom_twin import phantom_twin

    return made_once("phantom-twin", phantom_twin)


@pytest.fixture(scope="session")
def written_nih_twin(made_once):
    """The twin of the NIH protocol; whoever changes it takes a copy."""
    from kpn_tf.datasets import nih_twin

    return made_once("nih-twin", nih_twin)


@pytest.fixture(scope="session")
def written_dose_twin(made_once):
    """The twin of the DOSE protocol; whoever changes it takes a copy."""
    from kpn_tf.datasets import dose_twin

    return made_once("dose-twin", dose_twin)
