"""A network on the GPU, in a process of its own: a driver that crashes or hangs ends that process.

It answers when the network is loaded, and then every request, the pixels of one tile, with pixels or the reason
(`kpn_tf.child_process.read_answer`). Pixels are float32 in native byte order.
"""

import os
import re
import tempfile
import weakref
from typing import NamedTuple

import numpy as np

from kpn_tf.child_process import ChildEndedError, ChildProcess, read_answer

# A tile takes milliseconds, on an adapter in software seconds; a driver that hangs would hold the job for ever.
_TIMEOUT_S = 60.0

_ADAPTER = re.compile(r"Selected adapter: (.+?), arch=.*adapterType=(.+)")

# What LiteRT and Dawn log when a command was rejected or the device is gone; warnings are none of our business.
_COMPLAINT = re.compile(r"^E\d{4} |^ERROR|[Ee]rror: |\b[Ll]ost\b")


class Adapter(NamedTuple):
    """A GPU: its name, and whether it is a program on the CPU that only acts as one."""

    name: str
    software: bool


class GpuError(RuntimeError):
    """The GPU cannot be used, or no longer; a short reason."""

    def __init__(self, reason, adapter=None):
        super().__init__(reason)
        self.adapter = adapter


class Gpu:
    """A network of fixed size as a callable on the GPU.

    It takes `(1, side, side, 1)` HU and returns the same; of a network of stacks it takes `(1, side, side, S)` HU and
    the distances, `(1, S)` in mm.

    The adapter is the one that LiteRT chooses (WebGPU: on Linux over Vulkan). All of the network runs on it, in
    float32. Whether it computes the right numbers is not known here: `kpn_tf.denoiser.self_test`.

    Args:
        path: The .tflite.
        side: Rows and columns it takes.
        slices: Slices of a stack.

    Raises:
        GpuError: If there is no adapter, or it cannot run all of the network. In a call: if it failed, complained
            or returned NaN. After that it is closed.
    """

    def __init__(self, path, side, slices=1):
        self._shape = (1, side, side, 1)
        self._log_seen = 0
        script = os.path.join(os.path.dirname(__file__), "gpu_worker.py")
        try:
            # What LiteRT logs; opened to append, so that reading here does not move where the worker writes.
            self._log = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115
            self._worker = ChildProcess(script, str(path), str(side), str(slices), stderr=self._log)
        except OSError as error:
            raise GpuError(f"its process could not be started ({error})") from error
        self.close = weakref.finalize(self, _close, self._worker, self._log)
        self._exchange(b"")
        self.adapter = self._selected() or Adapter("unnamed adapter", software=False)
        self._new_log()

    def __call__(self, batch_hu, *distances_mm):
        denoised_hu = self.run(batch_hu, *distances_mm)
        self.check()
        if not np.isfinite(denoised_hu).all():
            self._fail("it returned values that are not finite")
        return denoised_hu

    def run(self, batch_hu, *distances_mm):
        """Computes one tile and believes the adapter: for the self-test, which compares the values."""
        inputs = (np.ascontiguousarray(one, np.float32) for one in (batch_hu, *distances_mm))
        payload = self._exchange(b"".join(one.tobytes() for one in inputs))
        return np.frombuffer(payload, np.float32).reshape(self._shape)

    def check(self):
        """Looks at what was logged since the last look.

        A command that the adapter rejects is only logged: the run succeeds, with numbers from somewhere else.

        Raises:
            GpuError: If there is a complaint among it.
        """
        for line in self._new_log().splitlines():
            if _COMPLAINT.search(line):
                self._fail(f"it logged: {line.strip()}")

    def _exchange(self, request):
        if not self._worker.open:
            raise GpuError("it belongs to another process or has been closed")
        try:
            status, payload = self._worker.ask(request, read_answer, _TIMEOUT_S)
        except ChildEndedError as ended:
            self._fail(_end(ended))
        except BaseException:
            self.close()
            raise
        if status != 0:
            self._fail(self._reason(payload.decode("utf-8", "replace")))
        return payload

    def _fail(self, reason):
        adapter = self._selected()
        self.close()
        raise GpuError(reason, adapter)

    def _reason(self, message):
        if "No adapters found" in self._whole_log():
            return "LiteRT finds no GPU that it can use"
        if "not accelerated" in message:
            return "it cannot run all of the network"
        return f"LiteRT refused it ({message.splitlines()[-1].lstrip('└ ')})"

    def _selected(self):
        match = _ADAPTER.search(self._whole_log())
        return Adapter(match[1], match[2].startswith("CPU")) if match else None

    def _whole_log(self):
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    def _new_log(self):
        self._log.seek(self._log_seen)
        text = self._log.read()
        self._log_seen += len(text)
        return text.decode("utf-8", "replace")


def _end(ended):
    if ended.timed_out:
        return f"it did not answer within {_TIMEOUT_S:.0f} s"
    return f"its driver or LiteRT broke down ({ended.how})"


def _close(worker, log):
    worker.close()
    log.close()
