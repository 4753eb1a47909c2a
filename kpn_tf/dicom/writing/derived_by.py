"""Who made a derived slice, and the UIDs that follow from it."""

import hashlib
import re
from dataclasses import dataclass

from kpn_tf.dicom.identity import uid_from_name

# The name under which derived slices are written into ContributingEquipmentSequence.
MANUFACTURER = "kpn_tf"

RESEARCH_USE = "For research use, not for diagnosis"

# What the note in a denoised volume file begins with.
VOLUME_DENOISED = f"{MANUFACTURER} denoised"

# The number of a derived series is the source's and a multiple of 10,000, one of so many: what follows fits into the 32
# bits of a SeriesNumber (PS3.5 6.2, IS).
_OWN_NUMBERS = 200_000

# Strengths, or doses, of 0 to 100 % have numbers that follow each other.
_STEPS = 101
_LARGEST_NUMBER = 2**31 - 1 - 10_000 * _OWN_NUMBERS


@dataclass(frozen=True)
class DerivedBy:
    """What made a derived slice. Equal values give equal UIDs.

    Args:
        model: Name of the network, at most 64 characters.
        version: Version of this package.
        weights_sha256: Hash of the trained values, hexadecimal, equal in all forms of a network; `None` if it is not
            known.
        strength: 0 (source unchanged) to 1 (the network's output).
        device: `"cpu"` or `"gpu"`: their pixels may differ by a grey value, so their UIDs do as well.
        file_sha256: Hash of the file that was run, hexadecimal; `None` if it was none.
        wanted_noise_hu: Noise in HU that the strength was chosen for; `None` if it was given.
        measured_sha256: With a wanted noise, names the slices in which it was measured: the strength follows from
            these, and is in no UID.
        grain_per_mm: With a wanted noise, the mean frequency of the noise power spectrum that the strength leaves, in
            1/mm; in no UID either.
        alone: Name of the network that slices without near neighbours get, or `None`; the hash of the file tells it
            too.

    Raises:
        ValueError: If a value is out of its range, or neither hash is known.
    """

    model: str
    version: str
    weights_sha256: str | None
    strength: float
    device: str = "cpu"
    file_sha256: str | None = None
    wanted_noise_hu: float | None = None
    measured_sha256: str | None = None
    grain_per_mm: float | None = None
    alone: str | None = None

    def __post_init__(self):
        for name in ("model", "version", "weights_sha256", "file_sha256"):
            value = getattr(self, name)
            if name.endswith("_sha256") and value is None and self.serial_number:
                continue
            if value is None or not 0 < len(value) <= 64 or "\\" in value:
                raise ValueError(
                    f"Expected {name} of 1 to 64 characters without a backslash. Received: {value!r}"
                )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"Expected strength from 0 to 1. Received: {self.strength}")

    note = RESEARCH_USE
    # CID 7203 has no code for noise reduction; smoothing is the nearest.
    derivation_code = ("113087", "Smoothing")

    @property
    def uid_words(self):
        """What the UIDs follow from."""
        # The same weights in another file, in float16 or of a fixed size, give other pixels.
        if self.wanted_noise_hu is None:
            how = (repr(float(self.strength)),)
        else:
            how = "noise", repr(float(self.wanted_noise_hu)), self.measured_sha256 or ""
        words = self.model, self.version, self.serial_number, *how
        return words if self.device == "cpu" else (*words, self.device)

    @property
    def number_words(self):
        """What the SeriesNumber follows from, besides the percentage."""
        return self.model, self.version, self.serial_number, self.device, str(self.wanted_noise_hu)

    @property
    def percentage(self):
        """By which series of the same `number_words` are sorted."""
        return round(100 * self.strength)

    @property
    def serial_number(self):
        """Tells what was run from everything else: the hash of its file, or else of its weights."""
        return self.file_sha256 or self.weights_sha256

    @property
    def series_suffix(self):
        """The end of SeriesDescription."""
        # Of one width, so that what sorts by letters sorts by strength.
        return f"KPN {self.strength:4.0%}, research use"

    @property
    def description(self):
        """One sentence for DerivationDescription and ContributionDescription."""
        where = "" if self.device == "cpu" else f", on a {self.device.upper()}"
        alone = f" ({self.alone} where no neighbour is near)" if self.alone else ""
        return (
            f"Noise removed by {MANUFACTURER} {self.version}, network {self.model}{alone}, {self._hashes}, "
            f"strength {self.strength:g}{self._chosen}{where}. {RESEARCH_USE}."
        )

    @property
    def _chosen(self):
        if self.wanted_noise_hu is None:
            return ""
        grain = "" if self.grain_per_mm is None else f", NPS mean frequency {self.grain_per_mm:.3f} per mm"
        return f" (for noise of {self.wanted_noise_hu:g} HU in flat soft tissue{grain})"

    @property
    def name_word(self):
        """What the name of a derived file or folder adds to that of its source; as the UIDs, known before a strength
        is found."""
        if self.wanted_noise_hu is not None:
            return f"denoised_to_{self.wanted_noise_hu:g}HU"
        return "denoised" if self.strength == 1.0 else f"denoised_{100 * self.strength:g}"

    @property
    def volume_note(self):
        """What a derived volume file says of itself where there is room for little."""
        return f"{VOLUME_DENOISED}, strength {self.strength:g}, research use: {self.version} {self.serial_number[:12]}"

    @property
    def _hashes(self):
        known = (("file", self.file_sha256), ("weights", self.weights_sha256))
        return ", ".join(f"{what} SHA-256 {sha256}" for what, sha256 in known if sha256)


def told_strength(text):
    """The strength in the `description` or `volume_note` of a `DerivedBy`.

    Args:
        text: What a derived slice or file says of itself.

    Returns:
        The strength; `None` if it says none.

    Example:
        >>> told_strength(DerivedBy("edge", "0.1.0", "ab" * 32, 0.5).description)
        0.5
    """
    found = re.search(r"\bstrength (\d(?:\.\d+)?(?:e-\d+)?)", text)
    return float(found[1]) if found else None


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


def derived_series_number(number, derived_by):
    """SeriesNumber of the derived series: those of one network follow each other by strength, in steps of 1 %.

    Networks, and seeds of simulated doses, are told apart by a hash of 1,980 values.

    Args:
        number: That of the source, an integer; of one above 147,483,647 or below 0 the last four digits count.
        derived_by: A `DerivedBy` or a `SimulatedBy`.

    Returns:
        An integer from 10,000 on that fits into 32 bits.
    """
    digest = hashlib.sha256("|".join(derived_by.number_words).encode()).digest()
    hashed = int.from_bytes(digest, "big") % (_OWN_NUMBERS // _STEPS)
    own = 10_000 * (1 + hashed * _STEPS + derived_by.percentage)
    return own + (number if 0 <= number <= _LARGEST_NUMBER else number % 10_000)


def derived_sop_instance_uid(series_key, slice_uid, derived_by):
    """SOP Instance UID of the slice derived from `slice_uid` of a series; see `derived_series_uid`."""
    return uid_from_name("instance", series_key, slice_uid, *derived_by.uid_words)
