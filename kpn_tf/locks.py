"""Files that one process at a time holds; the system lets go of them when that process ends, however it ends."""

import contextlib
import os
import time

from filelock import lock_descriptor

_PAUSE_S = 0.05


class HeldError(OSError):
    """Another living process holds the file."""


class Lock:
    """A file that is held until `release`, `remove` or the end of the process; made by `hold`.

    Args:
        path: The file.
        handle: Its open descriptor.
        exclusive: False where the file system has no locks: then nobody is kept out.
    """

    def __init__(self, path, handle, exclusive):
        self._path = path
        self._handle = handle
        self.exclusive = exclusive

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()

    def release(self):
        """Lets go of the file; a second time it does nothing. Windows deletes and moves no file that is open."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def remove(self):
        """Deletes the file and lets go of it; nobody who opened it before can hold it afterwards."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self.release()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def hold(path, *, create=True, patience_s=0.0):
    """Takes hold of a file, which is empty and serves nothing else.

    Args:
        path: The file.
        create: Whether it is made, for its owner alone, if it is not there.
        patience_s: Seconds to wait for another process to let go.

    Returns:
        A `Lock`.

    Raises:
        HeldError: If another process holds it.
        FileNotFoundError: If it is not there and not to be made, or its folder is not there.
        OSError: If it cannot be opened.
    """
    deadline = time.monotonic() + patience_s
    while (lock := _try(path, create)) is None:
        if time.monotonic() >= deadline:
            raise HeldError(f"another process holds {path}")
        time.sleep(_PAUSE_S)
    return lock


def _try(path, create):
    # Windows has no symbolic link that an ordinary user could put there.
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            held = lock_descriptor(handle, blocking=False)
            exclusive = True
        except OSError:
            # A file system without locks.
            held, exclusive = True, False
        try:
            if not held:
                os.close(handle)
                return None
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                return Lock(path, handle, exclusive)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        # Removed by whoever held it meanwhile.
        os.close(handle)
