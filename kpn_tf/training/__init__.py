"""Training: the loop, its configuration, its optimizer, the devices that share it, and the data it draws from."""

from kpn_tf.lazy import public_names

# Public name -> module that holds it: `kpn_tf.training.data` runs without TensorFlow.
_PUBLIC = {
    "TF_CONFIG": "kpn_tf.training.workers",
    "TrainingConfig": "kpn_tf.training.config",
    "TrainingDivergedError": "kpn_tf.training.loop",
    "WorkerLostError": "kpn_tf.training.workers",
    "learning_rate_schedule": "kpn_tf.training.optimizer",
    "make_optimizer": "kpn_tf.training.optimizer",
    "strategy_for": "kpn_tf.training.workers",
    "train": "kpn_tf.training.loop",
    "validation_scores": "kpn_tf.training.validation",
}

__all__ = list(_PUBLIC)
__getattr__, __dir__ = public_names("kpn_tf.training", _PUBLIC, extra="train")
