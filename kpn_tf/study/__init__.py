"""A study: which strength for which protocol, measured on its own slices and on a torso with its noise."""

from kpn_tf.study.measurement import STRENGTHS, Measurement, measure
from kpn_tf.study.protocol import Protocol, protocols
from kpn_tf.study.recommendation import Recommendation, recommended
from kpn_tf.study.rules import rules_toml
from kpn_tf.study.sheet import sheet

__all__ = [
    "STRENGTHS",
    "Measurement",
    "Protocol",
    "Recommendation",
    "measure",
    "protocols",
    "recommended",
    "rules_toml",
    "sheet",
]
