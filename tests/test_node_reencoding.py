"""Originals go out as they came wherever they are taken; elsewhere in another encoding, their values as they are."""

import hashlib
import struct

import pydicom
import pytest
from pydicom import uid

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.dicom.writing.reencoding import reencode
from tests.ct_series import write_ct_series
from tests.dicom_fixtures import ct_dataset, save, stored_values
from tests.enhanced_fixtures import enhanced_ct, slices_of
from tests.node_peers import EXPLICIT, IMPLICIT, Node, Recorder, send, until
from tests.reference import slow_elements

FORWARD = 'name = "forward"\nweights = ""\noriginals = true\ndestinations = ["pacs"]\n'


def data_set(path):
    """The bytes of a file behind its meta header."""
    content = path.read_bytes()
    return content[144 + struct.unpack_from("<I", content, 140)[0] :]


def with_pixels(parts, path, *, implicit):
    """A data set of these elements and the pixels of an uncompressed file."""
    pixels = (0x7FE00010, "OW", pydicom.dcmread(path).PixelData)
    return slow_elements.encoded([*parts, pixels], implicit=implicit)


def misnamed_slice(folder):
    """A slice whose text is not of the character set that it declares; returns its path and its elements."""
    (path,) = write_ct_series(folder, name="misnamed", slices=1)
    content, body = path.read_bytes(), data_set(path)
    parts = {tag: (tag, vr, value) for tag, vr, value in slow_elements.of_file(path)}
    parts |= {
        0x00080005: (0x00080005, "CS", b"ISO_IR 192"),
        0x00100010: (0x00100010, "PN", "Müller^Jörg".encode("latin1") + b" "),
        0x00101010: (0x00101010, "AS", b"old"),
        0x00290010: (0x00290010, "LO", b"VENDOR"),
        0x00291001: (0x00291001, "OB", b"\1\2\3\4"),
    }
    parts = [parts[tag] for tag in sorted(parts)]
    whole = with_pixels(parts, path, implicit=False)
    path.write_bytes(content[: len(content) - len(body)] + whole)
    return path, parts


def forwarded(folder, path, syntaxes, rule=FORWARD):
    """Digests of what arrives of a file at a destination that takes some transfer syntaxes; and the node's log."""
    with Recorder(syntaxes=syntaxes) as pacs:
        node = Node(folder / "node", [("pacs", pacs.title, pacs.port)], rule=rule)
        with node:
            assert send(node.port, [path]) == [(0x0000, "")]
            until(lambda: pacs.digests or node.lines("dead letter"))
            node.settled()
        digests = [digest for digests in pacs.digests.values() for digest in digests]
    return digests, [line["reason"] for line in node.lines("dead letter")]


def compressed(path, syntax):
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_an_original_is_sent_in_implicit_vr_with_the_bytes_of_its_values(tmp_path):
    path, parts = misnamed_slice(tmp_path / "in")
    expected = with_pixels(parts, path, implicit=True)
    assert forwarded(tmp_path, path, [IMPLICIT]) == ([sha256(expected)], [])


def test_an_original_is_sent_byte_for_byte_where_it_is_taken(tmp_path):
    path, _ = misnamed_slice(tmp_path / "in")
    assert forwarded(tmp_path, path, [IMPLICIT, EXPLICIT]) == ([sha256(data_set(path))], [])


def test_a_rule_has_compressed_originals_decompressed_for_whoever_takes_no_others(tmp_path):
    (path,) = write_ct_series(tmp_path / "in", name="plain", slices=1)
    plain = sha256(data_set(path))
    compressed(path, uid.JPEGLSLossless)
    rule = FORWARD + "decompress = true\n"
    assert forwarded(tmp_path / "1", path, [EXPLICIT], rule) == ([plain], [])
    as_it_came = sha256(data_set(path))
    assert forwarded(tmp_path / "2", path, [EXPLICIT, uid.JPEGLSLossless], rule) == ([as_it_came], [])


def test_an_original_whose_pixels_cannot_be_decompressed_is_a_dead_letter_that_says_so(tmp_path):
    (path,) = write_ct_series(tmp_path / "in", name="damaged", slices=1)
    content = bytearray(compressed(path, uid.JPEGLSLossless).read_bytes())
    content[-200:-100] = b"\xff" * 100
    path.write_bytes(content)
    digests, reasons = forwarded(tmp_path, path, [EXPLICIT], FORWARD + "decompress = true\n")
    assert (digests, reasons) == ([], ["has pixel data that cannot be decoded"])


@pytest.mark.parametrize("target", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_every_object_keeps_its_values_and_its_pixels_in_another_encoding(tmp_path, ct_data, target):
    count = 0
    for path in sorted((ct_data / "transfer_syntaxes").glob("*.dcm")):
        copy = tmp_path / "copy.dcm"
        copy.unlink(missing_ok=True)
        reencode(path, copy, target)
        before, after = slow_elements.of_file(path), slow_elements.of_file(copy)
        assert in_implicit_vr(after) == in_implicit_vr(before), path.name
        assert pydicom.dcmread(copy).file_meta.TransferSyntaxUID == target
        try:
            slice_hu = read_slice(path).slice_hu
        except DicomError:
            continue  # localizers and frames: see test_dicom_reading
        count += 1
        assert (read_slice(copy).slice_hu == slice_hu).all(), path.name
    assert count == 37


def in_implicit_vr(parts):
    """The elements without their VRs, group lengths and history of lossy compression."""
    left_out = {0x00282110, 0x00282112, 0x00282114}
    return slow_elements.encoded(
        [part for part in parts if part[0] & 0xFFFF and part[0] not in left_out], implicit=True
    )


def test_what_was_compressed_lossily_says_so_when_it_is_not_compressed_any_more(tmp_path, ct_data):
    (path,) = (ct_data / "transfer_syntaxes").glob("*JPEGProcess10_12*")
    dataset = pydicom.dcmread(path)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        dataset.pop(keyword, None)
    dataset.save_as(tmp_path / "a.dcm")
    reencode(tmp_path / "a.dcm", tmp_path / "b.dcm", uid.ExplicitVRLittleEndian)
    plain = pydicom.dcmread(tmp_path / "b.dcm")
    assert (plain.LossyImageCompression, plain.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert plain.LossyImageCompressionRatio > 1


def test_frames_are_decompressed_in_their_order(tmp_path):
    path = save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm")
    pixels = pydicom.dcmread(path).PixelData
    reencode(compressed(path, uid.JPEGLSLossless), tmp_path / "b.dcm", uid.ImplicitVRLittleEndian)
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == pixels


def test_an_object_that_is_cut_off_is_refused(tmp_path):
    path = save(ct_dataset(stored_values()), tmp_path / "a.dcm", uid.ImplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DicomError, match="is cut off inside its pixel data"):
        reencode(path, tmp_path / "b.dcm", uid.ExplicitVRLittleEndian)
