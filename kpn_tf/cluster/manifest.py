"""What has become of every series of an archive: a JSON object per line, beside them; nothing names a patient."""

import dataclasses
import json
import os

from kpn_tf import __version__
from kpn_tf.batch.staging import OutputError
from kpn_tf.locks import HeldError, hold

NAME = "kpn-manifest.jsonl"
_LOCK = f".{NAME}.lock"


class Manifest:
    """The file in an output folder that tells what each run has done there; the last line about a series counts.

    It tells, and decides nothing: whether a series is done is seen from the series itself. Every line is on disk
    before the next series is reported. One run writes at a time.

    Args:
        output: The output folder, a `pathlib.Path`; made if needed.
        denoiser: The `Denoiser` of the run; each line says which network.

    Raises:
        OutputError: If the file cannot be written.
        OSError: If it belongs to a run that lives.
    """

    def __init__(self, output, denoiser):
        self._path = output / NAME
        self._run = {"kpn_tf": __version__, "network": denoiser.identity._asdict()}
        self._file = None
        self._lock = None

    def __enter__(self):
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not the manifest itself: Windows lets nobody read what is locked.
            self._lock = hold(self._path.with_name(_LOCK))
        except HeldError:
            raise OSError(
                f"Expected one run at a time to write to {self._path.parent}. Received: {NAME}, which another run "
                "holds; wait for its end"
            ) from None
        except OSError as error:
            raise OutputError(self._path.parent, error) from error
        try:
            # Closed for others, as the series are.
            self._file = open(self._path, "a+b", buffering=0, opener=_private)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    # A run that was killed has left half a line.
                    self._file.write(b"\n")
        except OSError as error:
            self._close()
            raise OutputError(self._path.parent, error) from error
        return self

    def __exit__(self, *exception):
        self._close()

    def _close(self):
        if self._file is not None:
            self._file.close()
        self._lock.remove()

    def add(self, report):
        """Writes down what has become of a series, a `SeriesReport`."""
        line = json.dumps({**self._run, **dataclasses.asdict(report)}, allow_nan=False)
        try:
            self._file.write(line.encode() + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(self._path.parent, error) from error


def _private(path, flags):
    return os.open(path, flags, 0o600)


def read_manifest(output):
    """Reads what the runs into an output folder have done.

    Args:
        output: The output folder, a `pathlib.Path`.

    Returns:
        Dict from the derived SeriesInstanceUID to the last line about it, a dict with the fields of `SeriesReport`, of
        the `network`, and `kpn_tf`, the version that wrote it. Half a line, left by a killed run, is
        passed over.
    """
    try:
        lines = (output / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    series = {}
    for line in lines:
        try:
            told = json.loads(line)
            series[told["derived_uid"]] = told
        except (ValueError, TypeError, KeyError):
            continue
    return series
