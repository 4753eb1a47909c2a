"""What a store says of itself: one file that names its series, and a note in its place until all are there."""

import hashlib
import json
from pathlib import Path

import numpy as np

from kpn_tf.files import write_text
from kpn_tf.training.data.slices import FIELDS

MANIFEST = "kpn_store.json"
UNFINISHED = "kpn_store_unfinished.json"

FORMAT = "slices for the training of kpn_tf"
VERSION = 1


class StoreError(ValueError):
    """A store that cannot be read or written as it is; one sentence that says why and what to do."""


class EmptyStoreError(StoreError):
    """Nothing was found that could go into a store."""


def is_store(path):
    """True if a folder is a store, finished or not."""
    return any((Path(path) / name).is_file() for name in (MANIFEST, UNFINISHED))


def record(rows, columns):
    """How a slice lies on disk: HU, then its noise fields, row by row; nothing is compressed.

    Args:
        rows: Of the slice.
        columns: Of the slice.

    Returns:
        A NumPy `dtype`: a series is a `.npy` file with an array `(n,)` of it.
    """
    shape = (rows, columns)
    return np.dtype([("normal_hu", "<f4", shape), ("noise", "<f2", (FIELDS, *shape))])


def write_manifest(folder, series):
    """Declares a store finished.

    Args:
        folder: The store.
        series: List of dicts, one for each file.
    """
    about = {"format": FORMAT, "version": VERSION, "sha256": _sha256(series), "series": series}
    write_text(folder / MANIFEST, json.dumps(about) + "\n")


def read_manifest(folder):
    """Reads what a finished store holds.

    Args:
        folder: The store.

    Returns:
        List of dicts, one for each file, in order.

    Raises:
        StoreError: If the store is unfinished, of another version, or damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise StoreError(
            f"Expected a finished store. Received: {folder}, which kpn prepare is writing or was stopped in; "
            "wait for it, or say the same kpn prepare again"
        )
    about = read_json(folder / MANIFEST)
    check_version(folder, about)
    if about.get("sha256") != _sha256(about.get("series")):
        raise damaged(folder / MANIFEST, "its checksum is another")
    return about["series"]


def read_json(path):
    """Reads a JSON object of a store.

    Raises:
        StoreError: If it is none.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise damaged(path, "it is no JSON object")
    return about


def check_version(folder, about):
    """Makes sure that this version reads and writes such a store.

    Args:
        folder: The store.
        about: Its manifest.

    Raises:
        StoreError: If not.
    """
    if (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        raise StoreError(
            f"Expected a store of version {VERSION}. Received: {folder}, of version {about.get('version')}; "
            "make it anew with kpn prepare"
        )


def damaged(path, how):
    """The error for a file of a store that is not as it was written."""
    return StoreError(
        f"Expected a store as kpn prepare wrote it. Received: {path} is damaged: {how}; make the store anew"
    )


def _sha256(series):
    return hashlib.sha256(json.dumps(series, sort_keys=True).encode()).hexdigest()
