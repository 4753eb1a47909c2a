"""Hounsfield units: the constants and windows every other module speaks in."""

from dataclasses import dataclass

AIR_HU = -1000.0

# One unit inside the networks: the width of the soft-tissue display window.
UNIT_HU = 400.0

# Linear attenuation of water at the effective energy of a 120 kV beam.
WATER_ATTENUATION_PER_MM = 0.0192


@dataclass(frozen=True)
class Window:
    """A range of HU that a network, a metric or a picture looks at; values outside are clipped.

    Args:
        low_hu: Lower end of the window in HU.
        high_hu: Upper end of the window in HU.

    Raises:
        ValueError: If `high_hu` is not above `low_hu`.
    """

    low_hu: float
    high_hu: float

    def __post_init__(self):
        if not self.high_hu > self.low_hu:
            raise ValueError(
                f"Expected high_hu above low_hu. Received: low_hu={self.low_hu}, high_hu={self.high_hu}"
            )

    @property
    def width_hu(self):
        return self.high_hu - self.low_hu


# The conventions a PSNR or SSIM can be computed under; the name is printed with the number.
WINDOWS = {
    "soft": Window(-160.0, 240.0),
    "lung": Window(-1350.0, 150.0),
    "full": Window(-1024.0, 3072.0),
}

# What a network sees; what lies beyond (metal, undeclared padding) is added back unchanged. Of the pixels that `edge`
# was trained on 0.08 % lie above and 0.05 % below. Beside metal of 3,071 to 30,000 HU the undershoot of its kernels
# stays within the noise up to here, and beyond it no longer (tests/test_limits.py).
SEEN = Window(-1200.0, 1200.0)
