"""Thin slices as they are read: noise from slice to slice, and in means of neighbouring slices."""

import numpy as np

from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from kpn_tf.metrics.noise_along_z import correlation, noise_products
from kpn_tf.quality.intervals import bootstrap
from kpn_tf.quality.slices import quantity

# Thin slices are read in slabs of about this thickness; slices of more than half of it are read as they are.
SLAB_MM = 5.0

# Steps of one series agree to this share.
_EVEN = 0.05


class SlabMeasures:
    """Measures slices that come in order of position; those whose place is not known, or has a gap, begin anew.

    Args:
        kinds: As of `kpn_tf.quality.slices.SliceMeasures`.
    """

    def __init__(self, kinds):
        self._kinds = kinds
        self._last = None  # place, slices by kind, flat regions
        self._slab = []  # slices by kind
        self._step_mm = None
        self._products = []  # per pair of neighbours: (kinds, 3)
        self._noises = []  # per slab: (kinds,)

    def add(self, place, reference_hu, pixel_spacing_mm, slices_hu):
        """Takes a slice.

        Args:
            place: `kpn_tf.evaluation.Place`, or `None`.
            reference_hu: `(H, W)` in HU: what flat regions are found in.
            pixel_spacing_mm: `(rows, columns)` distance between pixels.
            slices_hu: Dict of `(H, W)` in HU by kind.
        """
        if place is None:
            return
        regions = flat_regions(reference_hu, pixel_spacing_mm)
        step_mm = self._step_to(place)
        if step_mm is None:
            self._slab = []
            self._step_mm = None
        else:
            _, last_hu, last_regions = self._last
            self._products.append(
                [noise_products(last_hu[kind], slices_hu[kind], last_regions) for kind in self._kinds]
            )
            if self._step_mm is not None and not np.isclose(step_mm, self._step_mm, rtol=_EVEN):
                self._slab = []
            self._step_mm = step_mm
        self._last = place, slices_hu, regions
        self._slab.append((reference_hu, slices_hu))
        self._close_slab(pixel_spacing_mm)

    def _step_to(self, place):
        """Distance from the last slice, or `None` if this one is not its neighbour."""
        if self._last is None:
            return None
        last = self._last[0]
        step_mm = place.position_mm - last.position_mm
        beside = (place.series, place.index) == (last.series, last.index + 1) and step_mm > 0
        return step_mm if beside else None

    def _close_slab(self, pixel_spacing_mm):
        if self._step_mm is None or self._step_mm > SLAB_MM / 2:
            # The first slice of a series waits for the second.
            self._slab = self._slab[-1:]
            return
        if len(self._slab) < round(SLAB_MM / self._step_mm):
            return
        reference_hu = np.mean([reference_hu for reference_hu, _ in self._slab], axis=0)
        regions = flat_regions(reference_hu, pixel_spacing_mm)
        means_hu = (np.mean([slices_hu[kind] for _, slices_hu in self._slab], axis=0) for kind in self._kinds)
        if regions:
            self._noises.append([regional_noise_std_hu(mean_hu, regions) for mean_hu in means_hu])
        self._slab = []

    def quantities(self):
        """`Quantity`s of what there was: none of slices that are not neighbours, no slabs of thick ones."""
        found = []
        if self._noises:
            noises = np.array(self._noises)  # (slabs, kinds)
            key = ("noise SD in slab means", "HU", f"flat soft tissue, {SLAB_MM:g} mm")
            found.append(self._quantity(key, lambda i: noises[i].mean(0), len(noises)))
        products = np.array(self._products)  # (pairs, kinds, 3)
        if len(products) and products.any():
            key = ("noise correlation along z", "", "neighbouring slices")
            found.append(self._quantity(key, lambda i: correlation(products[i].sum(0)), len(products)))
        return found

    def _quantity(self, key, statistic, count):
        return quantity(*key, None, self._kinds, *bootstrap(statistic, count))

    def conventions(self):
        """What the numbers mean, by name."""
        slabs = (
            f"means of as many neighbouring slices as make about {SLAB_MM:g} mm, none overlapping another; noise as of "
            f"slices, flat boxes found in the slab; {len(self._noises)} slabs, bootstrap over them"
        )
        along = "of the noise of each slice with that of the next, in the first one's flat boxes; bootstrap over pairs"
        return {
            **({"slab means": slabs} if self._noises else {}),
            **({"correlation along z": along} if self._products else {}),
        }
