"""Decoders in a process of their own: damaged data ends that process, not the job, and a slow file can be given up.

All of them are native code that nothing else in their process runs beside: they hold the interpreter's lock, so that
not even a signal would be noticed before they end.

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

_SCRIPT = os.path.join(os.path.dirname(__file__), "decoder_worker.py")

_lock = threading.Lock()
_worker = None
_worker_parent = None


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
        except BaseException:
            # Interrupted half-way: the next reply would belong to this request.
            _stop_worker()
            raise
        finally:
            watchdog.cancel()
    if status != 0:
        raise ValueError(payload.decode("utf-8", "replace"))
    return payload


def stop_decoding():
    """Ends what another thread decodes at this moment: its `decode` fails."""
    worker = _worker
    if worker is not None and _worker_parent == os.getpid():
        worker.kill()


def _running_worker():
    global _worker, _worker_parent
    # After a fork the child must not share its parent's pipes.
    if _worker is not None and _worker.poll() is not None:
        _stop_worker()
    if _worker is None or _worker_parent != os.getpid():
        # -P keeps this folder, whose modules have everyday names, off the worker's import path.
        _worker = subprocess.Popen(
            [sys.executable, "-P", _SCRIPT],
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
