"""Which series, and which of their slices, show what another series shows."""

import numpy as np

from kpn_tf.dicom.attributes import numbers

# Two reconstructions of one scan agree to the last digit, which may be a hundredth of a millimetre.
_SAME_MM = 0.02
_SAME_SPACING_MM = 1e-4
_SAME_DIRECTION = 1e-3
# The corner of a slice may be off by this share of a pixel before anatomy is.
_SAME_CORNER_PIXELS = 0.05


def matched_series(lows, normals, note):
    """Finds the normal-dose series of each low-dose series.

    Args:
        lows: `Series` of low dose.
        normals: `Series` of normal dose.
        note: Callback `(line, failure)` for each series, or number of slices, without a partner.

    Returns:
        List of `(low, pairs)`: the series, and its slices with those of its partner, in order of position.
    """
    matched = []
    for low in lows:
        name = series_name(low)
        partners = [normal for normal in normals if _may_judge(low, normal)]
        for what, same in _CRITERIA:
            partners = [normal for normal in partners if same(low, normal)]
            if not partners:
                note(f"{name}: no normal-dose series of the same {what}", True)
                break
        else:
            ranked = sorted(partners, key=lambda normal: _rank(low, normal), reverse=True)
            if len(ranked) > 1 and _rank(low, ranked[0]) == _rank(low, ranked[1]):
                note(f"{name}: {len(ranked)} normal-dose series match it equally well", True)
                continue
            pairs = _pairs(low.slices, ranked[0].slices)
            if len(pairs) < len(low.slices):
                missing = len(low.slices) - len(pairs)
                note(f"{name}: {missing} of {len(low.slices)} slices have no normal-dose slice there", True)
            matched.append((low, pairs))
    return matched


def series_beside(shown, others):
    """Finds the series that show the same slices as some do: of the same patient, size and pixel spacing, at the same
    positions, whatever made them.

    Args:
        shown: `Series` that are compared with others.
        others: `Series` of any dose, kernel and strength.

    Returns:
        For each of `shown` a list of `(other, pairs)`: a series, and the slices of both at equal positions.
    """
    criteria = (_size, _spacing, _whose, _ruler, _place)
    return [
        [
            (other, _pairs(series.slices, other.slices))
            for other in others
            if not _itself(series, other) and all(same(series, other) for same in criteria)
        ]
        for series in shown
    ]


def series_name(series):
    """Names a series in lines and tables without saying whose it is, and one of this package's by its strength."""
    kernel = f" ({series.kernel})" if series.kernel else ""
    strength = "" if series.strength is None else f", strength {series.strength:g}"
    return f"series ...{series.label}{kernel}{strength}"


def same_corner(low_dataset, normal_dataset, pixel_spacing_mm):
    """True if two slices lie at the same place in the same plane, as far as both say where they lie."""
    for keyword, tolerance in (
        ("ImagePositionPatient", max(_SAME_MM, _SAME_CORNER_PIXELS * min(pixel_spacing_mm))),
        ("ImageOrientationPatient", _SAME_DIRECTION),
    ):
        low, normal = numbers(low_dataset, keyword), numbers(normal_dataset, keyword)
        if low and normal and not np.allclose(low, normal, rtol=0, atol=tolerance):
            return False
    return True


def _may_judge(low, normal):
    """Neither the low dose itself, should the folders overlap, nor what this package made."""
    return not (_itself(low, normal) or normal.denoised or normal.simulated)


def _itself(low, normal):
    return normal.slices[0].path.resolve() == low.slices[0].path.resolve()


def _size(low, normal):
    return (low.rows, low.columns) == (normal.rows, normal.columns)


def _spacing(low, normal):
    return np.allclose(low.pixel_spacing_mm, normal.pixel_spacing_mm, rtol=0, atol=_SAME_SPACING_MM)


def _thickness(low, normal):
    both = low.thickness_mm and normal.thickness_mm
    return not both or abs(low.thickness_mm - normal.thickness_mm) <= _SAME_MM


def _kernel(low, normal):
    return not (low.kernel and normal.kernel) or low.kernel == normal.kernel


def _whose(low, normal):
    return not (low.patient_id and normal.patient_id) or low.patient_id == normal.patient_id


def _ruler(low, normal):
    return low.ruler == normal.ruler != "instance_number"


def _place(low, normal):
    return bool(_pairs(low.slices, normal.slices))


# In the order in which a series without a partner is explained. What a header leaves out rules nothing out.
_CRITERIA = (
    ("size", _size),
    ("pixel spacing", _spacing),
    ("slice thickness", _thickness),
    ("kernel", _kernel),
    ("patient", _whose),
    ("kind of position in its headers (ImagePositionPatient or SliceLocation)", _ruler),
    ("positions", _place),
)


def _rank(low, normal):
    frame = low.frame_of_reference_uid
    return (
        normal.study_uid == low.study_uid,
        bool(frame) and normal.frame_of_reference_uid == frame,
        len(_pairs(low.slices, normal.slices)),
    )


def _pairs(low_slices, normal_slices):
    """Slices at equal positions, phases at one position in their order."""
    pairs, i, j = [], 0, 0
    while i < len(low_slices) and j < len(normal_slices):
        apart_mm = low_slices[i].position_mm - normal_slices[j].position_mm
        if abs(apart_mm) <= _SAME_MM:
            pairs.append((low_slices[i], normal_slices[j]))
        i += apart_mm <= _SAME_MM
        j += apart_mm >= -_SAME_MM
    return pairs
