"""The noncentral F distribution: where the sampled detectability of an observer lies."""

from math import lgamma

import numpy as np


def noncentral_f_cdf(x, p, q, noncentrality):
    """Probability that a noncentral F variable is at most `x`.

    `Σ_j Poisson(j; λ/2) · I_y(p/2 + j, q/2)` with `y = p x / (p x + q)`; the incomplete beta function is itself
    the sum of positive terms `T_i` from `i = j` on, so the two sums are one: `Σ_i T_i · P(Poisson(λ/2) ≤ i)`.

    Args:
        x: A number, 0 or more.
        p: Degrees of freedom of the numerator.
        q: Degrees of freedom of the denominator.
        noncentrality: λ, 0 or more.

    Returns:
        A probability.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5 and 26.6.

    Example:

    >>> round(noncentral_f_cdf(161.4476, 1, 1, 0.0), 6)  # the 95 % point in every table of F
    0.95
    """
    if x <= 0:
        return 0.0
    y, a, b = p * x / (p * x + q), p / 2, q / 2
    # The terms are those of a negative binomial distribution: its mean and 25 standard deviations.
    terms = int((b * y + 25 * np.sqrt(b * y) + 25) / (1 - y) + noncentrality / 2) + 50
    i = np.arange(terms)
    # T_0 = y^a (1-y)^b Γ(a+b) / (Γ(a+1) Γ(b)); T_(i+1) / T_i = y (a+i+b) / (a+i+1)
    first = a * np.log(y) + b * np.log1p(-y) + lgamma(a + b) - lgamma(a + 1) - lgamma(b)
    steps = np.log(y) + np.log(a + i[:-1] + b) - np.log(a + i[:-1] + 1)
    beta_terms = np.exp(first + np.concatenate([[0.0], np.cumsum(steps)]))
    half = noncentrality / 2
    if half == 0:
        return float(min(beta_terms.sum(), 1.0))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(i[1:]))])
    poisson = np.exp(i * np.log(half) - half - log_factorial)
    return float(min((beta_terms * np.minimum(np.cumsum(poisson), 1.0)).sum(), 1.0))


def noncentrality_for(probability, x, p, q):
    """The λ under which `x` is exceeded with probability `1 - probability`; 0 where even λ = 0 exceeds it more.

    Args:
        probability: Between 0 and 1.
        x: What was observed.
        p: Degrees of freedom of the numerator.
        q: Degrees of freedom of the denominator.

    Returns:
        λ, to six digits.
    """
    if noncentral_f_cdf(x, p, q, 0.0) <= probability:
        return 0.0
    low, high = 0.0, 1.0
    while noncentral_f_cdf(x, p, q, high) > probability:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_f_cdf(x, p, q, middle) > probability else (low, middle)
    return (low + high) / 2
