"""Adam with the schedule and the clipping of a training."""

import keras
import tensorflow as tf

from kpn_tf.training.config import TrainingConfig

# Steps in which the learning rate rises from nothing, if a training is ten times as long: without them, one seed in
# a few saturates the shares of the filters for good.
WARMUP_STEPS = 500


def learning_rate_schedule(config: TrainingConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up and a cosine.

    Args:
        config: `TrainingConfig`.

    Returns:
        A Keras schedule: steps taken to learning rate.
    """
    warmup = min(WARMUP_STEPS, config.steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        config.steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """Adam with the schedule and clipping of a configuration, the same for `model.fit` and the loop.

    Args:
        config: `TrainingConfig`.

    Returns:
        A Keras optimizer.
    """
    # The other backends have no replicas: there it is one program that runs on all devices.
    adam = WholeBatchAdam if keras.backend.backend() == "tensorflow" else keras.optimizers.Adam
    return adam(learning_rate_schedule(config), global_clipnorm=config.clip_norm)


class WholeBatchAdam(keras.optimizers.Adam):
    """Adam that clips the gradient of the whole batch.

    Keras 3.15 clips that of each replica and sums them afterwards: the norm would depend on how many there are.
    """

    def _clip_gradients(self, grads):
        return super()._clip_gradients(tf.distribute.get_replica_context().all_reduce("sum", grads))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars
