"""Who made a derived slice, and the UIDs that follow from it."""

from dataclasses import dataclass

from kpn_tf.dicom.identity import uid_from_name

# The name under which derived slices are written into ContributingEquipmentSequence.
MANUFACTURER = "kpn_tf"

RESEARCH_USE = "For research use, not for diagnosis"


@dataclass(frozen=True)
class DerivedBy:
    """What made a derived slice. Equal values give equal UIDs.

    Args:
        model: Name of the network, at most 64 characters.
        version: Version of this package.
        weights_sha256: Hash of the weights, hexadecimal.
        strength: 0 (source unchanged) to 1 (the network's output).
        device: `"cpu"` or `"gpu"`: their pixels may differ by a grey value, so their UIDs do as well.
    """

    model: str
    version: str
    weights_sha256: str
    strength: float
    device: str = "cpu"

    def __post_init__(self):
        for name in ("model", "version", "weights_sha256"):
            value = getattr(self, name)
            if not 0 < len(value) <= 64 or "\\" in value:
                raise ValueError(
                    f"Expected {name} of 1 to 64 characters without a backslash. Received: {value!r}"
                )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"Expected strength from 0 to 1. Received: {self.strength}")

    note = RESEARCH_USE
    series_number_offset = 10_000
    # CID 7203 has no code for noise reduction; smoothing is the nearest.
    derivation_code = ("113087", "Smoothing")

    @property
    def uid_words(self):
        """What the UIDs follow from."""
        words = self.model, self.version, self.weights_sha256, repr(float(self.strength))
        return words if self.device == "cpu" else (*words, self.device)

    @property
    def serial_number(self):
        """Tells these weights from others."""
        return self.weights_sha256

    @property
    def series_suffix(self):
        """The end of SeriesDescription."""
        return f"KPN {self.strength:.0%}, research use"

    @property
    def description(self):
        """One sentence for DerivationDescription and ContributionDescription."""
        where = "" if self.device == "cpu" else f", on a {self.device.upper()}"
        return (
            f"Noise removed by {MANUFACTURER} {self.version}, network {self.model}, "
            f"weights SHA-256 {self.weights_sha256}, strength {self.strength:g}{where}. {RESEARCH_USE}."
        )


def derived_series_uid(series_key, derived_by):
    """Series Instance UID of the derived series: the same source and `derived_by` always give the same.

    Args:
        series_key: The source's `series_key`, from patient, study and series.
        derived_by: A `DerivedBy` or a `SimulatedBy`.

    Returns:
        A UID below 2.25.

    Example:
        >>> by = DerivedBy("edge", "0.1.0", "ab" * 32, 1.0)
        >>> derived_series_uid("1.2.3", by) == derived_series_uid("1.2.3", by)
        True
    """
    return uid_from_name("series", series_key, *derived_by.uid_words)


def derived_sop_instance_uid(series_key, slice_uid, derived_by):
    """SOP Instance UID of the slice derived from `slice_uid` of a series; see `derived_series_uid`."""
    return uid_from_name("instance", series_key, slice_uid, *derived_by.uid_words)
