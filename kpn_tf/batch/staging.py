"""The private folder in which a run builds its series before they appear, whole, in the output folder."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from kpn_tf.files import move, publish, sync_folder
from kpn_tf.locks import HeldError, hold

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


class Stage:
    """A private folder in which series are built, each published by one rename within a file system.

    Args:
        output: The output folder.
        folder: The private folder inside of it.
    """

    def __init__(self, output, folder=None):
        self.output = Path(output)
        self.folder = folder

    def open_series(self, name):
        """Makes the private folder of one series and returns its path."""
        folder = self.folder / name
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(self.output, error) from error
        return folder

    def drop_series(self, name):
        """Removes the private folder of one series."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

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
            sync_folder(self.folder / name)
            move(self.folder / name, target)
        except OSError as error:
            self.drop_series(name)
            if os.path.lexists(target):
                return None
            raise OutputError(self.output, error) from error
        return target

    def publish_file(self, path, place):
        """Moves a finished file to its place below the output folder.

        Returns:
            Its path there, or `None` if its place is taken.

        Raises:
            OSError: If it cannot be moved for any other reason.
        """
        target = self.output / place
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            publish(path, target)
        except FileExistsError:
            return None
        return target

    def join_series(self, name):
        """Moves what a finished series has, slice by slice, into the folder that holds a part of it; none is replaced.

        Returns:
            Paths there that were taken.

        Raises:
            OutputError: If the folder cannot be written to.
        """
        target, taken = self.output / name, []
        try:
            for path in sorted((self.folder / name).iterdir()):
                try:
                    publish(path, target / path.name)
                except FileExistsError:
                    taken.append(target / path.name)
        except OSError as error:
            raise OutputError(self.output, error) from error
        finally:
            self.drop_series(name)
        return taken


class Staging(Stage):
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
        super().__init__(output)
        self._lock = None

    def __enter__(self):
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            while self._lock is None:
                self.folder = self.output / f"{_PREFIX}{secrets.token_hex(8)}"
                self.folder.mkdir(mode=0o700)
                self._lock = _claim(self.folder / _LOCK)
        except OSError as error:
            self._remove()
            raise OutputError(self.output, error) from error
        return self

    def __exit__(self, *exception):
        self._remove()

    def _remove(self):
        if self.folder is not None:
            _remove(self.folder, self._lock)


class GuestStaging(Stage):
    """A private folder inside of the `Staging` of another process, perhaps on another machine; removed on leaving.

    Once the host is gone nothing can be published any more. What is published under a name that is there already
    joins it: the slices that it lacks appear in it one by one, and none is replaced.

    Args:
        output: The output folder.
        host: Folder of the `Staging`.

    Raises:
        OutputError: If the folder cannot be made.
    """

    def __init__(self, output, host):
        super().__init__(output, Path(host) / secrets.token_hex(8))

    def __enter__(self):
        try:
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(self.output, error) from error
        return self

    def __exit__(self, *exception):
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish_series(self, name):
        """Moves a finished series, or what is missing of it, to its place; see `Stage.publish_series`."""
        target = self.output / name
        if not target.is_dir():
            published = super().publish_series(name)
            # Another guest may have been faster with the same series.
            return target if published is None and target.is_dir() else published
        self.join_series(name)
        return target


def sweep(output):
    """Removes what killed runs left in an output folder; folders of runs that may be alive stay.

    Args:
        output: The output folder.
    """
    for folder in Path(output).glob(f"{_PREFIX}*"):
        try:
            lock = hold(folder / _LOCK, create=False)
        except HeldError:
            continue  # By a living run.
        except OSError:
            # Killed before it had a lock, or just being made: an empty folder is no loss to either.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        if lock.exclusive:
            _remove(folder, lock)
        else:
            lock.release()  # A file system without locks: not surely dead.


def _remove(folder, lock):
    """Removes a private folder. Under another name first: a guest that lives on can publish no series half removed."""
    gone = folder.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        move(folder, gone)
    if lock is not None:
        lock.release()
    # Windows moves no folder in which a file is open.
    with contextlib.suppress(OSError):
        move(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _claim(path):
    """Creates and locks a lock file; `None` if a sweep by another run was faster."""
    try:
        return hold(path)
    except (FileNotFoundError, HeldError):
        return None
