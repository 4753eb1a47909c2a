"""The data sets of the paper as protocols: what is paired with what, who trains, who tests. NumPy and pydicom only."""

from kpn_tf.datasets.nih import nih
from kpn_tf.datasets.nih_twin import nih_twin

__all__ = ["nih", "nih_twin"]
