"""A small file may not ask for much: refused, in a sentence, before datasets are built of it."""

import io
import struct
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from kpn_tf.dicom import DicomError, find_series, read_slice
from kpn_tf.dicom.reading import multi_frame
from kpn_tf.dicom.reading.bounded import MOST_FRAMES, MOST_PIXELS, BoundedFile
from kpn_tf.dicom.reading.content import opened
from kpn_tf.dicom.reading.header import read_dataset
from tests import hostile_files
from tests.dicom_fixtures import ct_dataset, save, stored_values
from tests.enhanced_fixtures import enhanced_ct, slices_of

EXHAUSTS = "has a header of more than any CT image: it is damaged, or made to exhaust the memory"


def refusals(path):
    series, refused = find_series(path)
    assert series == []
    return {one.reason for one in refused}


@pytest.mark.parametrize("known_length", [True, False])
def test_frames_without_number_are_refused_before_they_are_looked_at(tmp_path, known_length):
    content = hostile_files.empty_frames(200_000, known_length=known_length)
    assert len(content) < 6000
    (tmp_path / "a.dcm").write_bytes(content)
    tracemalloc.start()
    try:
        assert refusals(tmp_path) == {f"has a NumberOfFrames above {MOST_FRAMES}, the most in one object"}
        # 600 MB where all of them become datasets.
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("known_length", [True, False])
def test_more_frames_than_are_announced_are_refused(tmp_path, known_length):
    (tmp_path / "a.dcm").write_bytes(
        hostile_files.empty_frames(30_000, announced=7, known_length=known_length)
    )
    assert refusals(tmp_path) == {EXHAUSTS}


@pytest.mark.parametrize("known_length", [True, False])
def test_items_without_number_are_refused(tmp_path, known_length):
    (tmp_path / "a.dcm").write_bytes(hostile_files.items_in_a_slice(17_000, known_length=known_length))
    with pytest.raises(DicomError, match=EXHAUSTS):
        read_slice(tmp_path / "a.dcm")


def test_elements_without_number_are_refused(tmp_path):
    (tmp_path / "a.dcm").write_bytes(hostile_files.elements_in_a_slice(170_000))
    assert refusals(tmp_path) == {EXHAUSTS}


def test_a_thousand_frames_of_twenty_items_are_no_attack(tmp_path):
    # More than scanners say of a frame, ten items or so; a file of 8 MB.
    dataset = enhanced_ct(slices_of(4, rows=3, columns=5))
    for own in dataset.PerFrameFunctionalGroupsSequence:
        own.RealWorldValueMappingSequence = [pydicom.Dataset() for _ in range(17)]
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence) * 250
    dataset.NumberOfFrames, dataset.PixelData = 1000, dataset.PixelData * 250
    save(dataset, tmp_path / "a.dcm")
    assert multi_frame.multi_frame(tmp_path / "a.dcm").frames == 1000


def test_what_stands_behind_the_pixels_is_not_read(tmp_path):
    (tmp_path / "a.dcm").write_bytes(hostile_files.trailing_zeros(3_000_000))
    np.testing.assert_array_equal(read_slice(tmp_path / "a.dcm").slice_hu, stored_values())
    with opened(tmp_path / "a.dcm") as content:
        dataset = read_dataset(tmp_path / "a.dcm", content)
        assert content.tell() < 5000
    assert [element.tag for element in dataset][-1] == 0x7FE00010


def test_a_deflated_file_inflates_up_to_its_limit_and_not_beyond(tmp_path):
    (tmp_path / "small.dcm").write_bytes(hostile_files.inflating_to(1_000_000))
    (tmp_path / "large.dcm").write_bytes(hostile_files.inflating_to(257_000_000))
    np.testing.assert_array_equal(read_slice(tmp_path / "small.dcm").slice_hu, stored_values())
    assert read_slice(tmp_path / "small.dcm").dataset.file_meta.TransferSyntaxUID.is_deflated
    tracemalloc.start()
    try:
        with pytest.raises(DicomError, match="inflates to more than 256 MB"):
            read_slice(tmp_path / "large.dcm")
        assert tracemalloc.get_traced_memory()[1] < 350e6
    finally:
        tracemalloc.stop()


def test_a_bomb_behind_a_long_meta_header_is_found_too(tmp_path):
    content = hostile_files.inflating_to(257_000_000)
    private = struct.pack("<HH2sHI", 2, 0x0102, b"OB", 0, 50_000) + b"\0" * 50_000
    # (0002,0010) stays behind (0002,0102); pydicom does not mind.
    at = content.index(b"\x02\x00\x10\x00UI")
    (tmp_path / "a.dcm").write_bytes(content[:at] + private + content[at:])
    assert refusals(tmp_path) == {"inflates to more than 256 MB"}


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_deflated_data_that_ends_early_is_called_cut_off(tmp_path, share):
    path = save(ct_dataset(), tmp_path / "a.dcm", uid.DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    path.write_bytes(content[: 400 + int(share * (len(content) - 400))])
    assert refusals(tmp_path) == {"is cut off inside its deflated data"}


def test_pixel_data_longer_than_any_slice_is_not_read(tmp_path):
    size = 3 * MOST_PIXELS + 2
    meta, elements = hostile_files.encoded()
    at = elements.index(b"\xe0\x7f\x10\x00")
    with open(tmp_path / "a.dcm", "wb") as file:
        file.write(meta + elements[:at] + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, size))
        file.truncate(file.tell() + size)  # zeros that take no room
    tracemalloc.start()
    try:
        with pytest.raises(DicomError, match="has pixel data of more than any CT image"):
            read_slice(tmp_path / "a.dcm")
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_matrix_larger_than_any_that_is_sold_is_refused(tmp_path):
    assert MOST_PIXELS == 4096**2
    meta, elements = hostile_files.encoded(Rows=4097, Columns=4096)
    (tmp_path / "a.dcm").write_bytes(meta + elements)
    assert refusals(tmp_path) == {"claims an absurd size of 4097 x 4096 pixels: the header is damaged"}


def test_headers_that_are_remembered_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(multi_frame, "_KEPT_BYTES", 1_200_000)
    multi_frame._kept.clear()
    for name in "abcdef":
        save(enhanced_ct(slices_of(40, rows=3, columns=5)), tmp_path / name)
        kept = multi_frame.multi_frame(tmp_path / name)
        # Each has 3 items for each frame, of 3 kB.
        assert kept.built_bytes > 360_000
    assert len(multi_frame._kept) == 2
    assert multi_frame.multi_frame(tmp_path / "f") is kept


def test_an_element_reads_what_there_is_and_not_what_it_claims():
    file = BoundedFile(io.BytesIO(b"\0" * 1000))
    tracemalloc.start()
    try:
        assert len(file.read(0xF0000000)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_rle_that_decodes_to_gigabytes_is_refused(tmp_path):
    segment = b"\x81\x00" * 3_000_000
    head = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    dataset = ct_dataset()
    dataset.PixelData = encapsulate([head + 2 * segment])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.RLELossless
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    tracemalloc.start()
    try:
        with pytest.raises(DicomError, match="the compressed data is longer than its pixels"):
            read_slice(tmp_path / "a.dcm")
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("tile", "tiles"), [(17, 58081), (64, 4096), (4000, 4)])
def test_jpeg_2000_with_tiles_that_are_not_there_is_refused_and_not_filled_up(tmp_path, tile, tiles):
    path = tmp_path / "a.dcm"
    path.write_bytes(hostile_files.jpeg_2000_of_tiles(4096, tile))
    with pytest.raises(DicomError, match=f"the compressed data has 1 of its {tiles} tiles"):
        read_slice(path)
