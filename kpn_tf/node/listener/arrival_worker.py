"""The process that reads objects with frames, and deflated ones, which take time and memory: not the node's own."""

import dataclasses

from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node.answering import serve
from kpn_tf.node.listener.arrival import read_arrival


def _read(request, _):
    try:
        arrival = read_arrival(**request)
    except DicomError as error:
        return {"ok": False, "refused": error.reason}
    return {"ok": True, "arrival": dataclasses.asdict(arrival)}


if __name__ == "__main__":
    serve(_read)
