"""Files and folders that appear atomically, and when they are safely on disk; all others write through this module."""

import contextlib
import os
import secrets
from pathlib import Path

# Hidden: nobody who lists the folder meanwhile takes the half-written file for a whole one.
_PREFIX = ".kpn-part-"


def sync_folder(folder):
    """Waits until the names in a folder are on disk: without it a file outlives a power cut, its name may not.

    Windows cannot open folders, and needs none of this.

    Args:
        folder: The folder.

    Raises:
        OSError: If the system cannot do it.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move(source, target):
    """Gives a finished file or folder its name; an older file there is replaced.

    Args:
        source: Where it is, on the same file system.
        target: A `pathlib.Path`.

    Raises:
        OSError: If that is not possible, as where a folder with content has the name.
    """
    os.replace(source, target)
    sync_folder(target.parent)


def publish(source, target):
    """Gives a finished file its name, unless the name is taken.

    Args:
        source: The file, on the same file system; it may stay under this name too.
        target: A `pathlib.Path`.

    Raises:
        FileExistsError: If the name is taken.
        OSError: If the folder cannot be written to.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network shares): reserve the name, then replace our own
        # empty file.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.replace(source, target)
    sync_folder(target.parent)


@contextlib.contextmanager
def replacing(path, *, private=False, suffix=""):
    """Lends a file beside the one that is to be written: it takes that one's place if all goes well, else it goes.

    Args:
        path: A `pathlib.Path`; an older file there is replaced.
        private: Whether it shall be readable by its owner alone (mode 0600): it holds patient data.
        suffix: What the name of the file that is lent ends in, for writers that look at it.

    Yields:
        Path of an empty file.

    Raises:
        OSError: If it cannot be written.
    """
    with _beside(path, 0o600 if private else 0o666, suffix) as part:
        yield part
        _sync(part)
        move(part, path)


@contextlib.contextmanager
def creating(path):
    """As `replacing`, for private files that replace none.

    Args:
        path: A `pathlib.Path`.

    Yields:
        Path of an empty file.

    Raises:
        FileExistsError: If there is something by now, whatever it is; it is left as it is.
        OSError: If it cannot be written.
    """
    with _beside(path, 0o600) as part:
        yield part
        _sync(part)
        publish(part, path)


def write_text(path, text):
    """Writes a file atomically; an older one is replaced.

    Args:
        path: A `pathlib.Path`.
        text: What goes into it, in UTF-8; lines end alike on every system.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def remove_parts(folder):
    """Removes what writers left that were killed.

    Args:
        folder: A folder in which nobody writes at the moment.
    """
    for part in Path(folder).glob(f"{_PREFIX}*"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _beside(path, mode, suffix=""):
    # Without the file's own name, which may be as long as a name can be.
    part = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{suffix}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _sync(part):
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
