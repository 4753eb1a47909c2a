"""The whole job where the truth is known: torso -> quarter dose -> DICOM -> `kpn denoise` -> table, pictures.

Run as `python -m kpn_tf.demo OUTPUT`. Needs neither network access nor data: the torso is drawn, and the real
slice at the end is one that pydicom carries.
"""

import argparse
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydicom.data import get_testdata_file

from kpn_tf import console
from kpn_tf.batch import denoise
from kpn_tf.batch.terminal import TerminalProgress
from kpn_tf.denoiser import Denoiser
from kpn_tf.dicom import find_series, read_slice
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.files import write_text
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import flat_regions, noise_std_hu, psnr, regional_noise_std_hu, rmse_hu, ssim
from kpn_tf.phantom import NORMAL_DOSE_NOISE_HU, Tissue, torso, write_series
from kpn_tf.png import grey, write_png

DOSE = 0.25

_FOLDERS = ("truth", "quarter_dose", "denoised", "real_slice")


def quarter_dose(body):
    """The torso as a scan at a quarter of the dose shows it: `(Z, H, W)` in HU, the same noise each time."""
    noise_hu = NORMAL_DOSE_NOISE_HU / DOSE**0.5

    def scan(i):
        rng = np.random.default_rng([20210919, i])
        slice_hu = body.volume_hu[i]
        return slice_hu + noise_field(slice_hu, body.pixel_spacing_mm[0], noise_hu, SPECTRA["soft"], rng)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return np.stack(list(pool.map(scan, range(len(body.volume_hu)))))


def measure(volume_hu, body):
    """What the truth allows to measure, by heading of the table."""
    pairs = list(zip(body.volume_hu, volume_hu, strict=True))
    regions = [flat_regions(truth_hu, body.pixel_spacing_mm) for truth_hu in body.volume_hu]
    noise_hu = [regional_noise_std_hu(*pair) for pair in zip(volume_hu, regions, strict=True)]
    true_hu, seen_hu = body.lesion_contrasts_hu(body.volume_hu), body.lesion_contrasts_hu(volume_hu)
    shown = np.isfinite(true_hu)
    liver = body.labels == Tissue.LIVER
    return {
        "PSNR soft (dB)": np.mean([psnr(*pair, convention="soft") for pair in pairs]),
        "PSNR lung (dB)": np.mean([psnr(*pair, convention="lung") for pair in pairs]),
        "SSIM soft": np.mean([ssim(*pair, convention="soft") for pair in pairs]),
        "RMSE (HU)": np.mean([rmse_hu(*pair) for pair in pairs]),
        "noise SD (HU)": np.nanmean(noise_hu),
        # Least squares of the measured on the true contrasts, so that the faintest lesions do not decide.
        "lesion contrast (%)": 100 * (true_hu[shown] @ seen_hu[shown]) / (true_hu[shown] @ true_hu[shown]),
        "liver HU error": volume_hu[liver].mean(dtype=float) - body.volume_hu[liver].mean(dtype=float),
    }


def table(measured):
    """Markdown: a row per volume, a column per measure."""
    headings = list(next(iter(measured.values())))
    lines = ["| | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(headings)]
    for name, row in measured.items():
        cells = [f"{row[heading]:.{3 if 'SSIM' in heading else 2}f}" for heading in headings]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _denoised(source, output, denoiser):
    """Runs the job on one series; its derived slices in HU, `(Z, H, W)`, as read back from disk."""
    progress = TerminalProgress(output)
    try:
        report = denoise(source, output, denoiser, progress=progress)
    finally:
        progress.close()
    if not report.ok:
        raise RuntimeError(f"Expected the job to denoise {source}. Received: {report}")
    (series,), _ = find_series(output)
    return np.stack([read_slice(file.path, file.frame).slice_hu for file in series.slices])


def show_torso(output, denoiser, body):
    """Writes the torso's series, its denoised series and `torso.png` into `output`; returns the table."""
    geometry = {"pixel_spacing_mm": body.pixel_spacing_mm, "slice_spacing_mm": body.slice_spacing_mm}
    write_series(body.volume_hu, output / "truth", description="Truth", **geometry)
    low_hu = quarter_dose(body)
    write_series(low_hu, output / "quarter_dose", description="Quarter dose", **geometry)
    denoised_hu = _denoised(output / "quarter_dose", output / "denoised", denoiser)
    middle = len(low_hu) // 2
    volumes = (low_hu, denoised_hu, body.volume_hu)
    rows = [np.hstack([grey(v[middle], WINDOWS[name]) for v in volumes]) for name in ("soft", "lung")]
    write_png(output / "torso.png", np.vstack(rows))
    return table({"quarter dose": measure(low_hu, body), "denoised": measure(denoised_hu, body)})


def show_real_slice(output, denoiser):
    """Denoises the CT slice inside pydicom, writes `real_slice.png`; returns a line about its noise."""
    source = get_testdata_file("CT_small.dcm", download=False)
    ct = read_slice(source)
    (denoised_hu,) = _denoised(source, output / "real_slice", denoiser)
    image = np.hstack([grey(slice_hu, WINDOWS["soft"]) for slice_hu in (ct.slice_hu, denoised_hu)])
    write_png(output / "real_slice.png", image.repeat(4, 0).repeat(4, 1))
    spacing_mm = [float(mm) for mm in ct.dataset.PixelSpacing]
    before_hu, after_hu = (noise_std_hu(s, spacing_mm, ct.padding) for s in (ct.slice_hu, denoised_hu))
    return f"Noise of pydicom's CT_small.dcm, a real slice: {before_hu:.1f} -> {after_hu:.1f} HU.\n"


def main(argv=None):
    """Fills the folder that the command line names; a former demonstration there is replaced."""
    parser = argparse.ArgumentParser(prog="python -m kpn_tf.demo", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder for series, pictures and demo.md")
    output = parser.parse_args(argv).output
    summary = output / "demo.md"
    if output.exists() and any(output.iterdir()):
        if not summary.is_file():
            parser.error(f"expected a new folder or a former demonstration, received {output}; name another")
        for name in _FOLDERS:
            shutil.rmtree(output / name, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    write_text(summary, "This demonstration was not finished.\n")
    print("Drawing a torso of known HU, scanning it at a quarter of the dose, denoising it ...", flush=True)
    with console.silenced():
        denoiser = Denoiser()
    text = (
        "Digital torso, 24 slices, against the truth; means over slices. PSNR and SSIM: full frame, clipped "
        "to [-160, 240] HU (soft) or [-1350, 150] HU (lung), SSIM uniform 7x7.\n\n"
        + show_torso(output, denoiser, torso())
        + "\n"
        + show_real_slice(output, denoiser)
        + "\nIn `torso.png` and `real_slice.png`: before, after, and of the torso the truth. "
        "Research use, not for diagnosis.\n"
    )
    write_text(summary, text)
    print(f"\n{text}\nAll of it is in {output} ({time.perf_counter() - start:.0f} s).")


if __name__ == "__main__":
    main()
