"""Where in a file the pixels of each frame are, without reading them."""

import struct
from itertools import pairwise

_ITEM, _END_OF_ITEMS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = (0x7FE0, 0x0010)

# JPEG, JPEG-LS and JPEG 2000 end alike; fragments are padded behind it.
_END_OF_IMAGE, _PADDED_BY = b"\xff\xd9", 8


def pixel_data_value(file, start, *, implicit, little):
    """Finds the value of the PixelData element.

    Args:
        file: Seekable binary file.
        start: Where the element begins.
        implicit: Whether the element has no VR.
        little: Whether it is little endian.

    Returns:
        `(position, length)` of its value in bytes; the length is None where it is undefined.

    Raises:
        ValueError: If no PixelData begins there.
    """
    file.seek(start)
    order, head = "<" if little else ">", file.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12) or struct.unpack_from(f"{order}HH", head) != _PIXEL_DATA:
        raise ValueError("has no pixel data, or is cut off before it")
    (length,) = struct.unpack(f"{order}I", head[-4:])
    return start + len(head), None if length == _UNDEFINED_LENGTH else length


def native_places(position, length, size, frames, frame_bytes):
    """Places of uncompressed frames.

    Args:
        position: Of the value of PixelData.
        length: Of that value as its header says, or None.
        size: Of the whole file in bytes.
        frames: How many there are.
        frame_bytes: Bytes of each.

    Returns:
        A list of `(position, length)` for each frame, one range each.

    Raises:
        ValueError: If there is no room for so many frames, or for more.
    """
    # A rest that is no frame is padding, as behind the pixels of a single frame.
    if length is None or not 0 <= length - frames * frame_bytes < frame_bytes:
        raise ValueError(f"has pixel data of another size than that of the {frames} frames in its header")
    if size < position + frames * frame_bytes:
        raise ValueError("is cut off: it is smaller than its pixel data")
    return [[(position + n * frame_bytes, frame_bytes)] for n in range(frames)]


def encapsulated_places(file, position, frames, extended_offsets=b""):
    """Places of compressed frames, each of which may be cut into fragments.

    The tables of offsets are believed where they point at fragments. Without one, each fragment is a frame if
    their numbers agree; otherwise a frame ends where its codestream does.

    Args:
        file: Seekable binary file.
        position: Of the value of PixelData.
        frames: How many there are.
        extended_offsets: Value of ExtendedOffsetTable, or nothing.

    Returns:
        A list of `(position, length)` for each frame: its fragments.

    Raises:
        ValueError: If the file is cut off, or the fragments are not those of so many frames.

    Source: DICOM PS3.5 A.4.
    """
    (table, table_length), *fragments = _items(file, position)
    file.seek(table)
    basic_offsets = file.read(table_length)
    for code, offsets in (("Q", extended_offsets), ("I", basic_offsets)):
        count = len(offsets) // struct.calcsize(code)
        if places := _by_table(fragments, struct.unpack_from(f"<{count}{code}", offsets), frames):
            return places
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    places = [fragments] if frames == 1 and fragments else _by_end_of_image(file, fragments)
    if len(places) != frames:
        raise ValueError(f"has compressed data of {len(places)} frames; its header describes {frames}")
    return places


def _items(file, position):
    """`(position, length)` of the value of each item: the table of offsets, then the fragments."""
    size, items = file.seek(0, 2), []
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("is cut off inside its pixel data")
        *tag, length = struct.unpack("<HHI", head)
        if tuple(tag) == _END_OF_ITEMS and items:
            return items
        if tuple(tag) != _ITEM or length == _UNDEFINED_LENGTH:
            raise ValueError("has damaged compressed pixel data: its fragments cannot be told apart")
        items.append((position + 8, length))
        position += 8 + length
        if position > size:
            raise ValueError("is cut off inside its pixel data")


def _by_table(fragments, offsets, frames):
    """Fragments from one offset to the next; nothing if these are no offsets of so many frames."""
    index_at = {at - fragments[0][0]: index for index, (at, _) in enumerate(fragments)}
    if len(offsets) != frames or not set(offsets) <= set(index_at):
        return []
    first = [index_at[offset] for offset in offsets]
    if first[:1] != [0] or any(a >= b for a, b in pairwise(first)):
        return []
    return [fragments[a:b] for a, b in pairwise([*first, len(fragments)])]


def _by_end_of_image(file, fragments):
    places, begun = [], []
    for at, length in fragments:
        begun.append((at, length))
        tail = min(length, len(_END_OF_IMAGE) + _PADDED_BY)
        file.seek(at + length - tail)
        if _END_OF_IMAGE in file.read(tail):
            places.append(begun)
            begun = []
    return [*places, begun] if begun else places
