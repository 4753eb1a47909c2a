"""The process that decompresses originals: not the node's own."""

from pathlib import Path

from pydicom.uid import UID

from kpn_tf.dicom.refusal import DicomError
from kpn_tf.dicom.writing.reencoding import reencode
from kpn_tf.node.answering import serve


def _reencode(request, _):
    try:
        reencode(Path(request["path"]), Path(request["copy"]), UID(request["syntax"]))
    except DicomError as error:
        return {"ok": False, "reason": error.reason}
    return {"ok": True}


if __name__ == "__main__":
    serve(_reencode)
