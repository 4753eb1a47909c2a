"""`kpn study`: the strength for each protocol of a folder, the evidence for it, and rules for the node."""

import dataclasses
import datetime
import json
import os
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf import __version__
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.network_in_use import NetworkInUse
from kpn_tf.console import Notes, say
from kpn_tf.evaluation.table import finite
from kpn_tf.files import write_text

REALISATIONS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig(NetworkInUse):
    """Options of `kpn study`."""

    input: Path = field(metadata={"help": "CT file, or folder with CT series of one or more protocols"})
    output: Path = field(metadata={"help": "folder for the sheets, study.json and rules.toml"})
    noise: float | None = field(
        default=None, metadata={"help": "noise in HU that need not be undercut", "kind": kinds.positive}
    )
    like: Path | None = field(
        default=None,
        metadata={
            "help": "instead: folder with series of routine dose, one for all or one of each protocol, whose noise "
            "need not be undercut"
        },
    )
    realisations: int = field(
        default=REALISATIONS,
        metadata={
            "help": f"scans of the torso with, and as many without lesions (default {REALISATIONS})",
            "kind": kinds.realisations,
        },
    )


def run(config):
    """Studies every protocol, writes the files and returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        say(f"kpn study: {wrong}", sys.stderr)
        return USAGE
    from kpn_tf import study
    from kpn_tf.evaluation.stream import found_series

    denoiser = config.opened()
    weights = config.weights
    if weights.endswith(".tflite"):
        weights = str(denoiser.artefact.path.absolute())
    note = Notes()
    routine = {} if config.like is None else _routine(config.like, note)
    config.output.mkdir(parents=True, exist_ok=True)
    studied, told = [], []
    for protocol in study.protocols(found_series(config.input, note), note):
        like = routine.get(protocol.key) or (next(iter(routine.values())) if len(routine) == 1 else None)
        if routine and like is None:
            note(
                f"{protocol.name}: no series of routine dose of this protocol; judged by contrast alone",
                False,
            )
        try:
            measured = study.measure(protocol, denoiser, config.realisations, note)
        except ValueError as error:
            note(f"{protocol.name}: {error}", True)
            continue
        goal = (
            {"wanted_noise_hu": like.noise_hu, "why": "as routine dose has"}
            if like
            else {"wanted_noise_hu": config.noise}
        )
        found = study.recommended(measured, protocol.outside, **goal)
        name = f"{protocol.slug}.html"
        page = study.sheet(protocol, measured, found, denoiser.identity, datetime.date.today(), like)
        write_text(config.output / name, page)
        studied.append((protocol, found))
        told.append(_document(protocol, measured, found, name))
        # After each protocol: a study takes hours where there are many, and may be stopped.
        document = {"kpn_tf": __version__, "network": denoiser.identity._asdict(), "protocols": told}
        write_text(config.output / "rules.toml", study.rules_toml(studied, weights))
        write_text(
            config.output / "study.json", json.dumps(finite(document), indent=2, allow_nan=False) + "\n"
        )
        say(
            f"{protocol.name}: strength {found.strength:g}, leaves {found.noise_hu:.1f} HU -> {config.output / name}",
            sys.stdout,
        )
        for warning in found.warnings:
            say(f"warning: {protocol.name}: {warning}", sys.stderr)
    if not studied:
        say("kpn study: none of the series could be studied", sys.stderr)
        return FAILED
    return FAILED if note.failures else OK


def _routine(folder, note):
    """`RoutineNoise` by protocol."""
    from kpn_tf.dose.routine import routine_noise
    from kpn_tf.evaluation.stream import found_series
    from kpn_tf.study import protocols

    return {
        protocol.key: routine_noise(list(protocol.series[:1]))
        for protocol in protocols(found_series(folder, note), note)
    }


def _document(protocol, measured, found, sheet):
    """What study.json says of a protocol."""
    return {
        "scanner": protocol.scanner,
        "kernel": protocol.kernel,
        "thickness_mm": protocol.thickness_mm,
        "body_part": protocol.body_part,
        "series": [series.label for series in protocol.series],
        "sheet": sheet,
        "recommended_strength": found.strength,
        "rule": found.rule,
        "strength_by_contrast": found.by_contrast,
        "strength_by_noise": found.by_noise,
        "noise_hu": measured.noise.std_hu,
        "noise_left_hu": found.noise_hu,
        "warnings": list(found.warnings),
        "slices": measured.slices,
        "slices_sha256": measured.slices_sha256,
        "own": measured.own.document()["quantities"],
        "torso": measured.torso.document()["quantities"],
    }


def _wrong(config):
    """What is wrong with the call, or `None`."""
    if config.noise is not None and config.like is not None:
        return "expected one of --noise and --like"
    for folder in (config.input, config.like):
        if folder is not None and not os.path.exists(folder):
            return f"expected a CT file or a folder, received {folder}, which does not exist"
    there = next(path for path in (config.output, *config.output.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return f"expected OUTPUT to be a folder that can be written, received {config.output}"
    return None
