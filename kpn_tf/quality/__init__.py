"""Image quality before and after denoisers: CT series, a torso of known HU, and a phantom for detectability."""

from kpn_tf.quality.given import given_series
from kpn_tf.quality.lcd import lcd_phantom
from kpn_tf.quality.phantom import Phantom, measure_phantom, torso_phantom
from kpn_tf.quality.report import Quantity, Report
from kpn_tf.quality.series import measure_series
from kpn_tf.quality.stacks import sharpness_along_z, torso_stacks

__all__ = [
    "Phantom",
    "Quantity",
    "Report",
    "given_series",
    "lcd_phantom",
    "measure_phantom",
    "measure_series",
    "sharpness_along_z",
    "torso_phantom",
    "torso_stacks",
]
