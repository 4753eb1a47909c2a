"""Which series is denoised how, and where it goes."""

import fnmatch
from dataclasses import dataclass

from kpn_tf.node.tables import check
from kpn_tf.trained import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Traits:
    """What rules look at.

    Args:
        calling_ae_title: Who sent the series.
        modality: As in the header; may be empty.
        description: Of the series; may be empty.
        kernel: Convolution kernel; may be empty.
        thickness_mm: Slice thickness, or `None`.
    """

    calling_ae_title: str
    modality: str
    description: str
    kernel: str
    thickness_mm: float | None


@dataclass(frozen=True)
class Rule:
    """`[[rule]]`: the first rule whose conditions all hold is the one for a series.

    Args:
        name: In logs and on the status page.
        destinations: Names of destinations.
        calling_ae_title: Patterns with `*` and `?`, of which one must match; likewise the next three. Case does
            not matter.
        modality: Of the series.
        description: Of the series.
        kernel: Of the series.
        thickness_mm: Smallest and largest slice thickness; empty for any. A series without one matches only then.
        weights: Name of shipped weights, or a .tflite; `""` for none: the series is only forwarded.
        strength: Share of the correction, 0 to 1; of several, a derived series for each.
        noise_hu: Instead of a strength: noise in HU that is wanted in flat soft tissue.
        originals: Whether the originals are forwarded too.
        decompress: Whether they are decompressed for a destination that does not take their transfer syntax.

    Raises:
        ValueError: If a value is out of its range.
    """

    name: str
    destinations: tuple[str, ...]
    calling_ae_title: tuple[str, ...] = ("*",)
    modality: tuple[str, ...] = ("*",)
    description: tuple[str, ...] = ("*",)
    kernel: tuple[str, ...] = ("*",)
    thickness_mm: tuple[float, ...] = ()
    weights: str = DEFAULT_WEIGHTS
    strength: float | tuple[float, ...] = 1.0
    noise_hu: float | None = None
    originals: bool = False
    decompress: bool = False

    def __post_init__(self):
        check(
            *((0.0 <= one <= 1.0, "strength from 0 to 1", one) for one in self.strengths),
            (
                len(set(self.strengths)) == len(self.strengths) > 0,
                "one strength or different ones",
                list(self.strengths),
            ),
            (self.noise_hu is None or self.noise_hu > 0, "noise_hu above 0", self.noise_hu),
            (
                self.noise_hu is None or self.strengths == (1.0,),
                "strength or noise_hu, not both",
                list(self.strengths),
            ),
            (
                len(self.thickness_mm) in (0, 2) and list(self.thickness_mm) == sorted(self.thickness_mm),
                "thickness_mm of two numbers, smallest and largest",
                list(self.thickness_mm),
            ),
            (
                self.originals or not self.decompress,
                "originals = true where decompress = true",
                "originals = false",
            ),
        )

    @property
    def strengths(self):
        """The strengths, a tuple."""
        return self.strength if isinstance(self.strength, tuple) else (self.strength,)

    def matches(self, traits):
        """Whether all conditions hold for `Traits`."""
        words = ("calling_ae_title", "modality", "description", "kernel")
        return all(_any(getattr(self, name), getattr(traits, name)) for name in words) and self._is_thick(
            traits
        )

    def _is_thick(self, traits):
        if not self.thickness_mm:
            return True
        smallest, largest = self.thickness_mm
        return traits.thickness_mm is not None and smallest <= traits.thickness_mm <= largest


def first_match(rules, traits):
    """Returns the first of the rules that matches `Traits`, or `None`."""
    return next((rule for rule in rules if rule.matches(traits)), None)


def _any(patterns, text):
    return any(fnmatch.fnmatchcase(text.upper(), pattern.upper()) for pattern in patterns)
