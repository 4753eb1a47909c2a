"""Means over trainings and samples, and 95 % intervals that know of both."""

import numpy as np

from kpn_tf.quality.intervals import Interval

RESAMPLES = 2000
_SEED = 20210919


def mean_interval(values):
    """Mean of a method over its seeds and samples.

    Args:
        values: `(seeds, samples)`; a sample (a slice, a scan of the torso) without a value is NaN, and left out.

    Returns:
        `kpn_tf.quality.intervals.Interval`: percentile bootstrap, seeds and samples drawn anew, each on their own. Of
        one seed it is that of `kpn evaluate`, over samples alone.
    """
    (value,), draws = _resampled(values)
    return _spread(value, draws[:, 0])


def difference_interval(of, against):
    """Difference of the means of two methods, from the same samples of both.

    Args:
        of: `(seeds, samples)` of the method that counts positive.
        against: Likewise, of the same samples; it may have fewer or more seeds.

    Returns:
        `kpn_tf.quality.intervals.Interval`.
    """
    (one, other), draws = _resampled(of, against)
    return _spread(one - other, draws[:, 0] - draws[:, 1])


def _resampled(*groups):
    """Means `(groups,)`, and of each resample `(RESAMPLES, groups)`; the samples of a resample are those of all."""
    groups = [np.asarray(values, np.float64) for values in groups]
    known = np.all([np.isfinite(values).all(axis=0) for values in groups], axis=0)
    if not known.any():
        return np.full(len(groups), np.nan), np.full((RESAMPLES, len(groups)), np.nan)
    groups = [values[:, known] for values in groups]
    rng = np.random.default_rng(_SEED)
    samples = rng.integers(known.sum(), size=(RESAMPLES, known.sum()))
    draws = []
    for values in groups:
        seeds = rng.integers(len(values), size=(RESAMPLES, len(values)))
        draws.append(values[seeds[:, :, None], samples[:, None, :]].mean(axis=(1, 2)))
    return np.array([values.mean() for values in groups]), np.stack(draws, axis=-1)


def _spread(value, draws):
    return Interval(float(value), *(float(n) for n in np.percentile(draws, [2.5, 97.5], method="nearest")))
