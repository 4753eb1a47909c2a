"""K-SVD: every patch becomes a few atoms of a dictionary that is learnt on the noisy slice itself."""

import numpy as np

from baselines.calibration import calibrated_sigma_hu, checked_sigma_hu, checked_slice_hu
from baselines.packages import package_of

# Elad & Aharon 2006, section III: 8 x 8 patches, 256 atoms, C = 1.15, ten iterations.
SIDE = 8
ATOMS = 256
NOISE_GAIN = 1.15
ITERATIONS = 10

# Patches that are drawn to learn from, of which about half are rough. On a validation slice 4,000 rough ones gave
# 0.03 dB less than 10,000, and 20,000 no more.
SAMPLE = 20000

# Half the numbers of a patch: with more, atoms describe its noise.
MOST_ATOMS = SIDE**2 // 2

# Patches that are coded at once; more of them take more memory and no less time.
_TOGETHER = 4096

# Sigma over the noise in flat tissue, and how many patches the noisy pixel counts like: the best of these on the
# validation patient (crlm_1006_abdomen, a quarter dose by simulation, six slices at each noise; the pairs of `kpn
# benchmark`). Mean PSNR soft in dB at a noise of 21 HU (low dose 31.97) and 31 HU (27.85); dictlearn 1.0.0, 2026-11:
#   patches          0             7             11            16            21            27
#   factor 0.9   36.13 31.41
#   factor 1.0   35.92 31.53   36.22 31.68   36.30 31.70   36.32 31.67   36.28 31.60   36.18 31.49
#   factor 1.2   35.26 31.37   35.77 31.75   35.96 31.87   36.08 31.94   36.14 31.95   36.14 31.90
#   factor 1.4   34.59 30.91   35.20 31.45   35.45 31.65   35.65 31.80   35.79 31.88   35.86 31.89
# A share of the noise in the output pays because the normal dose has its part of it.
FACTOR, NOISY = 1.2, 21


class KSVD:
    """Sparse and redundant representation over a dictionary learnt on the slice.

    Each patch, its mean taken off, is approximated by as few atoms as bring the error down to what noise explains,
    `(1.15 sigma)² · 64` HU²; overlapping approximations and the noisy slice are averaged (the paper's lambda). What
    differs from the paper: the dictionary is learnt on a sample of the patches, the mean of each patch is kept apart,
    lambda does not depend on sigma, and no atom is exchanged for being similar to another.

    Args:
        sigma_hu: Standard deviation of the noise in HU; `None` calibrates it for every slice.
        seed: Draws the patches to learn from; the same slice always gets the same dictionary.

    Raises:
        ImportError: If the extra is not installed.
        ValueError: If `sigma_hu` is not positive.

    Example:

    ```python
    denoise = KSVD()
    quiet_hu = denoise(slice_hu)  # (H, W) -> (H, W)
    ```

    Source: Elad, Aharon, "Image denoising via sparse and redundant representations over learned dictionaries", IEEE
    Trans Image Process 15 (2006); Aharon, Elad, Bruckstein, "K-SVD: an algorithm for designing overcomplete
    dictionaries for sparse representation", IEEE Trans Signal Process 54 (2006); package dictlearn.
    """

    def __init__(self, sigma_hu=None, seed=0):
        self.sigma_hu = checked_sigma_hu(sigma_hu)
        self.seed = seed
        self._dictlearn = package_of("K-SVD", "dictlearn")
        self._threads = package_of("K-SVD", "threadpoolctl")

    def __call__(self, slice_hu):
        """Denoises one slice.

        Args:
            slice_hu: `(H, W)` in HU; it is not altered.

        Returns:
            New float32 `(H, W)` array in HU; the values given where calibration finds no noise.

        Raises:
            ValueError: If the slice is not two-dimensional, is empty, or holds NaN or infinity.
        """
        slice_hu = checked_slice_hu(slice_hu)
        sigma_hu = self.sigma_hu or calibrated_sigma_hu(slice_hu, FACTOR)
        if sigma_hu == 0:
            return slice_hu.astype(np.float32)
        rows, columns = slice_hu.shape
        spare = [(0, max(0, SIDE - side)) for side in slice_hu.shape]
        padded_hu = np.pad(slice_hu, spare, mode="symmetric")
        bound = (NOISE_GAIN * sigma_hu) ** 2 * SIDE**2
        # Thousands of small products: threads gain little, and on a busy machine they wait minutes for one another.
        with self._threads.threadpool_limits(1, user_api="blas"):
            dictionary = self._learnt(padded_hu, bound)
            denoised_hu = _average(padded_hu, dictionary, bound)
        return denoised_hu[:rows, :columns].astype(np.float32)

    def _learnt(self, slice_hu, bound):
        """Dictionary `(256, 64)`: atoms of unit norm, row by row."""
        windows = np.lib.stride_tricks.sliding_window_view(slice_hu, (SIDE, SIDE))  # (h, w, 8, 8)
        rows, columns = windows.shape[:2]
        drawn = np.random.default_rng(self.seed).permutation(rows * columns)[:SAMPLE]
        patches = windows[np.unravel_index(drawn, (rows, columns))].reshape(-1, SIDE**2)  # (n, 64)
        patches = patches - patches.mean(axis=1, keepdims=True)
        # What its mean explains needs no atom, and teaches none.
        rough = patches[np.sum(patches**2, axis=1) > bound]
        if len(rough) == 0:
            return _cosines()
        learning = self._dictlearn.DictionaryLearning(
            ATOMS,
            fit_algorithm="ksvd",
            transform_algorithm=lambda signals, dictionary, **_: pursuit(signals, dictionary, bound),
            max_iter=ITERATIONS,
            dict_init=_cosines(),
            replace_unused_atoms="no",
            random_state=self.seed,
        )
        return learning.fit(rough).components_


