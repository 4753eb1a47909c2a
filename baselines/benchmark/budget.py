"""How much training a network gets: the same for all that are compared."""

from dataclasses import dataclass

# Xu et al.: 600 epochs of 10 batches, one 64x64 crop from each of 128 slices.
PAPER_STEPS, PAPER_BATCH, PAPER_PATCH = 6000, 128, 64


@dataclass(frozen=True)
class Budget:
    """Either as many steps for every network, or as much arithmetic.

    Args:
        steps: Optimizer steps; `None` with `gmac`.
        gmac: Multiply-accumulates of all forward passes together, in units of 1e9; `None` with `steps`. With the
            backward passes it is three times as much.
        batch: Patches per step.
        patch: Side of a patch in pixels.
        learning_rate: Greatest rate of Adam; `None` leaves each network its own (`baselines.benchmark.methods`).
        precision: Of the trunks: `"float32"` or `"mixed_bfloat16"`.

    Raises:
        ValueError: If not exactly one of steps and gmac is given, or a number is not positive.
    """

    steps: int | None = None
    gmac: float | None = None
    batch: int = 8
    patch: int = 64
    learning_rate: float | None = None
    precision: str = "float32"

    def __post_init__(self):
        given = [n for n in (self.steps, self.gmac) if n is not None]
        numbers = [*given, self.batch, self.patch]
        if len(given) != 1 or min(numbers) <= 0 or (self.learning_rate or 1) <= 0:
            raise ValueError(f"Expected either steps or gmac, and positive numbers. Received: {self}")

    def steps_for(self, gmac_of_a_patch):
        """Steps of a network whose forward pass of a patch costs so much; one at least.

        Example:

        >>> Budget(gmac=6.2e6, batch=128).steps_for(8.1)
        5980
        """
        return self.steps or max(1, round(self.gmac / (self.batch * gmac_of_a_patch)))


def share_of_papers(steps, batch, patch):
    """How many pixels a training saw, as a fraction of the 3.1e9 of the paper's recipe.

    Example:

    >>> share_of_papers(PAPER_STEPS, PAPER_BATCH, PAPER_PATCH), share_of_papers(750, 8, 64)
    (1.0, 0.0078125)
    """
    return steps * batch * patch**2 / (PAPER_STEPS * PAPER_BATCH * PAPER_PATCH**2)
