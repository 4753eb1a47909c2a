"""The data sets of the paper as protocols: what is paired with what, who trains, who tests. NumPy and pydicom only."""

from kpn_tf.datasets.dose import dose
from kpn_tf.datasets.dose_twin import dose_twin
from kpn_tf.datasets.nih import nih
from kpn_tf.datasets.nih_twin import nih_twin
from kpn_tf.datasets.phantom import phantom
from kpn_tf.datasets.phantom_twin import phantom_twin

__all__ = ["dose", "dose_twin", "nih", "nih_twin", "phantom", "phantom_twin"]
