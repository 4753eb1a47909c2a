"""Protocols: series of one scanner, kernel, thickness and body part, as their headers say."""

import re
from dataclasses import dataclass

from kpn_tf.console import printable
from kpn_tf.dicom import DicomError, Series
from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.reading.slice_header import read_header


@dataclass(frozen=True)
class Protocol:
    """What series have in common, and the series.

    Args:
        scanner: Manufacturer and model, may be empty; likewise the next.
        kernel: Convolution kernel.
        body_part: BodyPartExamined.
        thickness_mm: Slice thickness, or `None`.
        series: The `kpn_tf.dicom.Series`.
    """

    scanner: str
    kernel: str
    body_part: str
    thickness_mm: float | None
    series: tuple[Series, ...]

    @property
    def key(self):
        """What tells it from other protocols."""
        return self.scanner, self.kernel, self.body_part, self.thickness_mm

    @property
    def name(self):
        """For people."""
        thick = "thickness not said" if self.thickness_mm is None else f"{self.thickness_mm:g} mm"
        words = (
            self.scanner or "scanner not said",
            self.kernel or "kernel not said",
            thick,
            self.body_part or "body part not said",
        )
        return printable(", ".join(words))

    @property
    def slug(self):
        """For the name of a file."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.")[:100]

    @property
    def outside(self):
        """What of it the network was not made for: a tuple of short reasons."""
        return tuple(dict.fromkeys(reason for series in self.series for reason in series.outside))


def protocols(found, note):
    """Sorts series into protocols.

    Args:
        found: List of `kpn_tf.dicom.Series`.
        note: Callback `(line, failure)` for series that are left out: those that this package made or whose header
            cannot be read.

    Returns:
        List of `Protocol`, by name.
    """
    groups = {}
    for series in found:
        if series.denoised or series.simulated:
            note(f"series ...{series.label}: made by kpn_tf; a study wants series as reconstructed", False)
            continue
        try:
            header = read_header(series.slices[0], ["ManufacturerModelName", "BodyPartExamined"])
        except DicomError as error:
            note(str(error), True)
            continue
        model = text(header, "ManufacturerModelName")
        scanner = " ".join(word for word in (series.manufacturer, model) if word)
        key = scanner, series.kernel, text(header, "BodyPartExamined"), series.thickness_mm
        groups.setdefault(key, []).append(series)
    made = [Protocol(*key, tuple(group)) for key, group in groups.items()]
    return sorted(made, key=lambda protocol: protocol.name)
