"""Training: the loop, its configuration, its optimizer and the devices that share it."""

from kpn_tf.training.config import TrainingConfig
from kpn_tf.training.loop import TrainingDivergedError, train, validation_psnr
from kpn_tf.training.optimizer import learning_rate_schedule, make_optimizer
from kpn_tf.training.workers import TF_CONFIG, WorkerLostError, strategy_for

__all__ = [
    "TF_CONFIG",
    "TrainingConfig",
    "TrainingDivergedError",
    "WorkerLostError",
    "learning_rate_schedule",
    "make_optimizer",
    "strategy_for",
    "train",
    "validation_psnr",
]
