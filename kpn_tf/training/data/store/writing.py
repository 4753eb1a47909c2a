"""Slices -> a store, series by series, each atomically; a writer that was killed resumes after the last."""

import hashlib
import hmac
import json
import secrets
from pathlib import Path

import numpy as np

from kpn_tf.files import remove_parts, replacing, sync_folder, write_text
from kpn_tf.locks import HeldError, hold
from kpn_tf.training.data.store.manifest import (
    FORMAT,
    MANIFEST,
    UNFINISHED,
    VERSION,
    EmptyStoreError,
    StoreError,
    check_version,
    read_json,
    record,
    write_manifest,
)
from kpn_tf.training.data.store.reading import about_name, data_name

_LOCK = ".lock"

# Of what describes a series, that which a training needs.
_IN_MANIFEST = ("slices", "rows", "columns", "noise_std_hu", "weight", "normal_sha256", "bytes")


class StoreWriter:
    """Writes a store: `with StoreWriter(folder, origin) as store: store.add(...); store.finish()`.

    Names of patients and series are hashed with a salt that is thrown away at the end: until then a patient gets the
    same pseudonym again, afterwards nobody can try names. A store that was not finished is gone on with.

    Args:
        folder: A new or empty folder, or an unfinished store.
        origin: String that decides what is drawn at random: the same whenever the writing goes on.

    Raises:
        StoreError: If the folder holds something else, a finished store, one of another version or origin, or if
            another process is writing it.
    """

    def __init__(self, folder, origin):
        self.folder = Path(folder)
        self._lock = _claimed(self.folder)
        try:
            self._open(origin)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._lock.release()

    def _open(self, origin):
        remove_parts(self.folder)
        about = self.folder / UNFINISHED
        if not about.exists():
            stated = {"format": FORMAT, "version": VERSION, "origin": origin, "salt": secrets.token_hex(32)}
            write_text(about, json.dumps(stated) + "\n")
        stated = read_json(about)
        check_version(self.folder, stated)
        if stated["origin"] != origin:
            raise StoreError(
                f"Expected the seed that {self.folder} was begun with. Received: another; say that one, or choose "
                "a new folder"
            )
        self._salt = bytes.fromhex(stated["salt"])
        self._series = []
        while (path := self.folder / about_name(len(self._series))).exists():
            self._series.append(read_json(path))
        self._by_key = {one["series"]: one for one in self._series}

    def find(self, identity):
        """What the store says of a series that it holds already; `None` if it does not.

        Args:
            identity: String that no other series has.

        Returns:
            Dict, with the number of `slices`.
        """
        return self._by_key.get(self._pseudonym(identity))

    def add(self, slices, count, *, identity, patient, pixel_mm, spectrum, shape):
        """Writes a series atomically.

        Args:
            slices: Iterable of `TrainingSlice`, all of one shape and weight.
            count: How many they are.
            identity: String that no other series has.
            patient: String that only series of the same patient have.
            pixel_mm: Side of a pixel in mm.
            spectrum: `kpn_tf.dose.simulation.NoiseSpectrum` of their own noise.
            shape: `(H, W)` of a slice in pixels.

        Raises:
            OSError: If it cannot be written.
        """
        number, layout = len(self._series), record(*shape)
        with replacing(self.folder / data_name(number)) as part, open(part, "wb") as file:
            kept = _write(file, slices, count, layout)
            size = file.tell()
        rows, columns = shape
        one = {
            "slices": count,
            "rows": rows,
            "columns": columns,
            "pixel_mm": pixel_mm,
            "patient": self._pseudonym(patient),
            "series": self._pseudonym(identity),
            "noise_spectrum": {
                "frequency_per_mm": list(spectrum.frequency_per_mm),
                "density": list(spectrum.density),
            },
            **kept,
            "bytes": size,
        }
        write_text(self.folder / about_name(number), json.dumps(one) + "\n")
        self._series.append(one)
        self._by_key[one["series"]] = one

    def finish(self):
        """Declares the store finished and forgets the salt.

        Returns:
            Number of slices in it.

        Raises:
            EmptyStoreError: If there is none; then nothing is left of the store.
        """
        if self._series:
            write_manifest(self.folder, [{name: one[name] for name in _IN_MANIFEST} for one in self._series])
        (self.folder / UNFINISHED).unlink()
        self._lock.remove()
        sync_folder(self.folder)
        if not self._series:
            self.folder.rmdir()
            raise EmptyStoreError(
                "Expected a normal-dose series that can be used. Received: none; no store is made"
            )
        return sum(one["slices"] for one in self._series)

    def _pseudonym(self, name):
        return hmac.new(self._salt, name.encode(), hashlib.sha256).hexdigest()[:16]


def _claimed(folder):
    """The lock of a folder in which a store may be written; the folder is made if it is not there."""
    if (folder / MANIFEST).exists():
        raise StoreError(
            f"Expected a new folder, or a store that is not finished. Received: {folder}, a finished store; train "
            "with it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(".") for path in folder.iterdir()) and not (folder / UNFINISHED).exists():
        raise StoreError(
            f"Expected a new or empty folder for the store. Received: {folder}, which holds other files"
        )
    try:
        return hold(folder / _LOCK)
    except HeldError:
        raise StoreError(
            f"Expected a store that nobody writes. Received: {folder}, which another kpn prepare writes; wait for it"
        ) from None


def _write(file, slices, count, layout):
    """Writes the slices of a series as a `.npy` file; returns their noise, weight and the hash of their pixels."""
    header = {"descr": np.lib.format.dtype_to_descr(layout), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
    digest, strengths_hu = hashlib.sha256(), []
    one = np.zeros((), layout)
    for source in slices:
        one["normal_hu"], one["noise"] = source.normal_hu, source.noise
        digest.update(one["normal_hu"].tobytes())
        file.write(one.tobytes())
        strengths_hu.append(float(source.noise_std_hu))
        weight = source.weight
    return {"noise_std_hu": strengths_hu, "weight": float(weight), "normal_sha256": digest.hexdigest()}
