"""The private folder in which a run builds its series before they appear, whole, in the output folder."""

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from kpn_tf.files import sync_folder

_PREFIX = ".kpn-partial-"
_LOCK = "lock"


class OutputError(OSError):
    """The output folder cannot be written; one sentence that says why."""

    def __init__(self, output, error):
        # The system's own words are at the root: pydicom wraps them into a text of many lines.
        while getattr(error, "strerror", None) is None and (error.__cause__ or error.__context__):
            error = error.__cause__ or error.__context__
        super().__init__(
            f"cannot write to {output}: {getattr(error, 'strerror', None) or type(error).__name__}"
        )

    def __str__(self):
        return self.args[0]


class Staging:
    """A hidden folder, mode 0700, inside the output folder; removed on leaving, whatever happened.

    It lies in the output folder so that publishing a series is one rename within a file system. The lock in
    it is held as long as the process lives, and the system lets go of it even after `kill -9`: that is how
    a later run tells a dead run's folder from a living one's.

    Args:
        output: The output folder; made if it does not exist.

    Raises:
        OutputError: If the folder cannot be made.
    """

    def __init__(self, output):
        self.output = Path(output)
        self._folder = None
        self._lock = None

    def __enter__(self):
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            while self._lock is None:
                self._folder = self.output / f"{_PREFIX}{secrets.token_hex(8)}"
                self._folder.mkdir(mode=0o700)
                self._lock = _claim(self._folder / _LOCK)
        except OSError as error:
            self._remove()
            raise OutputError(self.output, error) from error
        return self

    def __exit__(self, *exception):
        self._remove()

    def _remove(self):
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def open_series(self, name):
        """Makes the private folder of one series and returns its path."""
        folder = self._folder / name
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(self.output, error) from error
        return folder

    def drop_series(self, name):
        """Removes the private folder of one series."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def publish_series(self, name):
        """Moves a finished series to its place in the output folder.

        Returns:
            The folder it is in now, or `None` if its place is taken; the series is dropped then.

        Raises:
            OutputError: If the rename fails for any other reason.
        """
        target = self.output / name
        if os.path.lexists(target):
            self.drop_series(name)
            return None
        try:
            # The slices are on disk already; this makes their names last as well as their contents.
            sync_folder(self._folder / name)
            os.rename(self._folder / name, target)
            sync_folder(self.output)
        except OSError as error:
            self.drop_series(name)
            if os.path.lexists(target):
                return None
            raise OutputError(self.output, error) from error
        return target


def sweep(output):
    """Removes what killed runs left in an output folder; folders of runs that may be alive stay.

    Args:
        output: The output folder.
    """
    for folder in Path(output).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            # Killed before it had a lock, or just being made: an empty folder is no loss to either.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # Held by a living run, or a file system without locks: not surely dead.
        finally:
            os.close(lock)


def _claim(path):
    """Creates and locks a lock file; `None` if a sweep by another run was faster."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        return lock  # No locks on this file system: then no sweep can lock it either, and leaves it alone.
    if not os.path.exists(path):
        os.close(lock)
        return None
    return lock
