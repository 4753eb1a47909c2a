"""How long and how fast a network is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Args:
        steps: Optimizer steps in all.
        learning_rate: Greatest rate of Adam, reached after a linear warm-up; a cosine takes it to zero.
        clip_norm: Greatest norm of the gradient over all weights.
        ema: Share of the old average that weight averaging keeps per step; 0 for none.
        validate_every: Steps from one validation to the next.
        seed: Recorded in the run folder, nothing more: the pairs have a `seed` of their own, and
            `keras.utils.set_random_seed` decides how a network starts.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    ema: float = 0.999
    validate_every: int = 1000
    seed: int = 0

    def __post_init__(self):
        if (
            min(self.steps, self.learning_rate, self.clip_norm, self.validate_every) <= 0
            or not 0 <= self.ema < 1
        ):
            raise ValueError(
                f"Expected positive steps, rates and norms, and an ema in [0, 1). Received: {self}"
            )
