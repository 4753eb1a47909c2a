"""When a file is safely on disk."""

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
