"""`kpn quality`: noise, sharpness, bias, structure and detectability before and after denoisers."""

import dataclasses
import importlib.util
import os
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf import __version__
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.denoisers import most_slices, open_denoisers
from kpn_tf.console import Notes, bar, say
from kpn_tf.evaluation import paired, single_slices
from kpn_tf.evaluation.stream import found_series
from kpn_tf.files import write_text
from kpn_tf.quality import (
    given_series,
    lcd_phantom,
    measure_phantom,
    measure_series,
    sharpness_along_z,
    torso_phantom,
    torso_stacks,
)
from kpn_tf.trained import DEFAULT_WEIGHTS

DOSES, REALISATIONS = (0.25,), 40
SLICES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Options of `kpn quality`."""

    input: Path | None = field(
        default=None,
        metadata={"help": "CT file, or folder with CT series", "unless": ("--phantom", "--lcd")},
    )
    output: Path = field(metadata={"help": "folder for tables and figures", "former": ("--output",)})
    reference: Path | None = field(
        default=None, metadata={"help": "folder with the series of INPUT at normal dose"}
    )
    phantom: str | None = field(
        default=None,
        metadata={"help": "instead of INPUT: torso, the digital torso", "kind": kinds.one_of("torso")},
    )
    lcd: Path | None = field(
        default=None, metadata={"help": "instead of INPUT: folder with scans of a low-contrast phantom"}
    )
    denoiser: tuple[str, ...] = field(
        default=(),
        metadata={"help": f"as of kpn evaluate (default {DEFAULT_WEIGHTS}, without --beside); repeatable"},
    )
    beside: tuple[Path, ...] = field(
        default=(),
        metadata={
            "help": "folders of the slices of INPUT, one series, as others made them: each series has a column"
        },
    )
    strength: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": "share of the correction, 0 to 1 (default 1), of denoisers without @STRENGTH; of several, one each",
            "kind": kinds.fraction,
        },
    )
    every: int | None = field(
        default=None, metadata={"help": "take every N-th slice (default 1)", "kind": kinds.count}
    )
    dose: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": f"of the torso: fraction of the dose (default {DOSES[0]}); repeatable",
            "kind": kinds.dose,
        },
    )
    realisations: int | None = field(
        default=None,
        metadata={
            "help": f"of the torso: scans with, and as many without lesions (default {REALISATIONS})",
            "kind": kinds.realisations,
        },
    )
    slice_mm: float | None = field(
        default=None,
        metadata={
            "help": "of the torso: thickness and distance of neighbouring slices in mm, for denoisers that see them",
            "kind": kinds.positive,
        },
    )
    slices: int | None = field(
        default=None,
        metadata={
            "help": f"with --slice-mm: neighbouring slices at hand, 1, 3 or 5 (default {SLICES})",
            "kind": kinds.slices,
        },
    )
    threads: int | None = field(
        default=None,
        metadata={"help": "threads for networks (default: physical cores, at most 4)", "kind": kinds.count},
    )


def run(config):
    """Measures, prints the table, writes the files and returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        say(f"kpn quality: {wrong}", sys.stderr)
        return USAGE
    try:
        words = config.denoiser or (() if config.beside else (DEFAULT_WEIGHTS,))
        denoisers = open_denoisers(words, config.threads, config.strength)
    except (ImportError, FileNotFoundError, ValueError) as error:
        say(f"kpn quality: {error}", sys.stderr)
        return USAGE
    config.output.mkdir(parents=True, exist_ok=True)
    note = Notes()
    functions = {denoiser.name: denoiser.denoise for denoiser in denoisers}
    report = _measure(config, functions, note)
    table = report.to_markdown()
    for line in table.splitlines():
        say(line, sys.stdout)
    write_text(config.output / "quality.md", table)
    about = {denoiser.name: denoiser.about for denoiser in denoisers}
    more = {"kpn_tf": __version__, "denoisers": about, "failures": len(note.failures)}
    write_text(config.output / "quality.json", report.to_json(**more))
    _draw(report, config.output)
    return FAILED if note.failures else OK


