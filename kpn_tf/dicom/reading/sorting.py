"""Headers of slices -> series, sorted by position."""

from collections import defaultdict

import numpy as np

from kpn_tf.dicom.reading.series import Series, SliceFile
from kpn_tf.dicom.refusal import Refusal, of_frame

# Slices of one scan agree to the last digit; what differs by more was another reconstruction.
_SAME_DIRECTION = 1e-3
_SAME_SPACING_MM = 1e-4


def sorted_series(headers):
    """Puts slices of one series and one geometry together.

    Args:
        headers: `kpn_tf.dicom.reading.slice_header.SliceHeader`s, none of them twice.

    Returns:
        `(series, refusals)`: a list of `Series` without labels, and a `Refusal` for each slice without a place.
    """
    series, refusals = [], []
    for group in _groups(headers):
        found, unplaced = _sorted_series(group)
        refusals += unplaced
        if found.slices:
            series.append(found)
    return series, refusals


def _groups(headers):
    by_series = defaultdict(list)
    for header in headers:
        of_series = by_series[header.identity.study_uid, header.identity.series_uid, header.identity.patient]
        for group in of_series:
            if _same_geometry(group[0], header):
                group.append(header)
                break
        else:
            of_series.append([header])
    return [group for key in sorted(by_series) for group in by_series[key]]


def _same_geometry(a, b):
    return (
        (a.rows, a.columns, len(a.orientation)) == (b.rows, b.columns, len(b.orientation))
        and np.allclose(a.orientation, b.orientation, rtol=0, atol=_SAME_DIRECTION)
        and np.allclose(a.pixel_spacing_mm, b.pixel_spacing_mm, rtol=0, atol=_SAME_SPACING_MM)
    )


def _sorted_series(group):
    """A `Series` and the refusals of those slices that have no place in it."""
    positions = ("position_mm", "slice_location_mm", "instance_number")
    # One ruler for the whole group; the coarser ones only when no slice has a better one.
    ruler = next(
        (name for name in positions if any(getattr(header, name) is not None for header in group)), None
    )
    placed, unplaced = [], []
    for header in group:
        (unplaced if ruler is None or getattr(header, ruler) is None else placed).append(header)
    nowhere = "has no ImagePositionPatient, SliceLocation or InstanceNumber to sort by"
    refusals = [Refusal(header.path, of_frame(header.frame, nowhere), True) for header in unplaced]
    placed.sort(
        key=lambda header: (
            getattr(header, ruler),
            header.acquisition_number,
            header.instance_number or 0,
            header.identity.slice_uid,
        )
    )
    head = placed[0] if placed else group[0]
    description, kernel, manufacturer = head.labels
    strengths = {header.strength for header in placed}
    series = Series(
        uid=head.identity.series_uid,
        study_uid=head.identity.study_uid,
        patient=head.identity.patient,
        patient_id=head.identity.patient_id,
        frame_of_reference_uid=head.frame_of_reference_uid,
        label="",
        description=description,
        kernel=kernel,
        manufacturer=manufacturer,
        rows=head.rows,
        columns=head.columns,
        pixel_spacing_mm=head.pixel_spacing_mm,
        thickness_mm=head.thickness_mm,
        slices=tuple(
            SliceFile(
                header.path,
                float(getattr(header, ruler)),
                header.identity.slice_uid,
                header.frame,
                header.thickness_mm,
                header.acquisition_number,
            )
            for header in placed
        ),
        denoised=head.denoised,
        strength=strengths.pop() if len(strengths) == 1 else None,
        simulated=head.simulated,
        outside=tuple(dict.fromkeys(reason for header in placed for reason in header.outside)),
        ruler=ruler or "instance_number",
    )
    return series, refusals
