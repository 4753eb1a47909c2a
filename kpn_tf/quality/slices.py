"""What every slice shows, before and after: noise and its texture, HU bias, structure."""

import dataclasses

import numpy as np

from kpn_tf.metrics import (
    flat_regions,
    grid_bias_hu,
    mean_frequency,
    noise_power_spectrum,
    noise_power_spectrum_2d,
    noise_std_map,
    regional_noise_std_hu,
    structure_by_class,
    structure_classes,
    window_side,
)
from kpn_tf.metrics.noise_map import WINDOW_MM
from kpn_tf.metrics.structure import CLASSES
from kpn_tf.quality.intervals import bootstrap, spread
from kpn_tf.quality.report import BEFORE, Quantity, resampling

# Cells of the bias grid.
_CELL_MM = 10.0

# A cell of the body: not the air around it.
_BODY_HU = -950.0

# Where the noise map is read: fat to bone excluded, vessels of the lung as well.
_SOFT_HU = (-160.0, 240.0)


class SliceMeasures:
    """Measures slices one by one and keeps only numbers.

    Args:
        kinds: "before", the denoisers, and the name of the reference where that is another slice.
        length: "mm" or "pixel".
    """

    def __init__(self, kinds, length):
        self.kinds = kinds
        self.count = 0
        self.noise_map, self.plane, self.bias = {}, {}, {}
        self._length = length
        self._numbers = []  # per slice: by (name, unit, of) a list of values by kind
        self._radial = []  # per slice: (frequency, (kinds, n), regions)
        self._shape = None

    def add(self, reference_hu, pixel_spacing_mm, slices_hu, regions=None):
        """Measures a slice.

        Args:
            reference_hu: `(H, W)` in HU: what flat regions, classes and the bias are found with.
            pixel_spacing_mm: `(rows, columns)` distance between pixels.
            slices_hu: Dict of `(H, W)` in HU by kind.
            regions: Boxes to measure noise in; by default `flat_regions` of the reference.

        Raises:
            ValueError: If the slice is smaller than the windows; nothing was added then.
        """
        side = window_side(pixel_spacing_mm)
        cell = max(1, round(_CELL_MM / min(pixel_spacing_mm)))
        regions = flat_regions(reference_hu, pixel_spacing_mm) if regions is None else regions
        classes = structure_classes(reference_hu)
        flat = (
            (classes == CLASSES.index("flat")) & (reference_hu > _SOFT_HU[0]) & (reference_hu < _SOFT_HU[1])
        )
        body = grid_bias_hu(np.zeros_like(reference_hu), reference_hu, cell) > _BODY_HU
        maps = {kind: noise_std_map(slice_hu, side) for kind, slice_hu in slices_hu.items()}
        grids = {kind: _in(body, grid_bias_hu(reference_hu, s, cell)) for kind, s in slices_hu.items()}
        numbers = {
            ("noise SD", "HU", "flat soft tissue"): [
                regional_noise_std_hu(slices_hu[kind], regions) for kind in self.kinds
            ],
            ("noise SD map, median", "HU", "soft tissue"): [_median(maps[kind][flat]) for kind in self.kinds],
            ("HU bias, mean", "HU", "cells of the body"): [_mean(grids[kind]) for kind in self.kinds],
            ("HU bias, RMS", "HU", "cells of the body"): [
                np.sqrt(_mean(grids[kind] ** 2)) for kind in self.kinds
            ],
        }
        structure = {kind: structure_by_class(slices_hu[kind], classes) for kind in self.kinds}
        for i, (name, unit) in enumerate((("gradient strength", "HU/pixel"), ("coherence", ""))):
            for of in ("edge", "fine", "flat"):
                numbers[name, unit, of] = [structure[kind][of][i] for kind in self.kinds]
        self._numbers.append(numbers)
        self._spectra(slices_hu, regions, pixel_spacing_mm)
        if self._shape is None:
            self._shape = (np.shape(reference_hu), tuple(pixel_spacing_mm))
            self.noise_map = maps
        if self._shape == (np.shape(reference_hu), tuple(pixel_spacing_mm)):
            for kind, grid in grids.items():
                self.bias.setdefault(kind, []).append(grid)
        self.count += 1

    def _spectra(self, slices_hu, regions, pixel_spacing_mm):
        if not regions:
            self._radial.append(None)
            return
        radial = []
        for kind in self.kinds:
            stack = np.stack([slices_hu[kind][region] for region in regions])
            frequency, nps = noise_power_spectrum(stack, pixel_spacing_mm)
            radial.append(nps)
            axes, plane = noise_power_spectrum_2d(stack, pixel_spacing_mm)
            known = self.plane.setdefault(kind, [axes, 0.0, 0])
            # Slices of other pixels have other frequencies: the picture is of the first kind of slice.
            if all(a.shape == b.shape and np.allclose(a, b) for a, b in zip(known[0], axes, strict=True)):
                known[1], known[2] = known[1] + len(regions) * plane, known[2] + len(regions)
        self._radial.append((frequency, np.stack(radial), len(regions)))

    def radial(self):
        """Radial spectra of the ensemble of all regions: `(frequency, nps)` by kind; empty without regions."""
        frequency, spectra, weights = self._common()
        if not weights.any():
            return {}
        nps = np.einsum("s,skf->kf", weights, spectra) / weights.sum()
        return {kind: (frequency, nps[i]) for i, kind in enumerate(self.kinds)}

    def _common(self):
        """All spectra on the frequencies of the first, up to the lowest of the highest."""
        known = [entry for entry in self._radial if entry is not None]
        if not known:
            return np.zeros(0), np.zeros((self.count, len(self.kinds), 0)), np.zeros(self.count)
        frequency = known[0][0]
        frequency = frequency[frequency <= min(entry[0][-1] for entry in known)]
        spectra = np.zeros((self.count, len(self.kinds), len(frequency)))
        weights = np.zeros(self.count)
        for i, entry in enumerate(self._radial):
            if entry is not None:
                spectra[i] = [np.interp(frequency, entry[0], nps) for nps in entry[1]]
                weights[i] = entry[2]
        return frequency, spectra, weights

    def quantities(self, dose=None):
        """`Quantity`s of all slices so far."""
        found = []
        for key in self._numbers[0]:
            values = np.array([numbers[key] for numbers in self._numbers])  # (slices, kinds)
            kept = values[np.isfinite(values[:, 0])]
            if len(kept):
                found.append(self._quantity(key, dose, lambda i, kept=kept: kept[i].mean(0), len(kept)))
        frequency, spectra, weights = self._common()
        with_regions = np.flatnonzero(weights)
        if with_regions.size:

            def texture(i):
                nps = np.einsum("s,skf->kf", weights[with_regions[i]], spectra[with_regions[i]])
                return [
                    # What is left in a truth without noise is its shading.
                    np.nan if kind == "truth" else mean_frequency(frequency, one)
                    for kind, one in zip(self.kinds, nps, strict=True)
                ]

            key = ("NPS, mean frequency", f"1/{self._length}", "flat soft tissue")
            found.insert(2, self._quantity(key, dose, texture, len(with_regions)))
        return found

    def worst_cell(self, dose=None):
        """`Quantity` of the cell that is furthest off in the mean of all slices: for scans of one slice only.

        Each kind has a cell of its own, so there are no changes; the interval is that of its mean.
        """
        grids = np.array([self.bias[kind] for kind in self.kinds])  # (kinds, slices, rows, columns)
        grids = grids[..., np.isfinite(grids[0, 0])]  # (kinds, slices, cells)
        worst = np.abs(grids.mean(1)).argmax(1)
        of_worst = np.take_along_axis(grids, worst[:, None, None], axis=2)[..., 0]  # (kinds, slices)
        found = self._quantity(
            ("HU bias of the mean scan, furthest", "HU", "one cell"),
            dose,
            lambda i: of_worst[:, i].mean(1),
            self.count,
        )
        return dataclasses.replace(found, changes={})

    def _quantity(self, key, dose, statistic, count):
        return quantity(*key, dose, self.kinds, *bootstrap(statistic, count))

    def conventions(self):
        """What the numbers mean, by name."""
        regions = sum(entry[2] for entry in self._radial if entry is not None)
        size = "×".join(map(str, next(iter(self.plane.values()))[1].shape)) if self.plane else "none"
        unit = self._length
        return {
            "noise SD": "root mean square of the SDs about a plane in the flattest soft-tissue boxes of "
            f"15 × 15 {unit}, found in the reference: reference or truth, else before",
            "NPS": f"the same {regions} boxes of {size} pixels, each about its plane; |DFT|² averaged over boxes, then "
            f"over rings; mean frequency Σ f·NPS / Σ NPS; HU²·{unit}²",
            "noise SD map": f"SD about a plane in a window of {WINDOW_MM:g} {unit} around each pixel; median over "
            "pixels of class flat between -160 and 240 HU",
            "HU bias": "mean difference to the reference (reference or truth, else before) in cells of "
            f"{_CELL_MM:g} {unit}, those above -950 HU; RMS over cells holds the noise that a cell's mean has",
            "structure": "tensor of 11 × 11 pixels in [-160, 240] HU; class by the largest weight of the "
            "structure-aware loss in the reference; strength √(λ1/121)",
            "intervals": resampling("slices"),
        }


def quantity(name, unit, of, dose, kinds, values, draws):
    """A `Quantity` from values `(kinds,)` and their draws `(resamples, kinds)`."""
    before = kinds.index(BEFORE)
    references = ("truth", "reference")
    changes = {
        kind: spread(values[i] - values[before], draws[:, i] - draws[:, before])
        for i, kind in enumerate(kinds)
        if i != before and kind not in references
    }
    return Quantity(
        name, unit, of, dose, {k: spread(values[i], draws[:, i]) for i, k in enumerate(kinds)}, changes
    )


def _in(body, grid):
    return np.where(body, grid, np.nan)


def _mean(values):
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")
