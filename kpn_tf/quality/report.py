"""What a measurement of image quality found: quantities before and after, their conventions, and curves to draw."""

import json
from dataclasses import dataclass, field

import numpy as np

from kpn_tf.evaluation.table import finite
from kpn_tf.quality.intervals import RESAMPLES, SEED, Interval

BEFORE = "before"


@dataclass(frozen=True)
class Quantity:
    """One number before and after each denoiser.

    Args:
        name: What it is: "noise SD".
        unit: Its unit, or "" without one.
        of: What it was measured on: a lesion, a class of pixels; "" for all.
        dose: Fraction of the dose it holds for; `None` where there is but one.
        values: `Interval` by "before", denoiser, and "truth" or "reference" where that has one.
        changes: `Interval` of after minus before, by denoiser; from the same samples.
    """

    name: str
    unit: str
    of: str
    dose: float | None
    values: dict[str, Interval]
    changes: dict[str, Interval]


@dataclass
class Curves:
    """What is drawn; each by "before", denoiser and so on.

    Args:
        length: "mm" or "pixel", in which frequencies and areas are.
        radial: By dose: `(frequency, nps)`.
        plane: `((row frequency, column frequency), nps)` at the first dose.
        noise_map: `(H, W)` in HU of the first slice.
        bias: Mean of the grids `(rows, columns)` in HU at the first dose.
        transfer: By name of a lesion at the first dose: `TaskTransfer`.
    """

    length: str
    radial: dict = field(default_factory=dict)
    plane: dict = field(default_factory=dict)
    noise_map: dict = field(default_factory=dict)
    bias: dict = field(default_factory=dict)
    transfer: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that was measured.

    Args:
        data_name: What it was measured on.
        samples: How many slices or realisations were measured at each dose.
        conventions: Sentence by what it explains.
        quantities: `Quantity`s in the order of the table.
        curves: `Curves`.
    """

    data_name: str
    samples: dict
    conventions: dict[str, str]
    quantities: tuple[Quantity, ...]
    curves: Curves

    def document(self):
        """The report as what JSON can hold; what has no finite value is `None`."""
        return finite(
            {
                "data": self.data_name,
                "samples": [{"dose": dose, "count": count} for dose, count in self.samples.items()],
                "conventions": self.conventions,
                "quantities": [
                    {
                        **{key: getattr(q, key) for key in ("name", "unit", "of", "dose")},
                        "values": {kind: interval._asdict() for kind, interval in q.values.items()},
                        "changes": {kind: interval._asdict() for kind, interval in q.changes.items()},
                    }
                    for q in self.quantities
                ],
                "noise_power_spectrum": [
                    {
                        "dose": dose,
                        "kind": kind,
                        f"frequency_per_{self.curves.length}": frequency.tolist(),
                        f"nps_hu2_{self.curves.length}2": nps.tolist(),
                    }
                    for dose, kinds in self.curves.radial.items()
                    for kind, (frequency, nps) in kinds.items()
                ],
                "task_transfer_function": [
                    {
                        "of": of,
                        "kind": kind,
                        "frequency_per_mm": transfer.frequency_per_mm.tolist(),
                        "ttf": transfer.ttf.tolist(),
                    }
                    for of, kinds in self.curves.transfer.items()
                    for kind, transfer in kinds.items()
                ],
            }
        )

    def to_json(self, **more):
        """The document with more entries at its start."""
        return json.dumps({**finite(more), **self.document()}, indent=2, allow_nan=False) + "\n"

    def to_markdown(self):
        """A table per dose, intervals in brackets, under what its numbers mean."""
        lines = [f"**{self.data_name}**", ""]
        lines += [f"- {name}: {text}" for name, text in self.conventions.items()]
        for dose, count in self.samples.items():
            of = "" if dose is None else f"{100 * dose:g} % of the dose, "
            lines += ["", f"{of}{count} slice{'s' * (count != 1)}:", "", *self._table(dose)]
        return "\n".join(lines) + "\n"

    def _table(self, dose):
        quantities = [q for q in self.quantities if q.dose == dose]
        kinds = list(dict.fromkeys(kind for q in quantities for kind in q.values))
        denoisers = [kind for kind in kinds if any(kind in q.changes for q in quantities)]
        headings = [name for kind in kinds for name in ([kind, "change"] if kind in denoisers else [kind])]
        lines = ["| quantity | of | " + " | ".join(headings) + " |", "|---|---|" + "---:|" * len(headings)]
        for q in quantities:
            cells = []
            for kind in kinds:
                cells.append(cell(q.values.get(kind)))
                if kind in denoisers:
                    cells.append(cell(q.changes.get(kind), sign="+"))
            name = f"{q.name} ({q.unit})" if q.unit else q.name
            lines.append("| " + " | ".join([name, q.of or "all", *cells]) + " |")
        return lines


def resampling(what):
    """The sentence that says how intervals were found."""
    return f"95 % in brackets, percentile bootstrap over {what}, {RESAMPLES} resamples, seed {SEED}"


def cell(interval, sign=""):
    """An interval as a table shows it: three significant digits of the value, the ends to the same place."""
    if interval is None or not np.isfinite(interval.value):
        return "–"
    largest = max(abs(n) for n in interval if np.isfinite(n))
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 4)) if largest > 0 else 2
    value = f"{interval.value:{sign}.{digits}f}"
    if not np.isfinite(interval.low):
        return value
    return f"{value} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
