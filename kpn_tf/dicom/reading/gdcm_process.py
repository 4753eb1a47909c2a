"""GDCM in a process of its own: damaged JPEG data ends that process, not the job.

Protocol over pipes: request = length, rows, columns, precision (four uint32), 64 bytes transfer syntax, then
the codestream; reply = status (0 decoded, 1 refused), length, then pixels or the reason.
"""

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading

REQUEST = struct.Struct("<IIII64s")
REPLY = struct.Struct("<BI")

# A slice takes 10 ms; a decoder lost in damaged data would hold the job for ever.
_TIMEOUT_S = 60.0

_lock = threading.Lock()
_worker = None
_worker_parent = None


def decode_jpeg(codestream, transfer_syntax, rows, columns, precision):
    """Decodes one JPEG frame (lossless, or lossy of 12 bits).

    Args:
        codestream: bytes.
        transfer_syntax: UID, str.
        rows: Rows, checked against the codestream by the caller.
        columns: Columns, likewise.
        precision: Bits per sample of the codestream.

    Returns:
        Unsigned samples, little endian, bytes.

    Raises:
        ValueError: If the data is damaged.
    """
    request = REQUEST.pack(len(codestream), rows, columns, precision, transfer_syntax.encode())
    with _lock:
        worker = _running_worker()
        watchdog = threading.Timer(_TIMEOUT_S, worker.kill)
        watchdog.start()
        try:
            worker.stdin.write(request + codestream)
            worker.stdin.flush()
            status, length = REPLY.unpack(worker.stdout.read(REPLY.size))
            payload = worker.stdout.read(length)
        except (OSError, struct.error):
            _stop_worker()
            raise ValueError("the compressed data is damaged: the decoder broke down on it") from None
        finally:
            watchdog.cancel()
    if status != 0:
        raise ValueError(payload.decode("utf-8", "replace"))
    return payload


def _running_worker():
    global _worker, _worker_parent
    # After a fork the child must not share its parent's pipes.
    if _worker is not None and _worker.poll() is not None:
        _stop_worker()
    if _worker is None or _worker_parent != os.getpid():
        # -P keeps this folder, whose modules have everyday names, off the worker's import path.
        script = os.path.join(os.path.dirname(__file__), "gdcm_worker.py")
        _worker = subprocess.Popen(
            [sys.executable, "-P", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _worker_parent = os.getpid()
    return _worker


@atexit.register
def _stop_worker():
    global _worker
    worker, _worker = _worker, None
    if worker is None or _worker_parent != os.getpid():
        return
    with contextlib.suppress(OSError):
        worker.stdin.close()
    worker.kill()
    worker.wait()
    worker.stdout.close()
