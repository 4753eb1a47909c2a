"""Files that are written whole or not at all, and when they are safely on disk."""

import os


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


def write_text(path, text):
    """Writes a file whole or not at all; an older one is replaced.

    Args:
        path: A `pathlib.Path`.
        text: What goes into it, in UTF-8.

    Raises:
        OSError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
