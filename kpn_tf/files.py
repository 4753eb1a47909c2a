"""Files that are written atomically, and when they are safely on disk."""

import contextlib
import os
import secrets


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


@contextlib.contextmanager
def replacing(path, *, private=False):
    """Lends a file beside the one that is to be written: it takes that one's place if all goes well, else it goes.

    Args:
        path: A `pathlib.Path`; an older file there is replaced.
        private: Whether it shall be readable by its owner alone (mode 0600): it holds patient data.

    Yields:
        Path of an empty file.

    Raises:
        OSError: If it cannot be written.
    """
    # Without the file's own name, which may be as long as a name can be.
    part = path.with_name(f".kpn-{secrets.token_hex(8)}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


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