def pursuit(signals, dictionary, bound):
    """Orthogonal matching pursuit of many signals at once, each until its error is small enough.

    Step by step a signal takes the atom that goes best with what is left of it, and the weights of all its atoms anew
    by least squares, until the sum of squares left is at most `bound`, or 32 atoms are taken, or none goes with the
    rest. dictlearn's own takes one atom at least, and one signal after the other: a minute per slice rather than
    seconds.

    Args:
        signals: `(n, d)`.
        dictionary: `(A, d)`, rows of unit norm.
        bound: Largest sum of squares that may be left, in the squared unit of `signals`.

    Returns:
        Codes `(n, A)`, zero but for the atoms taken: `codes @ dictionary` are the approximations.

    Example:

    >>> pursuit(np.array([[3.0, 0.5], [0.5, 0.5]]), np.eye(2), 1.0).tolist()
    [[3.0, 0.0], [0.0, 0.0]]

    Source: Rubinstein, Zibulevsky, Elad, "Efficient implementation of the K-SVD algorithm using batch orthogonal
    matching pursuit", Technion CS-2008-08.
    """
    gram = dictionary @ dictionary.T  # (A, A)
    codes = np.zeros((len(signals), len(dictionary)))
    going, rest = np.arange(len(signals)), signals
    taken, weights = np.zeros((len(signals), 0), int), np.zeros((len(signals), 0))
    while len(going):
        agreement = rest @ dictionary.T  # (n, A)
        best = np.abs(agreement).argmax(axis=1)
        left = np.sum(rest**2, axis=1)
        helpful = np.take_along_axis(agreement, best[:, None], axis=1)[:, 0] ** 2 > 1e-12 * left
        more = (left > bound) & helpful & (taken.shape[1] < MOST_ATOMS)
        codes[going[~more, None], taken[~more]] = weights[~more]

        going, taken = going[more], np.column_stack([taken[more], best[more]])  # (n), (n, k)
        aims, atoms = signals[going], dictionary[taken]  # (n, d), (n, k, d)
        grams = gram[taken[:, :, None], taken[:, None, :]]  # (n, k, k)
        weights = np.linalg.solve(grams, atoms @ aims[:, :, None])[:, :, 0]
        rest = aims - (weights[:, None, :] @ atoms)[:, 0]
    return codes


def _average(slice_hu, dictionary, bound):
    """The mean of what all patches that see a pixel say of it; what it was counts like `NOISY` patches."""
    rows, columns = (side - SIDE + 1 for side in slice_hu.shape)
    total_hu, count = NOISY * slice_hu, np.full_like(slice_hu, NOISY)
    step = max(1, _TOGETHER // columns)
    for top in range(0, rows, step):
        band = slice_hu[top : top + step + SIDE - 1]
        windows = np.lib.stride_tricks.sliding_window_view(band, (SIDE, SIDE))  # (b, w, 8, 8)
        patches = windows.reshape(-1, SIDE**2)
        means = patches.mean(axis=1, keepdims=True)
        quiet = means + pursuit(patches - means, dictionary, bound) @ dictionary
        quiet = quiet.reshape(windows.shape)
        for row, column in np.ndindex(SIDE, SIDE):
            seen = np.s_[top + row : top + row + len(windows), column : column + columns]
            total_hu[seen] += quiet[:, :, row, column]
            count[seen] += 1
    return total_hu / count


def _cosines():
    """Overcomplete cosines `(256, 64)` of unit norm: 16 frequencies along rows times 16 along columns."""
    frequencies = int(ATOMS**0.5)
    waves = np.cos(np.pi / frequencies * np.outer(np.arange(frequencies), np.arange(SIDE)))  # (16, 8)
    waves[1:] -= waves[1:].mean(axis=1, keepdims=True)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return np.kron(waves, waves)
