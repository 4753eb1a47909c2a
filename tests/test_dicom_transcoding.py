"""Another encoding, the same bytes: for derived slices and for originals that a destination takes in another VR."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from kpn_tf.dicom import DerivedBy, DicomError, derive_slice, find_series, read_slice, write_slice
from kpn_tf.dicom.transcoding import transcoded, write_elements
from tests.dicom_fixtures import ct_dataset, item, save
from tests.reference import slow_elements

BY = DerivedBy(model="edge", version="0.1.0", weights_sha256="0123456789abcdef" * 4, strength=1.0)

# What a derived slice has of its own (docs/conformance.md, 7.1), and what its source says about its pixels or file.
CHANGED = {
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesNumber",
    "SeriesDescription", "ImageType", "ImageComments", "DerivationDescription", "DerivationCodeSequence",
    "SourceImageSequence", "ContributingEquipmentSequence", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "SamplesPerPixel", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit",
}  # fmt: skip
DROPPED = {
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane", "IconImageSequence", "PixelDataProviderURL",
    "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "MACParametersSequence",
}  # fmt: skip

# Tags with the VR of the dictionary; 0018FFF0 is in no dictionary.
KNOWN = [
    (0x00080050, "SH"), (0x0008103E, "LO"), (0x00081155, "UI"), (0x00100010, "PN"), (0x00180050, "DS"),
    (0x00189306, "FD"), (0x0018605A, "FL"), (0x00186018, "UL"), (0x00186020, "SL"), (0x00200013, "IS"),
    (0x00204000, "LT"), (0x00280009, "AT"), (0x00280010, "US"), (0x00281101, "US"), (0x00281201, "OW"),
    (0x0018FFF0, "UN"), (0x00290010, "LO"), (0x00291010, "OB"), (0x00291011, "FD"),
]  # fmt: skip


def elements(items=None):
    """Lists of elements in the order of their tags, their values any bytes; `items` may stand in sequences."""
    plain = st.sampled_from(KNOWN).flatmap(
        lambda known: st.tuples(st.just(known[0]), st.just(known[1]), st.binary(max_size=20))
    )
    if items is not None:
        sequences = st.tuples(
            st.sampled_from([0x00081140, 0x00400275]), st.just("SQ"), st.lists(items, max_size=2)
        )
        plain = plain | sequences
    return st.lists(plain, max_size=5, unique_by=lambda element: element[0]).map(sorted)


NESTED = elements(elements(elements()))


def as_written(parts, *, from_implicit, to_implicit):
    """The elements with the VRs that they must have after `transcoded`."""
    result = []
    for tag, vr, value in parts:
        if isinstance(value, list):
            value = [as_written(item, from_implicit=from_implicit, to_implicit=to_implicit) for item in value]
        elif (from_implicit and tag in (0x00291010, 0x00291011)) or len(value) % slow_elements.UNIT.get(
            vr, 1
        ):
            vr = "UN"
        result.append((tag, vr, value))
    return result


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("to_implicit", [False, True], ids=["to explicit", "to implicit"])
@pytest.mark.parametrize(
    "encoding",
    [{"implicit": True}, {}, {"little": False}],
    ids=["from implicit", "from explicit", "from big endian"],
)
def test_any_values_come_through_as_they_are(encoding, to_implicit, undefined):
    @settings(max_examples=25)
    @given(NESTED)
    def check(parts):
        identified = [(0x00080018, "UI", b"1.2.3\0"), (0x00080020, "DA", b"20200101"), *parts]
        body = slow_elements.encoded(
            sorted(identified, key=lambda part: part[0]), **encoding, undefined=undefined
        )
        source = parsed(body, **encoding)
        out = io.BytesIO()
        write_elements(out, transcoded(source, implicit=to_implicit), implicit=to_implicit)
        kept = as_written(
            sorted(identified, key=lambda part: part[0]),
            from_implicit=encoding.get("implicit", False),
            to_implicit=to_implicit,
        )
        assert out.getvalue() == slow_elements.encoded(kept, implicit=to_implicit)

    check()


def parsed(body, *, implicit=False, little=True):
    return pydicom.filereader.read_dataset(io.BytesIO(body), implicit, little)


def derived_from(path, folder):
    """The derived slice of a file, whose pixels stay as they are; returns its path."""
    ct, target = read_slice(path), folder / "derived.dcm"
    target.unlink(missing_ok=True)
    write_slice(derive_slice(ct, ct.slice_hu, BY), target)
    return target


def kept_of(parts):
    """What a derived slice keeps of its source: without group lengths and private attributes at any depth."""
    return [
        (tag, [kept_of(one) for one in value] if isinstance(value, list) else value)
        for tag, _, value in parts
        if tag & 0xFFFF and not tag >> 16 & 1 and keyword_for_tag(tag) not in DROPPED | CHANGED
    ]


def with_values(path, values, syntax):
    """A slice of which some values are these bytes, whether or not they are of their VR."""
    content = save(ct_dataset(), path, syntax).read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    implicit = syntax == uid.ImplicitVRLittleEndian
    parts, at = slow_elements.decoded(content[start:], implicit=implicit)
    parts = {tag: (tag, vr, value) for tag, vr, value in parts}
    for keyword, value in values.items():
        # "US or SS", where the dictionary leaves it open
        parts[Tag(keyword)] = (Tag(keyword), pydicom.datadict.dictionary_VR(keyword)[:2], value)
    body = slow_elements.encoded([parts[tag] for tag in sorted(parts)], implicit=implicit)
    path.write_bytes(content[:start] + body + content[start + at :])
    return path


def value_in(path, keyword):
    """The bytes of a value in a file."""
    (value,) = (value for tag, _, value in slow_elements.of_file(path) if tag == Tag(keyword))
    return value


BOTH = pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian], ids=["implicit", "explicit"]
)


@BOTH
@pytest.mark.parametrize(
    "declared", [b"ISO_IR 192", b"ISO_IR 100", b"\\ISO 2022 IR 87", b"GB18030 ", b"NONSENSE", b""]
)
@pytest.mark.parametrize(
    "name", ["Schädel".encode("latin1"), "頭部".encode("shift_jis"), "頭部".encode(), b"\xff\x1b$B"]
)
def test_text_of_any_character_set_comes_through_in_its_bytes(tmp_path, syntax, declared, name):
    values = {
        "SpecificCharacterSet": declared,
        "PatientName": name + b"^X",
        "SeriesDescription": name + b" x",
    }
    values = {keyword: value + b" " * (len(value) % 2) for keyword, value in values.items()}
    path = derived_from(with_values(tmp_path / "a.dcm", values, syntax), tmp_path)
    assert value_in(path, "PatientName") == values["PatientName"]
    assert value_in(path, "SpecificCharacterSet") == values["SpecificCharacterSet"]
    assert value_in(path, "SeriesDescription").startswith(name + b" x KPN 100%, research use")


@BOTH
def test_a_description_of_another_character_set_gives_way_to_the_warning(tmp_path, syntax):
    values = {"SpecificCharacterSet": b"ISO_IR 192", "SeriesDescription": "Ä".encode("latin1") * 64}
    path = derived_from(with_values(tmp_path / "a.dcm", values, syntax), tmp_path)
    expected = "Ä".encode("latin1") * 41 + b" KPN 100%, research use"
    assert value_in(path, "SeriesDescription") == expected
    assert len(expected) == 64


@BOTH
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("KVP", b"a lot "),
        ("ContentDate", b"yesterday "),
        ("Exposure", b"1e99"),
        ("SliceProgressionDirection", b"\0\1"),
        ("SmallestPixelValueInSeries", b"\1\2\3\4\5\6"),
        ("CTDIvol", b"\1\2\3\4\5\6"),
        ("SimpleFrameList", b"\1\2\3\4\5\6"),
        ("FrameIncrementPointer", b"\1\2\3\4\5\6"),
        ("ReferencedImageSequence", b"no items at all!"),
        ("ReferencedImageSequence", b"\xfe\xff\x00\xe0\xff\x00\x00\x00"),
        ("DerivationCodeSequence", b"no items at all!"),
        ("ContributingEquipmentSequence", b"no items at all!"),
        ("ContributingEquipmentSequence", b"odd"),
        ("DerivationCodeSequence", b"odd"),
        ("SourceImageSequence", b"odd"),
        ("SeriesNumber", b"1e400 "),
        ("IrradiationEventUID", b"not.a.uid!"),
        ("PatientAge", b"old "),
        ("SeriesNumber", b"three "),
        ("ImageComments", b"\xff\xfe"),
        ("LossyImageCompressionRatio", b"much"),
    ],
)
def test_a_malformed_attribute_that_the_pixels_do_not_need_stops_nothing(tmp_path, syntax, keyword, value):
    source = with_values(tmp_path / "a.dcm", {keyword: value}, syntax)
    path = derived_from(source, tmp_path)
    if keyword not in DROPPED | CHANGED:
        assert value_in(path, keyword) == value
    found, refusals = find_series(tmp_path)
    assert (len(found), refusals) == (2, [])
    np.testing.assert_array_equal(read_slice(path).slice_hu, read_slice(source).slice_hu)


@BOTH
def test_curves_of_an_ecg_come_through(tmp_path, syntax):
    dataset = ct_dataset()
    for tag, vr, value in (
        (0x50000005, "US", 1),
        (0x50000020, "CS", "ECG"),
        (0x50003000, "OW", b"\1\0" * 100),
    ):
        dataset.add_new(tag, vr, value)
    path = derived_from(save(dataset, tmp_path / "a.dcm", syntax), tmp_path)
    assert value_in(path, 0x50003000) == b"\1\0" * 100


@BOTH
def test_private_attributes_are_left_behind_at_every_depth(tmp_path, syntax):
    dataset, inner = ct_dataset(), item(CodeValue="1")
    for part in (dataset, inner):
        part.private_block(0x0041, "VENDOR", create=True).add_new(0x01, "LO", "a second copy")
    outer = item(ScheduledProtocolCodeSequence=[inner], RequestedProcedureID="R1")
    outer.private_block(0x0043, "VENDOR", create=True).add_new(0x01, "OB", b"\1\2")
    dataset.RequestAttributesSequence = [outer]
    path = derived_from(save(dataset, tmp_path / "a.dcm", syntax), tmp_path)
    (request,) = value_in(path, "RequestAttributesSequence")
    assert [tag for tag, _, _ in request] == [
        Tag("ScheduledProtocolCodeSequence"),
        Tag("RequestedProcedureID"),
    ]
    assert b"VENDOR" not in path.read_bytes()


def test_a_value_too_long_for_its_vr_is_unknown_in_explicit_vr(tmp_path):
    values = {"AdditionalPatientHistory": b"x" * 70_000}
    path = derived_from(with_values(tmp_path / "a.dcm", values, uid.ImplicitVRLittleEndian), tmp_path)
    assert (0x001021B0, "UN", values["AdditionalPatientHistory"]) in slow_elements.of_file(path)


def test_what_a_derived_slice_keeps_has_the_bytes_of_its_source_in_every_syntax(tmp_path, ct_data):
    count = 0
    for path in sorted((ct_data / "transfer_syntaxes").glob("*.dcm")):
        try:
            derived = derived_from(path, tmp_path)
        except DicomError:
            continue  # localizers and frames: see test_dicom_reading
        count += 1
        assert kept_of(slow_elements.of_file(derived)) == kept_of(slow_elements.of_file(path)), path.name
    assert count == 37


def test_reading_a_slice_decodes_nothing_for_good(tmp_path):
    ct = read_slice(save(ct_dataset(), tmp_path / "a.dcm", uid.ImplicitVRLittleEndian))
    derive_slice(ct, ct.slice_hu, BY)
    decoded = {tag for tag, element in ct.dataset.items() if not isinstance(element, RawDataElement)}
    # pydicom itself decodes SpecificCharacterSet, and what is empty.
    assert {tag for tag in decoded if not ct.dataset[tag].is_empty} == {Tag("SpecificCharacterSet")}


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_dataset_is_written_right_in_whatever_encoding_it_was_read(tmp_path, syntax):
    path = save(ct_dataset(), tmp_path / "a.dcm", syntax)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    write_slice(dataset, tmp_path / "b.dcm")
    np.testing.assert_array_equal(read_slice(tmp_path / "b.dcm").slice_hu, read_slice(path).slice_hu)
