"""Originals for a destination that does not take them as they came: re-encoded, or, where a rule says so, decompressed.

Uncompressed pixels are copied here. Damaged ones can end a decoder, and a decoder its process: what is compressed is
decompressed in a process of its own.
"""

import contextlib
import time

from pydicom import uid

from kpn_tf.dicom.refusal import DicomError
from kpn_tf.dicom.writing.reencoding import reencode
from kpn_tf.node.network.worker_process import Worker, WorkerError

# What objects are sent in that are not sent as they came, most wanted first.
PLAIN = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)

_REENCODED = {*PLAIN, uid.ExplicitVRBigEndian}

# 8192 frames of 512 x 512 pixels take some three minutes.
_DEADLINE_S = 600.0


class Reencoder:
    """Makes copies of objects in other transfer syntaxes.

    Args:
        folder: Where they are kept as long as they are needed.
    """

    def __init__(self, folder):
        self._folder = folder
        self._worker = Worker(_DEADLINE_S, "kpn_tf.node.reencoding_worker")

    @contextlib.contextmanager
    def copy(self, path, syntax, wanted):
        """Makes a copy in another transfer syntax.

        Args:
            path: The object.
            syntax: Its transfer syntax.
            wanted: One of `PLAIN`.

        Yields:
            Path of the copy, which is deleted afterwards.

        Raises:
            DicomError: If there can be none; its reason is a sentence.
            OSError: If it cannot be written.
        """
        copy = self._folder / f"{time.time_ns()}"
        try:
            if syntax in _REENCODED:
                reencode(path, copy, uid.UID(wanted))
            else:
                self._decompress(path, copy, wanted)
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _decompress(self, path, copy, wanted):
        try:
            answer = self._worker.ask({"path": str(path), "copy": str(copy), "syntax": str(wanted)})
        except WorkerError:
            raise DicomError(path, "cannot be decompressed: its decoder ended without an answer") from None
        if not answer["ok"]:
            reason = answer["reason"]
            raise DicomError(path, f"cannot be decompressed ({reason})" if answer.get("passing") else reason)

    def stop(self):
        """Ends the process."""
        self._worker.stop()


def can_become(syntax, decompress):
    """The transfer syntaxes in which an object can be sent, most wanted first.

    Args:
        syntax: Its own.
        decompress: Whether it may be decompressed.
    """
    return dict.fromkeys((syntax, *(PLAIN if decompress or syntax in _REENCODED else ())))
