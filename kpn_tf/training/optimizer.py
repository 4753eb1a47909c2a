"""Adam with the schedule and the clipping of a training."""

from typing import Any

import keras
from keras import ops

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
    schedule = learning_rate_schedule(config)
    if keras.backend.backend() == "tensorflow":
        from kpn_tf.training.whole_batch_adam import WholeBatchAdam

        return WholeBatchAdam(schedule, global_clipnorm=config.clip_norm)
    # The other backends have no replicas: there it is one program that runs on all devices.
    return keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm)


def share_kept(config: TrainingConfig, taken: Any) -> Any:
    """Share of the old average that weight averaging keeps in a step.

    Args:
        config: `TrainingConfig`.
        taken: Steps taken, this one included: scalar tensor.

    Returns:
        Scalar tensor, float32.
    """
    taken = ops.cast(taken, "float32")
    # A young average forgets faster, or it would remember the initial weights.
    return ops.minimum(config.ema, taken / (taken + 10.0))
