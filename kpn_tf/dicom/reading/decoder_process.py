"""Decoders in a process of their own: damaged data ends that process, not the job, and a slow file can be given up.

All of them are native code that nothing else in their process runs beside: they hold the interpreter's lock, so that
not even a signal would be noticed before they end.

A request is length, rows, columns, precision (four uint32), 64 bytes of transfer syntax, then the codestream. The
answer is the pixels or the reason (`kpn_tf.child_process.read_answer`).
"""

import os
import struct
import threading

from kpn_tf.child_process import ChildEndedError, ChildProcess, read_answer

_REQUEST = struct.Struct("<IIII64s")

# A slice takes 10 ms; a decoder lost in damaged data would hold the job for ever.
_TIMEOUT_S = 60.0

_SCRIPT = os.path.join(os.path.dirname(__file__), "decoder_worker.py")

_lock = threading.Lock()
_worker = None


def decode(codestream, transfer_syntax, rows, columns, precision):
    """Decodes one frame of JPEG, JPEG-LS or JPEG 2000 with one sample per pixel.

    Args:
        codestream: bytes.
        transfer_syntax: UID, str.
        rows: Rows, checked against the codestream by the caller.
        columns: Columns, likewise.
        precision: Bits per sample of the codestream.

    Returns:
        Samples of 1 byte if `precision` is at most 8, else of 2, little endian, bytes.

    Raises:
        ValueError: If the data is damaged, or takes longer than a minute.
    """
    global _worker
    request = _REQUEST.pack(len(codestream), rows, columns, precision, transfer_syntax.encode())
    with _lock:
        if _worker is None or not _worker.running:
            _worker = ChildProcess(_SCRIPT)
        try:
            status, payload = _worker.ask(request + codestream, read_answer, _TIMEOUT_S)
        except ChildEndedError:
            raise ValueError("the compressed data is damaged: the decoder broke down on it") from None
    if status != 0:
        raise ValueError(payload.decode("utf-8", "replace"))
    return payload


def stop_decoding():
    """Ends what another thread decodes at this moment: its `decode` fails."""
    worker = _worker
    if worker is not None:
        worker.kill()
