"""Enhanced CT objects: one file with many slices, taken apart into slices that read like files of their own."""

import contextlib
import copy
import io
import os
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.reading.bounded import LARGEST_FRAME_HEADER, LARGEST_HEADER, MOST_FRAMES, built_bytes
from kpn_tf.dicom.reading.content import opened
from kpn_tf.dicom.reading.decoding import is_native
from kpn_tf.dicom.reading.frame_places import encapsulated_places, native_places, pixel_data_value
from kpn_tf.dicom.reading.functional_groups import single_frame_elements
from kpn_tf.dicom.reading.header import pixel_header, read_dataset, set_transfer_syntax
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError

# Headers that stay in memory, a few MB each: the phases of a scan over time come as one object each, and
# sorting by position goes from one to the other with every slice.
_KEPT, _KEPT_BYTES = 24, 500_000_000
_kept, _lock = OrderedDict(), threading.Lock()


class MultiFrame:
    """An Enhanced CT file: its header in memory, its pixels on disk.

    Args:
        path: The file.

    Attributes:
        pixels_at: Where the element with the pixels begins, in bytes.
        built_bytes: About how much memory its header takes.

    Raises:
        DicomError: If it is none, or its frames are not described.
    """

    def __init__(self, path):
        self.path = Path(path)
        with opened(path) as content:
            frames = _number_of_frames(path, content)
            largest = LARGEST_HEADER + frames * LARGEST_FRAME_HEADER
            header = read_dataset(path, content, stop_before_pixels=True, largest=largest)
            self.pixels_at = content.tell()
            content.seek(0)
            self.built_bytes = built_bytes(content.read(self.pixels_at))
        set_transfer_syntax(header)
        self._header = header
        self._syntax = text(header.file_meta, "TransferSyntaxUID")
        self._places = None
        try:
            with quiet_warnings:
                self._shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
                self._own = list(header.get("PerFrameFunctionalGroupsSequence") or [])
        except Exception as error:
            raise DicomError(path, f"has damaged functional groups ({type(error).__name__})") from None
        if not self._own:
            raise DicomError(path, "has no PerFrameFunctionalGroupsSequence, which describes its frames")
        # Of these two only the described frames are believed: they are there.
        if frames != len(self._own):
            raise DicomError(
                path, f"describes {len(self._own)} frames, and its NumberOfFrames says otherwise"
            )

    @property
    def frames(self):
        """How many frames it has; they are numbered from 1."""
        return len(self._own)

    def header(self, frame):
        """A frame as the dataset of a single-frame slice, without pixels; to be read only.

        SOPClassUID and SOPInstanceUID are those of the whole object.

        Args:
            frame: Its number, from 1.

        Returns:
            A `pydicom.FileDataset`.

        Raises:
            DicomError: If there is no such frame, or its description is damaged.
        """
        return self._dataset(frame)

    def read(self, frame):
        """A frame as the dataset of a single-frame slice, pixels included, compressed as they are.

        Args:
            frame: Its number, from 1.

        Returns:
            A `pydicom.FileDataset` that shares nothing with other frames.

        Raises:
            DicomError: If there is no such frame, its description is damaged or its pixels cannot be found.
        """
        dataset = self._dataset(frame, copy.deepcopy)
        places = self.locate(pixel_header(self.path, dataset))
        with self._opened() as file:
            value = b"".join(_read(file, *place) for place in places[frame - 1])
        if not is_native(self._syntax):
            value = encapsulate([value])
        dataset[0x7FE00010] = DataElement(0x7FE00010, "OW" if is_native(self._syntax) else "OB", value)
        return dataset

    def locate(self, pixels):
        """Finds the pixels of all frames.

        Args:
            pixels: A `PixelHeader`, the same for each frame.

        Returns:
            List of `(position, length)` for each frame: its parts.

        Raises:
            DicomError: If the file is cut off, or holds another number of frames than it describes.
        """
        if self._places is None:
            self._places = self._located(2 * pixels.rows * pixels.columns)
        return self._places

    def _located(self, frame_bytes):
        implicit, little = self._header.original_encoding
        with self._opened() as file:
            position, length = pixel_data_value(file, self.pixels_at, implicit=implicit, little=little)
            if is_native(self._syntax):
                return native_places(position, length, file.seek(0, 2), self.frames, frame_bytes)
            offsets = self._header.get("ExtendedOffsetTable") or b""
            return encapsulated_places(file, position, self.frames, offsets)

    @contextlib.contextmanager
    def _opened(self):
        deflated = self._syntax == DeflatedExplicitVRLittleEndian
        try:
            with io.BytesIO(_inflated(self)) if deflated else opened(self.path) as file:
                yield file
        except ValueError as error:
            if isinstance(error, DicomError):
                raise
            raise DicomError(self.path, str(error)) from None

    def _dataset(self, frame, copied=lambda part: part):
        header, path = self._header, self.path
        if not 1 <= frame <= self.frames:
            raise DicomError(path, f"does not exist; the file has frames 1 to {self.frames}")
        try:
            with quiet_warnings:
                elements = single_frame_elements(header, self._shared, self._own[frame - 1], frame)
                elements, meta = copied((elements, header.file_meta))
                dataset = FileDataset(str(path), elements, preamble=header.preamble, file_meta=meta)
                dataset.set_original_encoding(*header.original_encoding, header.original_character_set)
        except Exception as error:
            raise DicomError(path, f"has damaged functional groups ({type(error).__name__})") from None
        return dataset


def _number_of_frames(path, content):
    """As many as the header announces, at most as many as may be."""
    header = read_dataset(path, content, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
    announced = max(numbers(header, "NumberOfFrames"), default=0)
    if announced > MOST_FRAMES:
        raise DicomError(path, f"has a NumberOfFrames above {MOST_FRAMES}, the most in one object")
    return max(0, int(announced))


def _read(file, position, length):
    file.seek(position)
    return file.read(length)


@lru_cache(1)
def _inflated(file):
    """The content of a deflated file: nothing in it can be found without inflating all that is before."""
    with opened(file.path) as content:
        return content.getvalue()


def multi_frame(path):
    """The Enhanced CT object in a file; its header is parsed once, not once a frame.

    Args:
        path: The file.

    Returns:
        A `MultiFrame`.

    Raises:
        DicomError: See `MultiFrame`.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DicomError(path, f"cannot be opened ({type(error).__name__})") from error
    key = Path(path), status.st_mtime_ns, status.st_size
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    file = MultiFrame(path)
    with _lock:
        _kept[key] = file
        while len(_kept) > _KEPT or (
            len(_kept) > 1 and sum(one.built_bytes for one in _kept.values()) > _KEPT_BYTES
        ):
            _kept.popitem(last=False)
    return file
