"""A scratch store: a place on disk for the slices of one training that has no prepared one."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from kpn_tf.locks import hold

_PREFIX, _LOCK = "slices-", "in_use"


@contextlib.contextmanager
def scratch(run):
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
            # Windows deletes no file that is still mapped into memory: the next training does.
            tempfile.TemporaryDirectory(prefix=_PREFIX, dir=run, ignore_cleanup_errors=True) as folder,
            hold(Path(folder) / _LOCK),
        ):
            yield Path(folder) / "store"
    finally:
        with contextlib.suppress(OSError):
            run.rmdir()


def _remove_unused(folder):
    """Removes a folder whose lock nobody holds: another worker of the same run may be alive."""
    with contextlib.suppress(OSError):
        lock = hold(folder / _LOCK, create=False)
        # Windows deletes no file that is open.
        lock.release()
        if lock.exclusive:
            shutil.rmtree(folder)
