"""Which strength a study recommends, by a stated rule."""

import math
from dataclasses import dataclass

# Of the contrast of the smallest lesion.
CONTRAST_KEPT = 0.9

# Recommended strengths are multiples of it.
_STEP = 0.05

# Of a wanted noise: more of it is not reached.
_REACHED = 1.05

RULE = (
    "The largest strength, in steps of 0.05, at which the {lesion} lesion keeps at least {kept:.0%} of its contrast in "
    "the torso with the noise of this protocol"
)
RULE_NOISE = "; no more than leaves {noise_hu:g} HU of noise, {why}"


@dataclass(frozen=True)
class Recommendation:
    """A strength and why.

    Args:
        strength: 0 to 1; 0: not to be used.
        by_contrast: The largest strength that keeps the contrast.
        by_noise: The strength that leaves the wanted noise, or `None`.
        noise_hu: Noise in HU that the recommended strength leaves.
        rule: The rule, a sentence.
        warnings: Sentences.
    """

    strength: float
    by_contrast: float
    by_noise: float | None
    noise_hu: float
    rule: str
    warnings: tuple[str, ...]


def recommended(measurement, outside, *, wanted_noise_hu=None, why="as wanted"):
    """Recommends a strength.

    Args:
        measurement: `Measurement`.
        outside: What of the protocol the network was not made for: short reasons.
        wanted_noise_hu: Noise in HU that need not be undercut, such as that of routine dose; `None` for none.
        why: Whose noise that is.

    Returns:
        `Recommendation`.
    """
    lesion = measurement.lesions()[0]
    lost = 1.0 - measurement.contrast_kept(lesion, 1.0)
    by_contrast = 1.0 if lost <= 1.0 - CONTRAST_KEPT else (1.0 - CONTRAST_KEPT) / lost
    by_noise = None if wanted_noise_hu is None else measurement.blend.strength_for(wanted_noise_hu)
    limit = by_contrast if by_noise is None else min(by_contrast, by_noise)
    # A rounding error below a step is that step.
    strength = round(math.floor(limit / _STEP + 1e-9) * _STEP, 2)
    noise_hu = measurement.blend.noise_hu(strength)
    warnings = [f"Outside what the network was made for: {', '.join(outside)}."] if outside else []
    if strength == 0.0:
        warnings.append("No strength meets the rule: the network is not recommended for this protocol.")
    if wanted_noise_hu is not None and noise_hu > _REACHED * wanted_noise_hu:
        warnings.append(
            f"The noise that is wanted, {wanted_noise_hu:g} HU, is not reached: {noise_hu:.1f} HU are left."
        )
    rule = RULE.format(lesion=lesion, kept=CONTRAST_KEPT)
    if wanted_noise_hu is not None:
        rule += RULE_NOISE.format(noise_hu=wanted_noise_hu, why=why)
    return Recommendation(strength, by_contrast, by_noise, noise_hu, f"{rule}.", tuple(warnings))
