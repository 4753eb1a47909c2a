"""Any callable HU -> HU over pairs of low and normal dose: one table, which says what its numbers mean."""

from kpn_tf.evaluation.comparison import LOW_DOSE, DenoiserError, Pair, Place, denoise_pair, evaluate
from kpn_tf.evaluation.stream import PairStream, paired, simulated_pairs, single_slices
from kpn_tf.evaluation.table import Results, Row

__all__ = [
    "LOW_DOSE",
    "DenoiserError",
    "Pair",
    "PairStream",
    "Place",
    "Results",
    "Row",
    "denoise_pair",
    "evaluate",
    "paired",
    "simulated_pairs",
    "single_slices",
]
