"""The process behind `gdcm_process`: reads frames from standard input until it closes. Not for import."""

import os
import struct
import sys
import tempfile

import gdcm

_REQUEST = struct.Struct("<IIII64s")
_REPLY = struct.Struct("<BI")

# What libjpeg prints when it carries on after damage; the image it then returns is wrong in places.
_DAMAGE = (b"Corrupt JPEG", b"Premature end", b"Bogus", b"Invalid")


def _decode(codestream, transfer_syntax, rows, columns, precision):
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 8 if precision <= 8 else 16, precision, precision - 1, 0))
    # SWIG hands the buffer over as text.
    return image.GetBuffer().encode("utf-8", "surrogateescape")


def _serve():
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    # Unbuffered: the decoder writes through a second descriptor.
    with tempfile.TemporaryFile(buffering=0) as complaints:
        os.dup2(complaints.fileno(), 2)
        while header := requests.read(_REQUEST.size):
            length, rows, columns, precision, syntax = _REQUEST.unpack(header)
            codestream = requests.read(length)
            complaints.seek(0)
            complaints.truncate()
            try:
                payload = _decode(codestream, syntax.rstrip(b"\0").decode(), rows, columns, precision)
                complaints.seek(0)
                said = complaints.read()
                status = int(any(word in said for word in _DAMAGE))
                if status:
                    payload = b"the compressed data is damaged"
            except Exception as error:
                status, payload = 1, f"the decoder refused it ({type(error).__name__})".encode()
            replies.write(_REPLY.pack(status, len(payload)) + payload)
            replies.flush()


if __name__ == "__main__":
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    _serve()
