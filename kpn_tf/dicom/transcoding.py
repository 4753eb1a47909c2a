"""The same data set in another encoding (PS3.5 7 and annex A), its values byte for byte.

pydicom encodes anew by decoding every value: text in another character set than the header declares comes out
altered, and one malformed attribute stops the whole slice. Here no value is decoded.
"""

import copy
import io
import struct

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, STANDARD_VR

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.reading.quiet import quiet_warnings

# Bytes of one number; what is not listed has no byte order (PS3.5 7.3).
_UNIT = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}

# Where the dictionary leaves the VR open. OW is what such values have in Implicit VR (PS3.5 A.1).
_OPEN = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}

_SPECIFIC_CHARACTER_SET, _PIXEL_DATA = 0x00080005, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONGEST_SHORT_VALUE = 0xFFFF


def transcoded(dataset, *, implicit=False, dropped=lambda tag: False):
    """A data set in Explicit or Implicit VR Little Endian.

    Values keep their bytes; numbers from Big Endian have theirs reversed. The VR is UN where it is not known, and
    where the value is none of its VR or longer than its length field can say (PS3.5 6.2.2). Group lengths, which
    would be wrong, are left out (PS3.5 7.2). Compressed pixel data stays compressed.

    Args:
        dataset: As pydicom has read it; left as it is. What somebody has set in it is copied.
        implicit: Whether it is to have no VRs.
        dropped: Function from a tag to whether its element is left out; asked at every depth of sequences.

    Returns:
        A `pydicom.Dataset` without meta header, as `write_elements` takes it.
    """
    signed = numbers(dataset, "PixelRepresentation") == (1.0,)
    with quiet_warnings:
        return _Transcoder(implicit, dropped, "SS" if signed else "US").dataset(dataset)


def write_elements(file, dataset, *, implicit=False, character_set=("",)):
    """Writes a data set in Explicit or Implicit VR Little Endian, without a meta header.

    Args:
        file: Binary file.
        dataset: Its elements, those that hold bytes in that encoding, as `transcoded` makes them.
        implicit: Whether it has no VRs.
        character_set: SpecificCharacterSet of the data set that it is an item of.
    """
    if declared := text(dataset, "SpecificCharacterSet"):
        character_set = declared.split("\\")
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            _write(file, tag, element.VR, element.value or b"", element.length, implicit)
        elif element.VR == "SQ":
            body = io.BytesIO()
            for item in element.value:
                content = io.BytesIO()
                write_elements(content, item, implicit=implicit, character_set=character_set)
                body.write(_tag_and_length(_ITEM, content.tell()) + content.getvalue())
            _write(file, tag, "SQ", body.getvalue(), body.tell(), implicit)
        else:
            file.write(_encoded(element, character_set, implicit))


def value_bytes(dataset, keyword):
    """The bytes of a value, in the encoding of its data set; nothing where it is missing."""
    element = dataset.get_item(keyword)
    if element is None:
        return b""
    if isinstance(element, RawDataElement):
        return element.value or b""
    # Behind tag and length.
    return _encoded(element, text(dataset, "SpecificCharacterSet").split("\\"), True)[8:]