def _measure(config, functions, note):
    if config.slice_mm:
        return _measure_stacks(config, functions, note)
    if config.phantom or config.lcd:
        phantom = (
            lcd_phantom(config.lcd, note)
            if config.lcd
            else torso_phantom(config.dose or DOSES, config.realisations or REALISATIONS)
        )
        with bar(phantom.scans, phantom.count) as scans:
            return measure_phantom(phantom, scans, functions, note=note)
    given = _given(config, note)
    functions = {**functions, **{one.name: one for one in given}}
    how = {"every": config.every or 1, "note": note, "slices": most_slices(functions.values())}
    folders = (config.input, config.reference) if config.reference else (config.input,)
    stream = (paired if config.reference else single_slices)(*folders, **how)
    with bar(stream.pairs, stream.slices) as pairs:
        for one in given:
            pairs = one.heard(pairs)
        return measure_series(
            pairs, functions, referenced=bool(config.reference), data_name=stream.data_name, note=note
        )


def _given(config, note):
    if not config.beside:
        return []
    # What is left out of INPUT is told when it is measured.
    found = [one for one in found_series(config.input, lambda *line: None) if not one.denoised]
    if len(found) != 1:
        raise ValueError(f"Expected one series in INPUT with --beside. Received: {len(found)}")
    return given_series(found[0], config.beside, note)


def _measure_stacks(config, functions, note):
    doses, stack = config.dose or DOSES, {"slice_mm": config.slice_mm, "slices": config.slices or SLICES}
    phantom = torso_stacks(doses, config.realisations or REALISATIONS, **stack)
    with bar(phantom.scans, phantom.count) as scans:
        report = measure_phantom(phantom, scans, functions, note=note)
    along_z = [q for dose in doses for q in sharpness_along_z(functions, dose, **stack, note=note)]
    told = (
        "full width at half of the middle slice's value, of the mean response to a plate (24 mm wide) and a vessel "
        "(1 mm) of 100 HU that lie in one slice; the same noise with and without them; bootstrap over realisations"
    )
    return dataclasses.replace(
        report,
        quantities=(*report.quantities, *along_z),
        conventions={**report.conventions, "width along z": told},
    )


def _draw(report, folder):
    if importlib.util.find_spec("matplotlib") is None:
        say("no figures: they need the figures extra: in a checkout, pip install '.[figures]'", sys.stderr)
        return
    from kpn_tf.figures.quality import quality_figures
    from kpn_tf.figures.style import write

    for name, figure in quality_figures(report).items():
        for suffix in (".png", ".svg"):
            write(figure, folder / (name + suffix))


def _wrong(config):
    """What is wrong with the call, or `None`."""
    if sum(what is not None for what in (config.input, config.phantom, config.lcd)) != 1:
        return "expected one of INPUT, --phantom torso and --lcd FOLDER"
    if config.input is None and (config.reference, config.every, config.beside) != (None, None, ()):
        return "--reference, --every and --beside belong to INPUT: a phantom has its truth, and all scans are needed"
    if config.phantom is None and (config.dose or config.realisations is not None):
        return "--dose and --realisations belong to --phantom torso: other scans are what they are"
    if config.slice_mm is None and config.slices is not None:
        return "--slices belongs to --slice-mm: it says how many neighbouring slices there are"
    if config.phantom is None and config.slice_mm is not None:
        return "--slice-mm belongs to --phantom torso"
    if len(set(config.dose)) < len(config.dose):
        return f"expected every dose once, received {', '.join(f'{dose:g}' for dose in config.dose)}"
    for folder in (config.input, config.reference, config.lcd, *config.beside):
        if folder is not None and not os.path.exists(folder):
            return f"expected a file or a folder that exists, received {folder}"
    # Said now rather than after an hour's work: the nearest folder that is there must take a new one.
    there = next(path for path in (config.output, *config.output.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return f"expected OUTPUT to be a folder that can be written, received {config.output}"
    return None
