"""The report of a digital torso as a browser shows it, for the docs: nobody's scan.

`python -m benchmarks.report_picture docs/images`, with Debian's chromium.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from kpn_tf import cli
from kpn_tf.dose.series_noise import SeriesNoise, noise_like, simulate_low_dose
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.phantom import torso, write_series
from tests.browser import PHONE, Browser, choose

SIDE, PIXEL_MM = 512, 0.75
DOSE = 0.25
# Of the pictures, and of the one that shows the kernels of neighbouring slices.
WEIGHTS, STACK = "edge", "stack"

# Row and column of a vessel in the liver.
PIXEL = (228, 190)

LAPTOP = (1440, 900)

READY = "document.body.dataset.slice !== undefined"


def write_scan(folder, slices):
    """Writes the torso at a quarter of the dose and at normal dose, 12 HU of noise, as two series."""
    body = torso(SIDE, SIDE, slices, pixel_spacing_mm=PIXEL_MM)
    noise = SeriesNoise(12.0, SPECTRA["soft"])
    rng = np.random.default_rng(20210919)
    normal_hu, low_hu = [], []
    for truth_hu in body.volume_hu:
        slice_hu = truth_hu + noise_like(truth_hu, PIXEL_MM, noise.std_hu, noise.spectrum, rng)
        normal_hu.append(slice_hu)
        low_hu.append(simulate_low_dose(slice_hu, PIXEL_MM, dose=DOSE, noise=noise, rng=rng))
    for name, volume_hu in (("low", low_hu), ("normal", normal_hu)):
        write_series(
            np.clip(volume_hu, -1024, 3071),
            folder / name,
            pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
            slice_spacing_mm=body.slice_spacing_mm,
            description=f"torso, {name} dose",
        )


def main(target):
    """Takes the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_scan(folder, slices=40)
        weaker = ("--strength", "0.5", "--weights", WEIGHTS)
        cli.main(["denoise", str(folder / "low"), str(folder / "weak"), *weaker])
        report, several, stack = (folder / f"{name}.html" for name in ("report", "several", "stack"))
        words = ("report", folder / "low", "--reference", folder / "normal")
        cli.main([*map(str, words), str(report), "--every", "8", "--weights", WEIGHTS])
        cli.main([*map(str, words), str(stack), "--every", "40", "--weights", STACK])
        beside = (folder / "weak", folder / "normal", "--strength", "0.8", "--planes", "5")
        every = ("--every", "8", "--weights", WEIGHTS)
        cli.main([*map(str, words), str(several), *every, "--beside", *map(str, beside)])
        with Browser(folder / "browser", LAPTOP) as browser:
            browser.open(report)
            browser.wait(READY)
            row, column = PIXEL
            browser.evaluate(f"point([{row}, {column}]); placeRegion(280, 130, 9);")
            browser.picture(target / "report.png")
            choose(browser, "left", "direction")
            choose(browser, "right", "radius")
            browser.picture(target / "report_maps.png")
            choose(browser, "left", "structure")
            choose(browser, "right", "noiseAfter")
            browser.picture(target / "report_structure.png")
            browser.open(stack)
            browser.wait(READY)
            browser.evaluate(f"point([{row}, {column}])")
            choose(browser, "right", "others")
            browser.picture(target / "report_neighbours.png")
            browser.open(several)
            browser.wait(READY)
            browser.evaluate(f"point([{row}, {column}])")
            browser.picture(target / "report_beside.png")
            browser.evaluate("choose(0, 'coronal')")
            browser.picture(target / "report_coronal.png")
            browser.resize(PHONE, mobile=True)
            browser.open(report)
            browser.wait(READY)
            browser.evaluate(f"point([{row}, {column}])")
            browser.picture(target / "report_phone.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