class _Transcoder:
    """`transcoded`, for a data set and for all items in it."""

    def __init__(self, implicit, dropped, us_or_ss):
        self._implicit = implicit
        self._dropped = dropped
        self._us_or_ss = us_or_ss

    def dataset(self, source):
        character_set = source.original_character_set
        result = Dataset(
            {
                tag: self._element(element, character_set)
                for tag, element in source.items()
                if tag.element != 0 and not self._dropped(tag)
            },
            parent_encoding=character_set,
        )
        result.set_original_encoding(self._implicit, True, character_set)
        return result

    def _element(self, element, character_set):
        if isinstance(element, RawDataElement):
            return self._from_bytes(element, character_set)
        if element.VR == "SQ":
            return self._sequence(element.tag, element.value)
        return copy.deepcopy(element)

    def _sequence(self, tag, parts):
        return DataElement(tag, "SQ", Sequence(self.dataset(part) for part in parts))

    def _from_bytes(self, element, character_set):
        value, vr = element.value or b"", self._vr(element)
        if vr in ("SQ", "UN"):
            # An unknown value is in Implicit VR Little Endian, whatever is around it (PS3.5 6.2.2).
            implicit, little = element.is_implicit_VR or vr == "UN", element.is_little_endian or vr == "UN"
            parts = _items(value, implicit, little, character_set)
            if parts or (vr == "SQ" and not value):
                return self._sequence(element.tag, parts)
            vr = "UN"
        unit = _UNIT.get(vr, 1)
        if len(value) % unit or (vr in EXPLICIT_VR_LENGTH_16 and len(value) > _LONGEST_SHORT_VALUE):
            vr = "UN"
        elif unit > 1 and not element.is_little_endian:
            value = np.frombuffer(value, f">u{unit}").astype(f"<u{unit}").tobytes()
        # Of the others only sequences have an undefined length, and they are none.
        undefined = element.tag == _PIXEL_DATA and element.length == _UNDEFINED_LENGTH
        length = _UNDEFINED_LENGTH if undefined else len(value)
        return RawDataElement(element.tag, vr, length, value, 0, self._implicit, True)

    def _vr(self, element):
        tag = element.tag
        if element.VR in STANDARD_VR:
            return element.VR
        if tag.is_private:
            return "LO" if tag.is_private_creator else "UN"
        try:
            vr = dictionary_VR(tag) if element.VR is None else "UN"
        except KeyError:
            return "UN"
        return self._us_or_ss if vr == "US or SS" else _OPEN.get(vr, vr)


def _items(value, implicit, little, character_set):
    """The items that a value consists of; none if it consists of anything else."""
    order, parts, at = "<" if little else ">", [], 0
    try:
        while at < len(value):
            group, element, length = struct.unpack_from(f"{order}HHI", value, at)
            tag, at = group << 16 | element, at + 8
            if tag == _SEQUENCE_END and at == len(value):
                break
            defined = length != _UNDEFINED_LENGTH
            end = at + length if defined else len(value)
            if tag != _ITEM or end > len(value):
                return []
            file = io.BytesIO(value[at:end])
            part = read_dataset(file, implicit, little, parent_encoding=character_set, at_top_level=False)
            if not defined:
                end = at + file.tell()
                group, element, _ = struct.unpack_from(f"{order}HHI", value, end - 8)
                if group << 16 | element != _ITEM_END:
                    return []
            if not _is_whole(part, end - at - (0 if defined else 8)):
                return []
            parts.append(part)
            at = end
    except Exception:
        # Whatever comes out of bytes that are no items.
        return []
    return parts


def _is_whole(part, size):
    """Whether the elements of an item fill its bytes, as far as they have lengths."""
    raw = [element for element in part.values() if isinstance(element, RawDataElement)]
    if any(
        len(element.value or b"") != element.length for element in raw if element.length != _UNDEFINED_LENGTH
    ):
        return False
    if len(raw) < len(part) or any(element.length == _UNDEFINED_LENGTH for element in raw):
        return True
    return max((element.value_tell + element.length for element in raw), default=0) == size


def write_head(file, tag, vr, length, *, implicit):
    """Writes what stands before a value.

    Args:
        file: Binary file.
        tag: Of the element.
        vr: Its VR.
        length: Of the value in bytes.
        implicit: Whether the VR is left out.
    """
    if implicit:
        file.write(_tag_and_length(tag, length))
        return
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    short = vr in EXPLICIT_VR_LENGTH_16
    file.write(head + (struct.pack("<H", length) if short else struct.pack("<HI", 0, length)))


def _write(file, tag, vr, value, length, implicit):
    write_head(file, tag, vr, length, implicit=implicit)
    file.write(value)
    if length == _UNDEFINED_LENGTH:
        file.write(_tag_and_length(_SEQUENCE_END, 0))


def _tag_and_length(tag, length):
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _encoded(element, character_set, implicit):
    """An element that holds a value, as pydicom encodes it, with its tag."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    with quiet_warnings:
        write_data_element(buffer, element, convert_encodings(list(character_set)))
    return buffer.getvalue()
