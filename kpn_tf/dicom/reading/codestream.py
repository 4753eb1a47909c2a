"""What a compressed frame says about itself: its size and precision, which the header must not contradict."""

import math
import struct
from dataclasses import dataclass

# JPEG start-of-frame markers (ITU-T T.81 table B.1) and JPEG-LS's SOF55 (ITU-T T.87 C.2.2).
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_START_OF_SCAN = 0xDA
_SOC_SIZ = b"\xff\x4f\xff\x51"
_START_OF_TILE = b"\xff\x90"
_END = b"\xff\xd9"


@dataclass(frozen=True)
class FrameSize:
    """Size and precision as the codestream declares them.

    Args:
        rows: Rows.
        columns: Columns.
        precision: Bits per sample.
        samples: Samples per pixel.
    """

    rows: int
    columns: int
    precision: int
    samples: int


def frame_size(frame):
    """Reads a JPEG, JPEG-LS or JPEG 2000 codestream's own header.

    Args:
        frame: The codestream, bytes.

    Returns:
        A `FrameSize`.

    Raises:
        ValueError: If there is none, or if the codestream has no end: it was cut off.
    """
    # Fragments are padded to even length, some writers pad further.
    if _END not in frame[-16:]:
        raise ValueError("the compressed data is cut off")
    try:
        start = frame.find(_SOC_SIZ, 0, 4096)
        if start >= 0:
            return _jpeg_2000_size(frame, start + len(_SOC_SIZ))
        return _jpeg_size(frame)
    except (struct.error, IndexError):
        raise ValueError("the compressed data has a damaged header") from None


def _jpeg_2000_size(frame, at):
    # ITU-T T.800 A.5.1: Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz, XTsiz, YTsiz, XTOsiz, YTOsiz, Csiz, Ssiz.
    fields = struct.unpack_from(">HHIIIIIIIIHB", frame, at)
    length, _, x, y, x_offset, y_offset, tile_x, tile_y, tile_x_offset, tile_y_offset, samples, precision = (
        fields
    )
    across, down = (x - tile_x_offset) / max(tile_x, 1), (y - tile_y_offset) / max(tile_y, 1)
    _check_tiles(frame, at + length, math.ceil(across) * math.ceil(down))
    return FrameSize(y - y_offset, x - x_offset, (precision & 0x7F) + 1, samples)


def _check_tiles(frame, at, tiles):
    """Refuses what OpenJPEG fills up with zeros; `at` is behind SIZ."""
    found = set()
    # ITU-T T.800 A.4.2: each tile-part says whose it is and how long.
    while frame[at : at + 2] != _START_OF_TILE:
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    while frame[at : at + 2] == _START_OF_TILE:
        tile, length = struct.unpack_from(">HI", frame, at + 4)
        found.add(tile)
        if length < 14:  # 0: up to the end
            break
        at += length
    if len(found) != tiles:
        raise ValueError(f"the compressed data has {len(found)} of its {tiles} tiles")


def _jpeg_size(frame):
    if frame[:2] != b"\xff\xd8":
        raise ValueError("the compressed data has a damaged header")
    at = 2
    while frame[at + 1] != _START_OF_SCAN:
        if frame[at] != 0xFF:
            raise ValueError("the compressed data has a damaged header")
        if frame[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        if frame[at + 1] in _START_OF_FRAME:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return FrameSize(rows, columns, precision, samples)
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("the compressed data has a damaged header")
