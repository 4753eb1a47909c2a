"""95 % intervals: by resampling slices or realisations, and by leaving each out in turn."""

from typing import NamedTuple

import numpy as np

from kpn_tf.metrics.noncentral_f import noncentral_f_cdf

RESAMPLES = 1000
SEED = 20210919


class Interval(NamedTuple):
    """A value and the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def bootstrap(statistic, count, resamples=RESAMPLES):
    """Percentile bootstrap; the same samples are drawn for every column, so that differences are paired.

    Args:
        statistic: Function from indices `(count,)` of samples to values `(k,)`.
        count: How many samples there are.
        resamples: How many times they are drawn.

    Returns:
        `(k,)` values, and `(resamples, k)` of the draws; no draws of fewer than two samples.
    """
    value = np.asarray(statistic(np.arange(count)), np.float64)
    if count < 2:
        return value, np.empty((0, len(value)))
    rng = np.random.default_rng(SEED)
    return value, np.stack([statistic(rng.integers(count, size=count)) for _ in range(resamples)])


def spread(value, draws):
    """`Interval` of a value from its draws `(resamples,)`: none where nothing varies, or a draw has no value."""
    if draws.size == 0 or not np.isfinite(draws).all() or np.ptp(draws) == 0:
        return Interval(float(value))
    return Interval(float(value), *(float(n) for n in np.percentile(draws, [2.5, 97.5])))


def jackknife(statistic, count):
    """Interval from what each sample changes: for what resampled twins would distort, such as a covariance.

    Args:
        statistic: Function from indices of samples to a value.
        count: How many samples there are, 2 or more.

    Returns:
        `Interval`: the value, and Student's t with `count - 1` degrees of freedom about it.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 11.
    """
    every = np.arange(count)
    value = statistic(every)
    without = np.array([statistic(np.delete(every, i)) for i in range(count)])
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    reach = students_t(count - 1) * error
    return Interval(float(value), float(value - reach), float(value + reach))


def students_t(degrees):
    """The t that a Student variable exceeds in size with probability 5 %: its square is an F variable.

    Example:

    >>> round(students_t(9), 3)
    2.262
    """
    low, high = 1.0, 20.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_f_cdf(middle**2, 1, degrees, 0.0) < 0.95 else (low, middle)
    return high
