"""What networks are not made for, as far as headers tell: one rule for every command and the node.

What would be wrong is refused elsewhere: no slices (`header.check_is_ct_slice`), no HU (`scale.other_scale`), this
package's own output. What is named here is taken, since nobody has shown that it fails, and never without a line.

Source: the model card, `kpn_tf/weights/edge.md`: axial CT of adults, chest and abdomen, as reconstructed.
"""

import re

import numpy as np

from kpn_tf.dicom.attributes import text

_ADULT_YEARS = 18
_UNITS_A_YEAR = {"D": 365.25, "W": 52.2, "M": 12.0, "Y": 1.0}

# A gantry tilts by up to 30 degrees: what lies farther from the axis of the scanner is no axial slice.
_LEAST_ALONG_AXIS = np.cos(np.radians(35))

# Value 3 and later ones of ImageType.
_REFORMATS = {
    "MPR",
    "CSA MPR",
    "CURVED_MPR",
    "REFORMATTED",
    "CURVED",
    "CPR",
    "OBLIQUE",
    "CORONAL",
    "SAGITTAL",
}

_HEAD = re.compile(
    r"HEAD|BRAIN|SKULL|CRANI|FACE|FACIAL|ORBIT|SINUS|MAXILL|MANDIB|DENTAL|TEMPORAL|\bEAR\b|\bIAC\b"
)

# GE: BONE, BONEPLUS, EDGE, ULTRA; Siemens: a letter or two and 60 or more (B70f, Hr68); Canon: FC30 to FC35, FC80 on.
_BONE_KERNEL = re.compile(r"BONE|EDGE|ULTRA|FC(3\d|8\d)|[A-Z]{1,2}[6-9]\d")

# Siemens: SAFIRE (I30f), ADMIRE (J30s, or a kernel with its strength: Br38f\3).
_ITERATIVE_KERNEL = re.compile(r"[IJ]\d\d\w?|[A-Z]{1,2}\d\d\w?[\\ ][1-5]")

TAGS = (
    "ImageType",
    "BodyPartExamined",
    "ConvolutionKernel",
    "ReconstructionAlgorithm",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
)


def outside_scope(dataset, orientation):
    """Tells what of a slice no network of this package was made for.

    Args:
        dataset: Its header, with `TAGS`.
        orientation: Direction cosines of rows and columns, or () if they are unknown.

    Returns:
        Tuple of short reasons, empty for what networks are made for. None tells whose the slice is.
    """
    image_type = [part.strip().upper() for part in text(dataset, "ImageType").split("\\")]
    kernel = text(dataset, "ConvolutionKernel").upper()
    normal = np.cross(orientation[:3], orientation[3:]) if orientation else (0, 0, 1)
    reasons = {
        "derived from other images": image_type[0] == "DERIVED",
        "a reformat": not _REFORMATS.isdisjoint(image_type[2:]),
        "not axial": abs(normal[2]) < _LEAST_ALONG_AXIS,
        "of a child": _is_child(dataset),
        "a head": bool(_HEAD.search(text(dataset, "BodyPartExamined").upper())),
        "a bone kernel": bool(_BONE_KERNEL.match(kernel)),
        "an iterative reconstruction": bool(_ITERATIVE_KERNEL.fullmatch(kernel))
        or text(dataset, "ReconstructionAlgorithm").upper() == "ITERATIVE",
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def _is_child(dataset):
    age = re.fullmatch(r"(\d{3})([DWMY])", text(dataset, "PatientAge").upper())
    # Anonymisers write 000Y for an age that they removed; that of a newborn is in days.
    if age and age[0] != "000Y":
        return int(age[1]) / _UNITS_A_YEAR[age[2]] < _ADULT_YEARS
    born, studied = (text(dataset, name) for name in ("PatientBirthDate", "StudyDate"))
    if not all(re.fullmatch(r"\d{8}", date) for date in (born, studied)):
        return False
    # Dates as numbers: 20200115 - 20020116 is less than 18 years, by a day.
    return 0 <= int(studied) - int(born) < _ADULT_YEARS * 10_000
