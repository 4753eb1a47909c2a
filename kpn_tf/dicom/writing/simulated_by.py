"""What made a simulated low-dose series: not a network, but a dose, a seed and a measured texture."""

from dataclasses import dataclass

from kpn_tf.dicom.writing.derived_by import MANUFACTURER, RESEARCH_USE

# Stands where a denoised slice names its network (ManufacturerModelName), and tells the two apart.
SIMULATION = "low-dose simulation"

# What the note in a simulated volume file begins with.
VOLUME_SIMULATED = f"{MANUFACTURER} SIMULATED"


@dataclass(frozen=True)
class SimulatedBy:
    """What made a simulated slice. Equal values give equal UIDs.

    Args:
        version: Version of this package.
        dose: Fraction of the source's dose, between 0 and 1.
        seed: Of the noise, 0 or more.
        texture_sha256: Hash of the names of the slices of the source, hexadecimal: a part of a series can have
            another noise than the whole.

    Raises:
        ValueError: If the dose or the seed is out of its range.
    """

    version: str
    dose: float
    seed: int
    texture_sha256: str

    def __post_init__(self):
        if not 0.0 < self.dose < 1.0:
            raise ValueError(f"Expected a dose between 0 and 1. Received: {self.dose}")
        if self.seed < 0:
            raise ValueError(f"Expected a seed of 0 or more. Received: {self.seed}")

    model = SIMULATION
    note = f"SIMULATED low dose: noise was added. {RESEARCH_USE}"
    # No code of CID 7203 tells of added noise: "pixel by pixel addition" adds images that exist. The
    # attribute is optional (PS3.3 C.7.6.1), and a wrong code is worse than none. SyntheticData (C.12.1)
    # would be right, but validators older than that attribute call it an error.
    derivation_code = None
    serial_number = None

    @property
    def percent(self):
        """The dose as text, such as `"25%"`."""
        return f"{100 * self.dose:g}%"

    @property
    def uid_words(self):
        """What the UIDs follow from."""
        return self.model, self.version, repr(float(self.dose)), str(self.seed), self.texture_sha256

    @property
    def number_words(self):
        """What the SeriesNumber follows from, besides the percentage."""
        return self.model, self.version, str(self.seed), self.texture_sha256

    @property
    def percentage(self):
        """By which series of the same `number_words` are sorted."""
        return round(100 * self.dose)

    @property
    def series_suffix(self):
        """The end of SeriesDescription."""
        return f"SIMULATED {self.percent} dose, research use"

    @property
    def name_word(self):
        """What the name of a derived file or folder adds to that of its source."""
        return f"dose_{100 * self.dose:g}"

    @property
    def volume_note(self):
        """What a derived volume file says of itself where there is room for little."""
        return f"{VOLUME_SIMULATED} {self.percent} dose, research use: {self.version}, seed {self.seed}"

    @property
    def description(self):
        """For DerivationDescription and ContributionDescription."""
        return (
            f"SIMULATED low dose: {self.percent} of the dose of the source. Noise added by {MANUFACTURER} "
            f"{self.version}, strength, texture and correlation along z as measured in the flat soft tissue of the "
            f"source series (slices SHA-256 {self.texture_sha256}), seed {self.seed}. {RESEARCH_USE}."
        )
