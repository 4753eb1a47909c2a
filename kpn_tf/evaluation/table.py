"""The table of an evaluation: what its numbers mean, rows with intervals, JSON and Markdown."""

import json
from dataclasses import dataclass

import numpy as np

from kpn_tf.hounsfield import WINDOWS

SSIM_FLAVOUR = "uniform7"

_RESAMPLES = 2000
_SEED = 20210919


@dataclass(frozen=True)
class Row:
    """What one denoiser reached, over all slices or over those of one patient.

    Args:
        denoiser: Its name.
        patient: Whose slices; `None` for all.
        slices: How many.
        means: Mean over the slices by metric: `psnr_soft_db`, `ssim_soft` (one pair per convention),
            `rmse_hu`, `mean_shift_hu`, `noise_std_hu`, and the median `seconds`. NaN where a metric has no
            value: no flat region, no time for the low dose.
        intervals: 95 % bootstrap interval of each mean over slices.
    """

    denoiser: str
    patient: str | None
    slices: int
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Results:
    """The table of an evaluation.

    Args:
        data_name: What was evaluated on.
        conventions: The windows of PSNR and SSIM.
        slices: One record per denoiser and slice, in order: denoiser, patient, slice and every metric.
        normal_noise_std_hu: Mean noise SD of the normal-dose slices in their own flat regions: what PSNR can
            not see beyond.
    """

    data_name: str
    conventions: tuple[str, ...]
    slices: tuple[dict, ...]
    normal_noise_std_hu: float

    @property
    def rows(self):
        """`Row`s: every denoiser over all slices, then every denoiser over each patient."""
        denoisers = list(dict.fromkeys(record["denoiser"] for record in self.slices))
        patients = list(dict.fromkeys(record["patient"] for record in self.slices))
        rows = []
        for patient in [None, *patients]:
            for denoiser in denoisers:
                records = [
                    record
                    for record in self.slices
                    if record["denoiser"] == denoiser and patient in (None, record["patient"])
                ]
                rows.append(_row(denoiser, patient, records))
        return rows

    @property
    def _meaning(self):
        return {
            "data": self.data_name,
            "slices": self.rows[0].slices,
            "patients": len({record["patient"] for record in self.slices}),
            "conventions": {
                name: {
                    "window_hu": [WINDOWS[name].low_hu, WINDOWS[name].high_hu],
                    "data_range_hu": WINDOWS[name].width_hu,
                }
                for name in self.conventions
            },
            "ssim_flavour": SSIM_FLAVOUR,
            "interval": f"95 % percentile bootstrap over slices, {_RESAMPLES} resamples, seed {_SEED}",
            "normal_dose_noise_std_hu": self.normal_noise_std_hu,
        }

    def to_json(self):
        """The meaning of the numbers, the rows, and every slice; what has no finite value is null."""
        content = {
            **self._meaning,
            "rows": [vars(row) for row in self.rows],
            "per_slice": list(self.slices),
        }
        return json.dumps(finite(content), indent=2, allow_nan=False)

    def to_markdown(self):
        """The rows as a table to read, intervals in brackets, under a paragraph that says what they mean."""
        meaning = self._meaning
        windows = "; ".join(
            f"`{name}`: both slices clipped to [{w['window_hu'][0]:g}, {w['window_hu'][1]:g}] HU, "
            f"data range {w['data_range_hu']:g} HU"
            for name, w in meaning["conventions"].items()
        )
        lines = [
            f"**{self.data_name}**: {meaning['slices']} slices of {meaning['patients']} patients, full "
            f"frame. Conventions: {windows}. SSIM: {SSIM_FLAVOUR}. Means over slices (seconds: median); in "
            f"brackets the {meaning['interval']}. HU shift and noise SD: in the flat soft-tissue regions of "
            f"the normal-dose slice, against that slice, whose own noise SD there is "
            f"{_cell(self.normal_noise_std_hu, 1)} HU.",
            "",
        ]
        metrics = list(self.rows[0].means)
        lines.append("| patient | denoiser | slices | " + " | ".join(map(_heading, metrics)) + " |")
        lines.append("|---|---|---:|" + "---:|" * len(metrics))
        for row in self.rows:
            cells = [
                _interval_cell(metric, row)
                if row.patient is None
                else _cell(row.means[metric], _digits(metric))
                for metric in metrics
            ]
            start = ["all" if row.patient is None else row.patient, row.denoiser, str(row.slices)]
            lines.append("| " + " | ".join(start + cells) + " |")
        return "\n".join(lines) + "\n"


def _row(denoiser, patient, records):
    means, intervals = {}, {}
    for metric in [key for key in records[0] if key not in ("denoiser", "patient", "slice")]:
        values = np.array([record[metric] for record in records])
        values = values[~np.isnan(values)]
        middle = np.median if metric == "seconds" else np.mean
        if values.size == 0:
            means[metric], intervals[metric] = float("nan"), (float("nan"),) * 2
            continue
        # A fresh generator for each: the same slices are drawn for every denoiser and metric.
        drawn = np.random.default_rng(_SEED).integers(values.size, size=(_RESAMPLES, values.size))
        means[metric] = float(middle(values))
        low, high = np.percentile(middle(values[drawn], axis=1), [2.5, 97.5], method="nearest")
        intervals[metric] = (float(low), float(high))
    return Row(denoiser, patient, len(records), means, intervals)


def finite(content):
    """What JSON can hold of dicts and lists of numbers: what has no finite value is `None`."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _heading(metric):
    fixed = {
        "rmse_hu": "RMSE (HU)",
        "mean_shift_hu": "HU shift",
        "noise_std_hu": "noise SD (HU)",
        "seconds": "seconds",
    }
    kind, *rest = metric.split("_")
    return fixed.get(metric) or (f"PSNR {rest[0]} (dB)" if kind == "psnr" else f"SSIM {rest[0]}")


def _digits(metric):
    return {"psnr": 2, "ssim": 4, "rmse": 2, "mean": 2, "noise": 1, "seconds": 3}[metric.split("_")[0]]


def _cell(value, digits):
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _interval_cell(metric, row):
    value, digits = row.means[metric], _digits(metric)
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}f} [" + ", ".join(f"{n:.{digits}f}" for n in row.intervals[metric]) + "]"
