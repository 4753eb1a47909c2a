"""Text put before or behind that of a source, whose bytes stay: they may be of another character set than declared."""

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.valuerep import TEXT_VR_DELIMS

from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.transcoding import value_bytes

# Most characters of a value (PS3.5 table 6.2-1).
_LONGEST = {"LO": 64, "ST": 1024, "LT": 10240}


def added_text(source, keyword, *, before="", after=""):
    """An attribute with more text than the source's; where there is too little room, the source's gives way.

    Args:
        source: The dataset.
        keyword: Of an attribute of VR LO, ST or LT.
        before: ASCII.
        after: ASCII.

    Returns:
        A `pydicom.dataelem.RawDataElement` in Explicit VR Little Endian.
    """
    vr = dictionary_VR(keyword)
    room = max(_LONGEST[vr] - sum(len(part) + 1 for part in (before, after) if part), 0)
    encodings = convert_encodings(text(source, "SpecificCharacterSet").split("\\"))
    kept = _kept(value_bytes(source, keyword).strip(b" \0"), encodings, room, single=vr == "LO")
    value = b" ".join(part for part in (before.encode(), kept, after.encode()) if part)
    value += b" " * (len(value) % 2)
    return RawDataElement(Tag(tag_for_keyword(keyword)), vr, len(value), value, 0, False, True)


def _kept(value, encodings, room, *, single):
    """The value, cut to as many characters; backslashes, which would part a single value, become spaces."""
    decoded = decode_bytes(value, encodings, TEXT_VR_DELIMS)
    if "\ufffd" in decoded:
        # It is of another character set. One byte a character: never too long.
        return (value.replace(b"\\", b" ") if single else value)[:room].rstrip()
    fits = len(decoded) <= room and not (single and "\\" in decoded)
    if fits:
        return value
    return encode_string((decoded.replace("\\", " ") if single else decoded)[:room].rstrip(), encodings)
