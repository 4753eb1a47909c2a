"""`kpn data idc`: real pairs of low and normal dose from the Imaging Data Commons."""

import dataclasses
import itertools
import os
import shutil
import sys
from dataclasses import field
from pathlib import Path

from tqdm import tqdm

from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.console import say
from kpn_tf.datasets.download import DownloadError, download, present_size
from kpn_tf.datasets.idc import collection


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Options of `kpn data`."""

    source: str = field(
        metadata={
            "help": "idc: the Mayo Clinic's pairs in the Imaging Data Commons; alone, lists them offline",
            "kind": kinds.one_of("idc"),
        }
    )
    patients: tuple[str, ...] = field(
        default=(), metadata={"help": "patients to download, as listed: L004 L006"}
    )
    output: Path | None = field(
        default=None, metadata={"help": "folder for the patients; nothing in it is overwritten"}
    )


def run(config):
    """Lists or downloads, and returns the exit status."""
    known = collection()
    wrong = _wrong(config, known)
    if wrong:
        say(f"kpn data idc: {wrong}", sys.stderr)
        return USAGE
    if not config.patients:
        for line in _listing(known):
            say(line, sys.stdout)
        return OK
    chosen = [series for series in known.series if series.patient in config.patients]
    total = sum(series.size for series in chosen)
    present = sum(present_size(series, config.output) for series in chosen)
    free = shutil.disk_usage(_existing(config.output)).free
    if total - present > free:
        room = f"expected room for {_size(total - present)} in {config.output}, received {_size(free)}"
        say(f"kpn data idc: {room}", sys.stderr)
        return FAILED
    bytes_bar = {"unit": "B", "unit_scale": True, "file": sys.stderr, "disable": None, "leave": False}
    with tqdm(total=total, initial=present, **bytes_bar) as bar:
        failures = sum(not _downloaded(series, config.output, bar) for series in chosen)
    for line in _terms(known):
        say(line, sys.stdout)
    return FAILED if failures else OK


def _wrong(config, known):
    """What is wrong with the call, or `None`."""
    if bool(config.patients) != (config.output is not None):
        return "expected --patients and --output together, or neither to list what there is"
    unknown = sorted(set(config.patients) - set(known.patients))
    if unknown:
        return f"expected patients with both doses (kpn data idc lists them), received {', '.join(unknown)}"
    if config.output is not None and os.path.exists(config.output) and not os.path.isdir(config.output):
        return f"expected a folder for the patients, received {config.output}, which is a file"
    return None


def _listing(known):
    for patient, series in itertools.groupby(known.series, key=lambda one: one.patient):
        series = list(series)
        texts = (f"{one.description} {one.files:3d} slices {_size(one.size):>8}" for one in series)
        yield "  ".join([patient, f"{series[0].body_part.lower():<7}", *texts])
    files, size = (sum(getattr(one, name) for one in known.series) for name in ("files", "size"))
    yield (
        f"{len(known.patients)} patients with both doses, {files} slices, {_size(size)}; "
        f"{known.full_dose_only} with the full dose only are left out"
    )
    yield from _terms(known)
    # Of one region: chests and abdomens have other low doses.
    yield f"download: kpn data idc --patients {' '.join(known.patients[-2:])} --output DIR"


def _terms(known):
    yield f"source: Imaging Data Commons, version {known.version}"
    yield f"licence: {known.licence}"
    yield f"citation: {known.citation}"


def _downloaded(series, output, bar):
    """Downloads one series, tells of it, and returns whether it is complete."""
    name = f"{series.patient} {series.description}"
    try:
        folder = download(series, output, progress=bar.update)
    except DownloadError as error:
        say(f"failed: {name}: {error}", sys.stderr)
        return False
    say(f"{name}: {series.files} slices, {_size(series.size)} -> {folder}", sys.stdout)
    return True


def _existing(folder):
    """The folder, or the first above it that exists."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _size(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
