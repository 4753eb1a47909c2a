"""Objects as they arrive -> what the node needs to know of them, without holding up the node."""

import threading

from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node.listener.arrival import Arrival, read_arrival
from kpn_tf.node.network.worker_process import Worker, WorkerError
from kpn_tf.node.rule import Traits

# 8192 frames take some ten seconds.
_DEADLINE_S = 60.0


class ArrivalReader:
    """Reads slices itself, and has whatever takes long read in a process of its own, one object after the other.

    Args:
        largest: Most bytes that a deflated object may inflate to.
    """

    def __init__(self, largest):
        self._largest = largest
        self._worker = Worker(_DEADLINE_S, "kpn_tf.node.listener.arrival_worker")
        self._lock = threading.Lock()

    def read(self, path, syntax, calling_ae_title):
        """Reads a stored object; arguments, result and errors are those of `read_arrival`."""
        request = {
            "path": str(path),
            "syntax": str(syntax),
            "calling_ae_title": calling_ae_title,
            "largest": self._largest,
        }
        arrival = read_arrival(**request, quick=True)
        if arrival is not None:
            return arrival
        try:
            with self._lock:
                answer = self._worker.ask(request)
        except WorkerError:
            raise DicomError(
                path, f"takes longer to read than {_DEADLINE_S:g} s, or more memory than there is"
            ) from None
        if not answer["ok"]:
            raise DicomError(path, answer.get("refused", "cannot be understood"))
        told = answer["arrival"]
        return Arrival(
            **{**told, "traits": Traits(**told["traits"]), "places": tuple(map(tuple, told["places"]))}
        )

    def stop(self):
        """Ends the process."""
        self._worker.stop()
