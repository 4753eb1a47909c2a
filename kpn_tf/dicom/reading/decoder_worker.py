"""The process behind `decoder_process`: reads frames from standard input until it closes. Not for import.

Each library is imported with the first frame that needs it.
"""

import os
import signal
import struct
import sys
import tempfile

_REQUEST = struct.Struct("<IIII64s")
# As `kpn_tf.child_process.read_answer` reads it; this process starts without the package.
_REPLY = struct.Struct("<BI")

# PS3.6 table A-1; everything else is GDCM's.
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_JPEG_2000 = {
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
}

# What libjpeg prints when it carries on after damage; the image it then returns is wrong in places.
_DAMAGE = (b"Corrupt JPEG", b"Premature end", b"Bogus", b"Invalid")


def _decode(codestream, transfer_syntax, rows, columns, precision):
    if transfer_syntax in _JPEG_LS:
        import jpeg_ls

        return bytes(jpeg_ls.decode_pixel_data(codestream)[0])
    if transfer_syntax in _JPEG_2000:
        import openjpeg

        # Version 2: the pixels alone.
        return bytes(openjpeg.decode_pixel_data(codestream, version=2))
    return _through_gdcm(codestream, transfer_syntax, rows, columns, precision)


def _through_gdcm(codestream, transfer_syntax, rows, columns, precision):
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
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
    # Ctrl-C reaches the whole group of processes, and the parent ends this one. Windows does not wake a parent that
    # waits for a pipe: there this process ends itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL if os.name == "nt" else signal.SIG_IGN)
    _serve()
