"""Reading single attributes of headers that may be missing, empty or damaged; nothing here alters a dataset."""

import math

from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.valuerep import PersonName

from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError


def text(dataset, keyword):
    """An attribute as stripped text, several values joined by a backslash; "" where missing or unreadable."""
    try:
        value = _value(dataset, keyword)
    except Exception:
        return ""
    if value is None:
        return ""
    if isinstance(value, str | PersonName) or not hasattr(value, "__iter__"):
        return str(value).strip().strip("\0")
    return "\\".join(str(part) for part in value).strip()


def numbers(dataset, keyword):
    """A numeric attribute as a tuple of finite floats; () where missing, empty or unreadable."""
    try:
        value = _value(dataset, keyword)
        values = tuple(float(part) for part in (value if hasattr(value, "__iter__") else [value]))
    except Exception:
        return ()
    return values if all(math.isfinite(part) for part in values) else ()


def items(dataset, keyword):
    """The items of a sequence as a list; [] where it is missing, empty or unreadable."""
    try:
        value = _value(dataset, keyword)
    except Exception:
        return []
    return [item for item in value or () if isinstance(item, Dataset)]


def _value(dataset, keyword):
    """The value of an element, `None` where it is missing.

    It is decoded aside: pydicom keeps what it has decoded in place of the bytes, which then are lost where the
    two differ (text in another character set than the header declares).
    """
    element = dataset.get_item(keyword)
    if not isinstance(element, RawDataElement):
        return None if element is None else element.value
    with quiet_warnings:
        # Apart from PixelPaddingValue, whose bits are taken whatever their sign, nothing that is read is ambiguous.
        converted = convert_raw_data_element(element, encoding=dataset.original_character_set)
        return correct_ambiguous_vr_element(converted, Dataset(), element.is_little_endian).value


def number(path, dataset, keyword, *, default=None):
    """One finite number.

    Raises:
        DicomError: If it is missing (and there is no default), repeated or not a number.
    """
    if default is not None and not text(dataset, keyword):
        return default
    values = numbers(dataset, keyword)
    if len(values) != 1:
        state = "unreadable" if text(dataset, keyword) else "no"
        raise DicomError(path, f"has {state} {keyword}, without which its values cannot be read as HU")
    return values[0]


def whole_number(path, dataset, keyword):
    """One integer.

    Raises:
        DicomError: If it is missing, repeated or not an integer.
    """
    value = number(path, dataset, keyword)
    if value != int(value):
        raise DicomError(path, f"has an unreadable {keyword}, without which its values cannot be read as HU")
    return int(value)
