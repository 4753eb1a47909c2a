import struct
import zlib

import numpy as np
import pytest

from kpn_tf.hounsfield import WINDOWS
from kpn_tf.png import grey, write_png


def test_the_ends_of_the_window_are_black_and_white_and_nothing_lies_beyond():
    slice_hu = np.array([[-3024.0, -160.0, 240.0, 3071.0]])
    assert grey(slice_hu, WINDOWS["soft"]).tolist() == [[0, 0, 255, 255]]


def test_a_written_image_reads_back(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(1).integers(0, 256, (11, 7), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    with pillow.open(tmp_path / "a.png") as read:
        assert read.mode == "L"
        np.testing.assert_array_equal(np.asarray(read), image)


def test_every_chunk_carries_its_length_and_checksum(tmp_path):
    write_png(tmp_path / "a.png", np.full((3, 5), 77, np.uint8))
    data, at, kinds = (tmp_path / "a.png").read_bytes(), 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(chunk),)
        kinds.append(chunk[:4])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    "image", [np.zeros((11, 7)), np.zeros((11, 7, 3), np.uint8), np.zeros((0, 7), np.uint8)]
)
def test_what_is_no_grey_image_is_refused(image, tmp_path):
    with pytest.raises(ValueError, match=r"Expected an image \(H, W\) of uint8. Received: "):
        write_png(tmp_path / "a.png", image)
    assert not (tmp_path / "a.png").exists()
