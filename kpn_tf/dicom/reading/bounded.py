"""A limit on what pydicom may build of a file, held while it reads: afterwards the memory is taken."""

# What pydicom 3.0 makes of it, in bytes of memory, measured: 285 of an element, which takes one to three reads;
# 660 of an empty item, and 3,000 when it has become a frame. A second is about 100 MB of either.
_READ, _ITEM = 300, 3_000
_ITEM_TAGS = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"
# A sequence of known length is read in one piece and taken apart later, into elements of 8 bytes or more.
_NESTED = 12

# Of a slice: 150,000 elements, or private ones of 50 MB. Of a frame beyond that: twenty items and thirty elements.
LARGEST_HEADER = 50_000_000
LARGEST_FRAME_HEADER = 80_000

# As large as the largest CT matrix sold. What is compressed may be a little longer than what it holds.
MOST_PIXELS = 4096 * 4096
_LARGEST_PIXEL_DATA = 3 * MOST_PIXELS

# PixelData of 512 x 512 pixels holds no more frames uncompressed: its length is below 2**32 bytes.
MOST_FRAMES = 8192

# Reading so much at once, it is looked how much there is: an element can claim 4 GB.
_LONG = 1 << 16

# Elements that hold the pixels; sequences that describe frames.
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_FRAMES = {0x52009229, 0x52009230}


class BoundedFile:
    """A file for `pydicom.filereader.read_partial`, which fails once too much would be built of it.

    pydicom turns some exceptions into others on the way, so `reason` is looked at in any case.

    Args:
        file: Seekable binary file.
        largest: Most bytes of memory for the elements before the pixels.
    """

    def __init__(self, file, largest=LARGEST_HEADER):
        self._file = file
        self._left = self._largest = largest
        self._in_pixels = False
        self.seek, self.tell = file.seek, file.tell
        self.reason = None

    def read(self, size=-1):
        """Reads as `file.read` does, within the limit."""
        if self.reason:
            raise ValueError(self.reason)
        if not 0 <= size <= _LONG:
            at = self._file.tell()
            rest = self._file.seek(0, 2) - at
            self._file.seek(at)
            size = rest if size < 0 else min(size, rest)
        self._left -= size if self._in_pixels else 0
        if self._left >= 0:
            data = self._file.read(size)
            self._left -= 0 if self._in_pixels else built_bytes(data)
        if self._left < 0:
            what = "pixel data" if self._in_pixels else "a header"
            self.reason = (
                f"has {what} of more than any CT image: it is damaged, or made to exhaust the memory"
            )
            raise ValueError(self.reason)
        return data

    def before_frames(self, tag, vr, length):
        """`stop_when` for what is said of the object as a whole."""
        return tag in _FRAMES or tag in _PIXELS

    def before_pixels(self, tag, vr, length):
        """`stop_when` for what stands before the pixels."""
        return tag in _PIXELS

    def behind_pixels(self, tag, vr, length):
        """`stop_when` for all up to the end of the pixels. What is behind them is padding or a signature."""
        if self._in_pixels:
            return True
        if tag in _PIXELS:
            self._in_pixels, self._left = True, _LARGEST_PIXEL_DATA
        return False


def built_bytes(data):
    """About how many bytes of memory come of these bytes of a file, read in one piece."""
    built = _READ + len(data) + _ITEM * sum(map(data.count, _ITEM_TAGS))
    return built + _NESTED * len(data) if data[:4] in _ITEM_TAGS else built
