"""Coding patches and averaging them as Elad & Aharon describe it: one patch after the other."""

import numpy as np


def pursuit(signal, dictionary, bound, most):
    """Codes `(A,)` of one signal `(d,)`: the atom that goes best with the rest, then all weights anew."""
    taken, weights, rest = [], [], signal
    while np.sum(rest**2) > bound and len(taken) < most:
        taken.append(np.argmax(np.abs(dictionary @ rest)))
        weights = np.linalg.lstsq(dictionary[taken].T, signal, rcond=None)[0]
        rest = signal - weights @ dictionary[taken]
    codes = np.zeros(len(dictionary))
    codes[taken] = weights
    return codes


def average(slice_hu, dictionary, bound, side, most, noisy):
    """Every pixel: the mean of what the patches that see it say of it, and of itself so many times."""
    said = [[[value] * noisy for value in row] for row in slice_hu]
    for top in range(slice_hu.shape[0] - side + 1):
        for left in range(slice_hu.shape[1] - side + 1):
            patch = slice_hu[top : top + side, left : left + side].ravel()
            codes = pursuit(patch - patch.mean(), dictionary, bound, most)
            quiet = (patch.mean() + codes @ dictionary).reshape(side, side)
            for row, column in np.ndindex(side, side):
                said[top + row][left + column].append(quiet[row, column])
    return np.array([[np.mean(opinions) for opinions in row] for row in said])
