"""What chooses the weights of a network for stacks: validation patients, and a torso with faint lesions."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from kpn_tf.dose.along_z import MOST_CORRELATION, correlated_along_z
from kpn_tf.dose.series_noise import noise_like, series_noise
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.metrics import noise_correlation_along_z, psnr
from kpn_tf.phantom import Lesion, Tissue, torso
from kpn_tf.training.data.folders import DOSE, volumes

# Stacks of a validation series.
STACKS = 6

# Scans of the torso, each with and without the lesions; thin slices, at a quarter of a thin slice's dose.
SCANS, STEP_MM, NOISE_HU, CORRELATION = 12, 1.0, 41.0, 0.3

# Other places, sizes and contrasts than those of the torso that networks are measured on (`kpn_tf.phantom`).
LESIONS = tuple(
    Lesion(64 + i, centre_mm, diameter_mm / 2, contrast_hu)
    for i, (centre_mm, diameter_mm, contrast_hu) in enumerate(
        [
            ((-100.0, -10.0, 0.5), 13.0, 17.0),
            ((-60.0, -36.0, -0.5), 13.0, -17.0),
            ((-84.0, 28.0, 0.0), 9.0, 22.0),
            ((-64.0, 10.0, 1.0), 9.0, -22.0),
            ((-88.0, -40.0, -1.0), 6.0, 28.0),
            ((-106.0, 22.0, 0.0), 6.0, -28.0),
        ]
    )
)

# Of the torso's slice of 512 pixels: the part that the lesions lie in, with what a network sees around it.
_LIVER = (slice(140, 364), slice(44, 268))
_MARGIN = 32

# What one dB of PSNR is worth: ten percent of a lesion's contrast, half of its detectability.
_CONTRAST_DB, _D_PRIME_DB = 10.0, 2.0


@dataclass(frozen=True)
class Stack:
    """Neighbouring slices at a low dose, and the normal-dose slice in their middle.

    Args:
        low_hu: `(H, W, S)` in HU.
        distances_mm: `(S,)`, from the middle slice.
        normal_hu: `(H, W)` in HU.
    """

    low_hu: np.ndarray
    distances_mm: np.ndarray
    normal_hu: np.ndarray


def validation_stacks(folder, slices, seed, *, note):
    """A few stacks of every usable series, at a quarter of its dose; the noise is correlated along z as its own is.

    Args:
        folder: CT file, or folder that is searched recursively.
        slices: Slices of a stack, odd.
        seed: Of the noise.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        List of `Stack`.
    """
    rng, stacks, half = np.random.default_rng(seed), [], slices // 2
    for name, volume_hu, pixel_mm, step_mm in volumes(folder, note):
        try:
            noise = series_noise(volume_hu, pixel_mm)
        except ValueError as error:
            note(f"{name}: {error}", False)
            continue
        if not np.isfinite(step_mm) or len(volume_hu) < slices:
            note(f"{name}: expected {slices} evenly spaced slices", False)
            continue
        correlation = np.nan_to_num(noise_correlation_along_z(volume_hu, pixel_mm, 1)[0])
        added_hu = noise.std_hu * np.sqrt(1 / DOSE - 1)
        for middle in np.linspace(half, len(volume_hu) - 1 - half, min(STACKS, len(volume_hu))).astype(int):
            fields = [
                noise_like(volume_hu[middle], pixel_mm, added_hu, noise.spectrum, rng)
                for _ in range(slices + 2)
            ]
            added = correlated_along_z(np.stack(fields), float(np.clip(correlation, 0, MOST_CORRELATION)))
            low_hu = volume_hu[middle - half : middle + half + 1] + added
            stacks.append(_stack(low_hu, step_mm, volume_hu[middle]))
    return stacks


class VolumeValidation:
    """Validates a network for stacks: PSNR on patients; contrast and d' of faint lesions in a torso.

    The torso's lesions are others than those of the torso that networks are measured on. Scans with and without them
    have the same noise, so what a lesion keeps of its contrast is read without noise. Before that, output and input
    are mixed until half of the noise is left: at equal noise, networks of any strength compare.

    Args:
        stacks: `Stack`s of validation patients.
        slices: Slices of a stack, odd.
        seed: Of the torso's noise.
        step_mm: From one of the torso's slices to the next.
        noise_hu: Of the torso.
    """

    def __init__(self, stacks, slices, seed, *, step_mm=STEP_MM, noise_hu=NOISE_HU):
        self._stacks = stacks
        self._step_mm = step_mm
        present = torso(slices=slices, slice_spacing_mm=step_mm, lesions=LESIONS)
        absent = torso(
            slices=slices,
            slice_spacing_mm=step_mm,
            lesions=[dataclasses.replace(lesion, contrast_hu=0.0) for lesion in LESIONS],
        )
        middle = slices // 2
        self._truth_hu = present.volume_hu[middle][_LIVER] - absent.volume_hu[middle][_LIVER]
        self._labels = present.labels[middle][_LIVER]
        self._flat = (self._labels == Tissue.LIVER) & (absent.volume_hu[middle][_LIVER] == 105.0)
        rng = np.random.default_rng(seed)
        self._scans = []
        for _ in range(SCANS):
            middle_hu, mm = absent.volume_hu[middle], present.pixel_spacing_mm[0]
            fields = [
                noise_field(middle_hu, mm, noise_hu, SPECTRA["soft"], rng, _LIVER) for _ in range(slices + 2)
            ]
            noise = correlated_along_z(np.stack(fields), CORRELATION)
            self._scans.append([body.volume_hu[(slice(None), *_LIVER)] + noise for body in (absent, present)])

    def __call__(self, network):
        """Validates.

        Args:
            network: Keras model for stacks, or of single slices.

        Returns:
            Dict: `validation_psnr_soft` in dB, `validation_contrast` (share kept at half of the noise, mean over
            lesions), `validation_d_prime` (gain over the low dose of an
            observer without whitening, median over lesions), and `validation_score`.
        """
        scores = [psnr(s.normal_hu, _denoised(network, s), convention="soft") for s in self._stacks]
        contrast, gain = self._lesions(network)
        psnr_db = float(np.mean(scores))
        return {
            "validation_psnr_soft": psnr_db,
            "validation_contrast": contrast,
            "validation_d_prime": gain,
            "validation_score": psnr_db + _CONTRAST_DB * contrast + _D_PRIME_DB * gain,
        }

    def _lesions(self, network):
        inner = (slice(_MARGIN, -_MARGIN),) * 2
        low, out = (
            np.stack([[one(body_hu)[inner] for body_hu in scan] for scan in self._scans])  # (scans, 2, h, w)
            for one in (
                lambda body_hu: body_hu[len(body_hu) // 2],
                lambda body_hu: _denoised(network, _stack(body_hu, self._step_mm, None)),
            )
        )
        flat, labels, truth_hu = self._flat[inner], self._labels[inner], self._truth_hu[inner]
        share = _share_for_half_the_noise(low[:, 0][:, flat], out[:, 0][:, flat])
        mixed = share * low + (1 - share) * out
        contrasts, gains = [], []
        for lesion in LESIONS:
            pixels = np.argwhere(labels == lesion.label)
            row, column = pixels.mean(0).round().astype(int)
            radius = np.sqrt(len(pixels) / np.pi)
            inside = labels == lesion.label
            kept = (mixed[:, 1] - mixed[:, 0]).mean(0)
            contrasts.append(kept[inside].mean() / truth_hu[inside].mean())
            reach = int(np.ceil(2 * radius))
            box = (..., slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
            d_out, d_low = (_d_prime(images[box]) for images in (out, low))
            gains.append(d_out / d_low - 1)
        return float(np.mean(contrasts)), float(np.median(gains))


def _d_prime(images_hu):
    """d' of an observer that looks for the lesion's mean difference, without whitening: of `(scans, 2, h, w)`."""
    signal = (images_hu[:, 1] - images_hu[:, 0]).mean(0)
    responses = np.tensordot(images_hu[:, 0], signal)
    return np.sum(signal**2) / responses.std(ddof=1)


def _share_for_half_the_noise(low_hu, out_hu):
    """The share of the input for which the noise of the mixture is half of the input's; 0 if the output has more."""
    (low, both), (_, out) = np.cov(low_hu.ravel(), out_hu.ravel())
    if out >= low / 4:
        return 0.0
    # The variance of `t low + (1 - t) out` is `low / 4`: a quadratic in t.
    a, b, c = low - 2 * both + out, 2 * (both - out), out - low / 4
    return float((-b + np.sqrt(b * b - 4 * a * c)) / (2 * a))


def _stack(volume_hu, step_mm, normal_hu):
    distances_mm = np.abs(np.arange(len(volume_hu)) - len(volume_hu) // 2) * step_mm
    return Stack(np.moveaxis(volume_hu, 0, -1).astype(np.float32), distances_mm.astype(np.float32), normal_hu)


def _denoised(network, stack):
    given = stack.low_hu[None]
    if given.shape[-1] > 1:
        given = [given, stack.distances_mm[None]]
    return np.asarray(network(given, training=False))[0, :, :, 0]
