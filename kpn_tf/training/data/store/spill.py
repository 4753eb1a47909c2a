"""A place on disk for the slices of one training that has no prepared store."""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path

_PREFIX, _LOCK = "slices-", "in_use"


@contextlib.contextmanager
def spill(run):
    """Lends a folder inside a run folder, and removes it at the end; what a killed process left there goes first.

    Args:
        run: The run folder; made if it is not there, and removed if nothing else came into it.

    Yields:
        Where a store may be written.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    try:
        for folder in run.glob(f"{_PREFIX}*"):
            _remove_unused(folder)
        with (
            tempfile.TemporaryDirectory(prefix=_PREFIX, dir=run) as folder,
            open(Path(folder) / _LOCK, "wb") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder) / "store"
    finally:
        with contextlib.suppress(OSError):
            run.rmdir()


def _remove_unused(folder):
    """Removes a folder whose lock nobody holds: another worker of the same run may be alive."""
    with contextlib.suppress(OSError), open(folder / _LOCK, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
