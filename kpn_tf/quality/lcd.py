"""The layout of a low-contrast phantom: folders of doses, in each scans with and without its discs."""

import re
from pathlib import Path

import numpy as np

from kpn_tf.connected import connected
from kpn_tf.evaluation import Pair
from kpn_tf.metrics import flat_regions
from kpn_tf.quality.lesions import Lesion
from kpn_tf.quality.metaimage import open_metaimage
from kpn_tf.quality.phantom import Phantom

# Stored values are HU + 1000.
_OFFSET_HU = 1000.0

# Water, at 0 HU, lies on the border of what counts as soft tissue: lifted into its middle, its flat regions are found.
_RAISED_HU = 75.0

_CLASSES = {True: "signal_present", False: "signal_absent"}


def lcd_phantom(folder, note):
    """Opens scans of the MITA low-contrast phantom in the layout of DIDSR's LCD_CT.

        ground_truth.mhd, dose_010/signal_absent/*.mhd, dose_010/signal_present/*.mhd, dose_055/...

    Stored values are HU + 1000. Discs are what the ground truth has above 0 HU; lengths are in pixels, as its
    headers hold no spacing.

    Args:
        folder: The folder with `ground_truth.mhd`.
        note: Callback `(line, failure)` for skipped scans.

    Returns:
        `Phantom`.

    Raises:
        ValueError: If the folder or a header holds something else.
    """
    folder = Path(folder)
    doses = {
        int(match[1]) / 100: path
        for path in sorted(folder.glob("dose_*"))
        if (match := re.fullmatch(r"dose_(\d+)", path.name)) and int(match[1]) > 0
    }
    headers = {
        (dose, present): sorted((path / name).glob("*.mhd"))
        for dose, path in doses.items()
        for present, name in _CLASSES.items()
    }
    if not (folder / "ground_truth.mhd").is_file() or not doses or {len(h) for h in headers.values()} != {1}:
        raise ValueError(
            "Expected ground_truth.mhd and folders dose_NNN, each with one .mhd in signal_present and one in "
            f"signal_absent. Received: {folder} with something else"
        )
    truth = open_metaimage(folder / "ground_truth.mhd")
    truth_hu = truth.read(truth.files[0]) - _OFFSET_HU
    discs = tuple(sorted(_discs(truth_hu), key=lambda disc: disc.radius))
    images = {key: open_metaimage(header) for key, (header,) in headers.items()}
    if not discs or {image.shape for image in images.values()} != {truth_hu.shape}:
        raise ValueError(
            f"Expected a ground truth with discs above 0 HU and scans of its size. Received: {len(discs)} discs, "
            f"{truth_hu.shape} and {', '.join(str(image.shape) for image in images.values())}"
        )

    def scans():
        truths_hu = {True: truth_hu, False: np.minimum(truth_hu, 0.0)}
        for (dose, present), image in images.items():
            for file in image.files:
                try:
                    low_hu = image.read(file) - _OFFSET_HU
                except (OSError, ValueError) as error:
                    note(str(error), True)
                    continue
                yield dose, present, Pair(low_hu, truths_hu[present], "phantom", file.name, (1.0, 1.0))

    return Phantom(
        "low-contrast phantom, " + ", ".join(f"{100 * dose:g} %" for dose in doses) + " of the dose",
        discs,
        truth_hu,
        flat_regions(np.minimum(truth_hu, 0.0) + _RAISED_HU, 1.0),
        "pixel",
        True,
        False,
        sum(len(image.files) for image in images.values()),
        scans(),
    )


def _discs(truth_hu):
    """Discs above the background of 0 HU: their centres of mass, radii of equal area, and plateaus."""
    left = truth_hu > 0
    while left.any():
        first = np.zeros_like(left)
        first[tuple(np.argwhere(left)[0])] = True
        member = connected(left, first, corners=True)
        left &= ~member
        weights = np.where(member, truth_hu, 0.0)
        rows, columns = np.indices(truth_hu.shape)
        total, contrast_hu = weights.sum(), weights.max()
        centre = (float((weights * rows).sum() / total), float((weights * columns).sum() / total))
        radius = float(np.sqrt(total / contrast_hu / np.pi))
        yield Lesion(f"{contrast_hu:+.0f} HU, {2 * radius:.1f} pixels", centre, radius, float(contrast_hu))
