"""`kpn evaluate`: any number of denoisers on the same pairs, one table."""

import contextlib
import dataclasses
import json
import os
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf import __version__
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.denoisers import most_slices, open_denoisers
from kpn_tf.console import Notes, bar, say
from kpn_tf.datasets.ldct_benchmark import ldct_benchmark
from kpn_tf.datasets.ldct_scores import compare
from kpn_tf.evaluation import DenoiserError, evaluate, paired, simulated_pairs
from kpn_tf.files import write_text
from kpn_tf.trained import DEFAULT_WEIGHTS

DOSE, SEED, CONVENTIONS = 0.25, 0, ("soft",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of `kpn evaluate`."""

    input: Path = field(
        metadata={
            "help": "CT file, or folder with CT series: normal-dose series whose low dose is simulated, or low-dose "
            "series with --reference",
            "former": ("--simulate", "--low"),
            # Alone it would be taken for a normal dose.
            "only_with": {"--low": ("--reference", "--normal")},
        }
    )
    reference: Path | None = field(
        default=None,
        metadata={"help": "folder with the series of INPUT at normal dose", "former": ("--normal",)},
    )
    dose: float | None = field(
        default=None, metadata={"help": f"fraction of their dose (default {DOSE})", "kind": kinds.dose}
    )
    seed: int | None = field(
        default=None, metadata={"help": f"seed of the noise (default {SEED})", "kind": kinds.seed}
    )
    ldct_benchmark: bool = field(
        default=False,
        metadata={
            "help": "INPUT holds patients of the collection LDCT-and-Projection-data: by the protocol of the open "
            "benchmark, beside its published table"
        },
    )
    every: int = field(default=1, metadata={"help": "take every N-th slice (default 1)", "kind": kinds.count})
    denoiser: tuple[str, ...] = field(
        default=(DEFAULT_WEIGHTS,),
        metadata={
            "help": f"{DEFAULT_WEIGHTS} (default), edge, paper, a .tflite, a .keras, bm3d or ksvd (each also with "
            ":SIGMA_HU) or module:function, each also with @STRENGTH; repeatable"
        },
    )
    strength: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": "share of the correction, 0 to 1 (default 1), of denoisers without @STRENGTH; of several, one each",
            "kind": kinds.fraction,
        },
    )
    convention: tuple[str, ...] = field(
        default=CONVENTIONS,
        metadata={
            "help": "window of PSNR and SSIM: soft (default), lung or full; repeatable",
            "kind": kinds.convention,
        },
    )
    json: Path | None = field(default=None, metadata={"help": "file for the table and every slice as JSON"})
    markdown: Path | None = field(default=None, metadata={"help": "file for the table as Markdown"})
    threads: int | None = field(
        default=None,
        metadata={
            "help": "threads for networks (default: physical cores, at most 4)",
            "kind": kinds.count,
        },
    )


def run(config):
    """Evaluates, prints the table, writes the files and returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        say(f"kpn evaluate: {wrong}", sys.stderr)
        return USAGE
    try:
        denoisers = open_denoisers(config.denoiser, config.threads, config.strength, timed=True)
    except (ImportError, FileNotFoundError, ValueError) as error:
        say(f"kpn evaluate: {error}", sys.stderr)
        return USAGE
    note = Notes()
    functions = {denoiser.name: denoiser.denoise for denoiser in denoisers}
    stream = _stream(config, note, most_slices(functions.values()))
    with bar(stream.pairs, stream.slices) as pairs:
        pairs = _warmed(functions, pairs)
        try:
            if config.ldct_benchmark:
                results = compare(functions, pairs, data_name=stream.data_name)
            else:
                results = evaluate(functions, pairs, config.convention, data_name=stream.data_name)
        except (DenoiserError, ValueError) as error:
            say(f"kpn evaluate: {error}", sys.stderr)
            return FAILED
    table = results.to_markdown()
    for line in table.splitlines():
        say(line, sys.stdout)
    if config.markdown:
        write_text(config.markdown, table)
    if config.json:
        document = {
            "kpn_tf": __version__,
            "denoisers": {denoiser.name: denoiser.about for denoiser in denoisers},
            "failures": len(note.failures),
            **json.loads(results.to_json()),
        }
        write_text(config.json, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return FAILED if note.failures else OK


def _wrong(config):
    """What is wrong with the call, or `None`."""
    if config.reference is not None and (config.dose, config.seed) != (None, None):
        return "--dose and --seed belong to simulated pairs, without --reference: real pairs have the doses they have"
    others = (config.reference, config.dose, config.seed, config.convention)
    if config.ldct_benchmark and others != (None, None, None, CONVENTIONS):
        return (
            "expected --ldct-benchmark without --reference, --dose, --seed and --convention: both doses are in INPUT, "
            "and the windows are the benchmark's"
        )
    for folder in (config.input, config.reference):
        if folder is not None and not os.path.exists(folder):
            return f"expected a CT file or a folder, received {folder}, which does not exist"
    for file in (config.json, config.markdown):
        # Said now rather than after an hour's work.
        if file is not None and (os.path.isdir(file) or not os.access(file.parent, os.W_OK)):
            return f"expected a file in a folder that can be written, received {file}"
    return None


def _stream(config, note, slices):
    if config.ldct_benchmark:
        return ldct_benchmark(config.input, every=config.every, note=note, slices=slices)
    if config.reference is not None:
        return paired(config.input, config.reference, every=config.every, note=note, slices=slices)
    return simulated_pairs(
        config.input,
        dose=DOSE if config.dose is None else config.dose,
        seed=SEED if config.seed is None else config.seed,
        every=config.every,
        note=note,
        slices=slices,
    )


def _warmed(denoisers, pairs):
    """Lets every denoiser see each new size once before its time counts: it plans, compiles, allocates."""
    seen = set()
    for pair in pairs:
        if pair.low_hu.shape not in seen:
            seen.add(pair.low_hu.shape)
            for denoise in denoisers.values():
                # What fails here fails again where it counts, and is told there.
                with contextlib.suppress(Exception, SystemExit):
                    slices = getattr(denoise, "slices", 1)
                    among = {"neighbours": pair.nearest(slices - 1)} if slices > 1 else {}
                    denoise(pair.low_hu.copy(), **among)
        yield pair
