"""`kpn benchmark`: the tables and figures of the paper, made again."""

import dataclasses
import os
import shutil
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf import console
from kpn_tf.cli import extras, kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.files import move, write_text

STEPS = 200


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Options of `kpn benchmark`."""

    test: Path | None = field(
        default=None, metadata={"help": "folder with normal-dose series of the test patients"}
    )
    train: Path | None = field(default=None, metadata={"help": "that of the training patients"})
    validation: Path | None = field(
        default=None, metadata={"help": "that of the validation patients, who choose the weights"}
    )
    nih: Path | None = field(
        default=None, metadata={"help": "or pairs of the Mayo Clinic: the first five patients train"}
    )
    phantom: Path | None = field(
        default=None, metadata={"help": "scans of a phantom for Fig. 5 (default: a synthetic one)"}
    )
    dose: Path | None = field(
        default=None,
        metadata={
            "help": "scans of the same patients that are not aligned, in its folders low and normal (default: "
            "synthetic ones)"
        },
    )
    every: int = field(default=1, metadata={"help": "take every N-th slice (default 1)", "kind": kinds.count})
    row: tuple[str, ...] = field(
        default=(), metadata={"help": "only this row, such as redcnn-l1; repeatable (default: all)"}
    )
    steps: int | None = field(
        default=None,
        metadata={"help": f"optimizer steps of every network (default {STEPS})", "kind": kinds.count},
    )
    gmac: float | None = field(
        default=None,
        metadata={
            "help": "or multiply-accumulates of all its forward passes, in 1e9",
            "kind": kinds.positive,
        },
    )
    batch: int = field(default=8, metadata={"help": "patches per step (default 8)", "kind": kinds.count})
    patch: int = field(
        default=64,
        metadata={"help": "side of a patch in pixels, 27 or more (default 64)", "kind": kinds.patch},
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "greatest rate of Adam (default: 0.0001; edge and redcnn16 0.001)",
            "kind": kinds.positive,
        },
    )
    precision: str = field(
        default="float32",
        metadata={
            "help": "of the trunks: float32 (default) or mixed_bfloat16",
            "kind": kinds.one_of("float32", "mixed_bfloat16"),
        },
    )
    seeds: int = field(
        default=1, metadata={"help": "trainings of each network of Table 2 (default 1)", "kind": kinds.count}
    )
    runs: Path = field(
        default=Path("runs/benchmark"),
        metadata={"help": "folder for what is finished; the same call goes on (default runs/benchmark)"},
    )
    output: Path = field(
        default=Path("docs/results.md"), metadata={"help": "the page (default docs/results.md)"}
    )


def run(config):
    """Does what is missing, writes the page and its images, returns the exit status."""
    wrong = _wrong(config)
    if wrong:
        console.say(f"kpn benchmark: {wrong}", sys.stderr)
        return USAGE
    # Read when TensorFlow is first imported; without it, it greets with lines about its devices.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.silenced():
        from baselines.benchmark.budget import Budget
        from baselines.benchmark.dose_rows import DoseRows
        from baselines.benchmark.dose_section import section
        from baselines.benchmark.results_page import page
        from baselines.benchmark.rows import Benchmark, Plan
        from baselines.benchmark.runs import Runs

    said, failures = set(), []

    def note(line, failure):
        if line not in said:
            said.add(line)
            failures.extend([line] * failure)
            console.say(f"{'failed' if failure else 'left out'}: {line}", sys.stderr)

    steps = STEPS if (config.steps, config.gmac) == (None, None) else config.steps
    budget = Budget(steps, config.gmac, config.batch, config.patch, config.learning_rate, config.precision)
    plan = Plan(budget, Runs(config.runs), command(config), config.seeds, config.row)
    benchmark = Benchmark(plan, *_data(config, note))
    drawable = _drawable(note)
    benchmark.run(note, lambda line: console.say(line, sys.stdout))
    unaligned = DoseRows(benchmark, _dose_data(config, note))
    unaligned.run(note)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    text = page(benchmark, _figures(benchmark, config.output, note) if drawable else None)
    shown = section(unaligned, config.output, note, drawable=drawable)
    write_text(config.output, f"{text}\n{shown}" if shown else text)
    console.say(f"{config.output}{' and its images' * drawable}: written", sys.stdout)
    return FAILED if failures else OK


def command(config):
    """The command line of a configuration without `--row`, folders by their part: their names may name patients."""
    words = ["kpn benchmark"]
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if value != one.default and one.name not in ("row", "runs", "output"):
            shown = (
                one.name.upper()
                if isinstance(value, Path)
                else repr(value)
                if isinstance(value, float)
                else value
            )
            words.append(f"--{one.name.replace('_', '-')} {shown}")
    return " ".join(words)


def _drawable(note):
    """Whether figures can be drawn; if not, this is said before hours of training, not after."""
    try:
        extras.require("drawing them", "figures")
    except extras.MissingExtraError as error:
        note(f"figures: {error}", False)
        return False
    return True


def _figures(benchmark, output, note):
    # Imported when everything else is done: it needs an extra.
    from baselines.benchmark.figures import figures

    return figures(benchmark, output, note)


def _wrong(config):
    """What is wrong with the call, or `None`."""
    from baselines.benchmark.patients import shared_patients
    from baselines.benchmark.tables import TABLES, methods

    if config.nih is not None and (config.test, config.train, config.validation) != (None, None, None):
        return "expected either --nih FOLDER, or --test FOLDER with --train and --validation"
    if (config.train is None) != (config.validation is None) or (
        config.train is not None and config.test is None
    ):
        return (
            "expected --train, --validation and --test together, or --test alone for what needs no training"
        )
    if config.steps is not None and config.gmac is not None:
        return "expected either --steps or --gmac"
    doses = [] if config.dose is None else [config.dose / "low", config.dose / "normal"]
    for folder in (config.test, config.train, config.validation, config.nih, config.phantom, *doses):
        if folder is not None and not os.path.exists(folder):
            return f"expected a folder, received {folder}, which does not exist"
    named = {method.name: method for method in methods(TABLES)}
    for row in config.row:
        if row not in named:
            return f"expected a row among {', '.join(named)}, received {row}"
    widest = max(named[row].kernel_size or 0 for row in config.row or named)
    if config.patch < widest:
        return (
            f"expected patches of at least {widest} pixels for kernels of that side, received {config.patch}"
        )
    if config.output.suffix != ".md" or config.output.is_dir():
        return f"expected a name that ends in .md, received {config.output}"
    parts = {name: getattr(config, name) for name in ("train", "validation", "test")}
    if all(parts.values()) and (shared := shared_patients(parts)):
        return (
            f"expected patients of their own in each folder, received one in both --{' and --'.join(shared)}"
        )
    return None


def _data(config, note):
    """Data of the tables and of Fig. 5."""
    from baselines.benchmark.data import NihData, PhantomData, SimulatedData
    from kpn_tf.datasets import nih_twin, phantom_twin

    phantom = config.phantom or _twin(config.runs, phantom_twin)
    if config.test is not None:
        data = SimulatedData(
            config.test,
            config.train,
            config.validation,
            every=config.every,
            patch=config.patch,
            note=note,
        )
    elif config.nih is not None:
        data = NihData(config.nih, every=config.every, note=note)
    else:
        data = NihData(_twin(config.runs, nih_twin), twin=True, every=config.every, note=note)
    return data, PhantomData(phantom, every=config.every, note=note)


def _dose_data(config, note):
    """Data of the section on scans that are not aligned."""
    from baselines.benchmark.dose_rows import DoseData
    from kpn_tf.datasets import dose_twin

    folder = config.dose or _twin(config.runs, dose_twin)
    return DoseData(folder, twin=config.dose is None, every=config.every, note=note)


def _twin(runs, write):
    """The folder of a synthetic data set; of two calls at a time the second takes what the first wrote."""
    folder = runs / "twins" / write.__name__
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        write(part)
        try:
            move(part, folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(part)
    return folder
