"""`kpn report`: one HTML file that shows a series before and after, and why each pixel became what it is."""

import dataclasses
import os
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.network_in_use import NetworkInUse
from kpn_tf.console import Notes, bar, say
from kpn_tf.report import USUAL_SLICES, is_report, plan, report_slices, write_report


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(NetworkInUse):
    """Options of `kpn report`."""

    input: Path = field(metadata={"help": "CT file, or folder that is searched recursively"})
    output: Path = field(
        metadata={"help": "the .html file to write; an older one is replaced", "former": ("--output",)}
    )
    reference: Path | None = field(
        default=None, metadata={"help": "folder with the same series at normal dose"}
    )
    beside: tuple[Path, ...] = field(
        default=(),
        metadata={
            "help": "folders of the same slices as others made them: each series becomes an image of its own"
        },
    )
    strength: tuple[float, ...] = field(
        default=(1.0,),
        metadata={
            "help": "share of the correction that the page begins with, 0 to 1 (default 1); of several, an image each",
            "kind": kinds.fraction,
        },
    )
    planes: int | None = field(
        default=None,
        metadata={
            "help": "coronal planes of each series, and as many sagittal ones: all of its slices are denoised for them",
            "kind": kinds.count,
        },
    )
    every: int | None = field(
        default=None,
        metadata={
            "help": f"take every N-th slice (default: as many as make {USUAL_SLICES} at most, one of each series)",
            "kind": kinds.count,
        },
    )
    patient: bool = field(
        default=False, metadata={"help": "show name, ID and study date of each patient (default: nowhere)"}
    )


def run(config):
    """Writes the report and returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        say(f"kpn report: {wrong}", sys.stderr)
        return USAGE
    # At full strength: the page weakens it.
    denoiser = config.opened()
    note = Notes()
    planned = plan(
        config.input,
        config.reference,
        config.every,
        note,
        beside=config.beside,
        planes=config.planes or 0,
        slices=denoiser.slices,
    )
    subject = planned.subject
    if config.patient:
        subject = f"{planned.patients()}, {subject}"
    slices = report_slices(planned, denoiser, note)
    with bar(slices, planned.slices) as pieces:
        shown = write_report(config.output, subject, pieces, denoiser, config.strength, planned.slices)
    if not shown:
        say("kpn report: none of the slices could be used, nothing was written", sys.stderr)
        return FAILED
    megabytes = config.output.stat().st_size / 1e6
    missing = planned.slices - shown
    left_out = f", {missing} of them left out" if missing else ""
    say(f"{planned.subject}{left_out} -> {config.output} ({megabytes:.1f} MB)", sys.stdout)
    return FAILED if note.failures else OK


def _wrong(config):
    """What is wrong with the call, or `None`."""
    for folder in (config.input, config.reference, *config.beside):
        if folder is not None and not os.path.exists(folder):
            return f"expected a CT file or a folder, received {folder}, which does not exist"
    if len(set(config.strength)) < len(config.strength):
        return f"expected every strength once, received {' '.join(f'{one:g}' for one in config.strength)}"
    output = config.output
    if output.suffix.lower() not in (".html", ".htm"):
        return f"expected OUTPUT to end in .html, such as report.html, received {output}"
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        return f"expected a file in a folder that can be written, received {output}"
    if output.exists() and not is_report(output):
        return f"expected OUTPUT to be new or an older report, received {output}, which is another file"
    return None
