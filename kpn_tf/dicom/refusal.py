"""Why a file is not denoised: one sentence that names the file and never quotes patient data."""

from dataclasses import dataclass
from pathlib import Path


class DicomError(ValueError):
    """A file is, or claims to be, CT and cannot be read or written right.

    The text names the file and the attribute that is wrong, never an attribute's text: that may be patient
    data, and messages end in logs.

    Args:
        path: The file.
        reason: What is wrong and what to do, without the path.
        failure: False if the file simply is no CT slice, so that a folder that holds it is still fine.
    """

    def __init__(self, path, reason, *, failure=True):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.failure = failure


def of_frame(frame, reason):
    """The sentence about a file, or, where `frame` is a number, about that frame of it."""
    return reason if frame is None else f"frame {frame} {reason}"


@dataclass(frozen=True)
class Refusal:
    """A file, or a frame of one, that `find_series` left out.

    Args:
        path: The file.
        reason: One sentence.
        failure: True if it is, or claims to be, CT and cannot be read right; False if it simply is not a CT
            slice (text, DICOMDIR, MR, segmentation, localizer, a second copy): that spoils nothing.
    """

    path: Path
    reason: str
    failure: bool
