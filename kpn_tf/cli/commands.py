"""The command `kpn`: parse, build a configuration, call. Each command imports what it needs when chosen."""

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from kpn_tf import __version__
from kpn_tf.cli import extras, flags, kinds

OK, FAILED, USAGE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class DenoiseConfig:
    """What `kpn denoise` is told."""

    input: Path = field(metadata={"help": "CT file, or folder that is searched recursively"})
    output: Path = field(metadata={"help": "folder for the derived series; nothing in it is overwritten"})
    strength: float = field(
        default=1.0, metadata={"help": "share of the correction, 0 to 1 (default 1)", "kind": kinds.fraction}
    )
    network: str = field(
        default="edge", metadata={"help": "shipped network or exported .tflite (default edge)"}
    )
    device: str = field(
        default="cpu",
        metadata={
            "help": "cpu (default), gpu (where it proves right), auto (where it is faster as well)",
            "kind": kinds.one_of("cpu", "gpu", "auto"),
        },
    )
    threads: int | None = field(
        default=None,
        metadata={
            "help": "threads for the network (default: physical cores, at most 4)",
            "kind": kinds.count,
        },
    )
    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


@dataclasses.dataclass(frozen=True)
class InfoConfig:
    """What `kpn info` is told."""

    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def _denoise(config):
    from kpn_tf.cli.job_command import run_job
    from kpn_tf.denoiser import Denoiser
    from kpn_tf.job import console, denoise

    with console.hushed():
        denoiser = Denoiser(
            config.network, device=config.device, threads=config.threads, strength=config.strength
        )
    told = denoiser.device_note
    if told:
        console.say(f"kpn denoise: {told}", sys.stderr)
    about = {
        "network": denoiser.identity._asdict(),
        "strength": denoiser.strength,
        "threads": denoiser.threads,
    }

    def start(progress):
        report = denoise(config.input, config.output, denoiser, progress=progress)
        # Only now: a GPU that fails on the way is left for the CPU.
        about.update({name: getattr(denoiser, name) for name in ("device", "adapter", "device_note")})
        if denoiser.device_note != told:
            console.say(f"kpn denoise: {denoiser.device_note}", sys.stderr)
        return report

    return run_job("denoise", config, start, done="denoised", about=about)


def _simulate_config():
    from kpn_tf.cli.simulate import SimulateConfig

    return SimulateConfig


def _simulate(config):
    from kpn_tf.cli.simulate import run

    return run(config)


def _evaluate_config():
    from kpn_tf.cli.evaluate import EvaluateConfig

    return EvaluateConfig


def _evaluate(config):
    from kpn_tf.cli.evaluate import run

    return run(config)


def _data_config():
    from kpn_tf.cli.data import DataConfig

    return DataConfig


def _data(config):
    from kpn_tf.cli.data import run

    return run(config)


def _info(config):
    from kpn_tf.cli.about import installation, lines
    from kpn_tf.job import console

    with console.hushed():
        about = installation()
    print(json.dumps(about, indent=2, allow_nan=False) if config.json else "\n".join(lines(about)))
    return OK


def _train_config():
    from kpn_tf.cli.train import TrainConfig

    return TrainConfig


def _train(config):
    from kpn_tf.cli.train import run

    return run(config)


def _benchmark_config():
    from kpn_tf.cli.benchmark import BenchmarkConfig

    return BenchmarkConfig


def _benchmark(config):
    from kpn_tf.cli.benchmark import run

    return run(config)


def _export_config():
    from kpn_tf.cli.export import ExportConfig

    return ExportConfig


def _export(config):
    from kpn_tf.cli.export import run

    return run(config)


@dataclasses.dataclass(frozen=True)
class Command:
    """One subcommand.

    Args:
        text: Help line.
        config: Returns its configuration dataclass; called only when the command is chosen.
        run: Takes the configuration, returns the exit status.
        extra: Extra it needs, or `None`.
    """

    text: str
    config: Callable
    run: Callable
    extra: str | None = None


COMMANDS = {
    "denoise": Command("remove noise from CT series", lambda: DenoiseConfig, _denoise),
    "simulate": Command("simulate CT series at a lower dose", _simulate_config, _simulate),
    "evaluate": Command("compare denoisers on pairs of low and normal dose", _evaluate_config, _evaluate),
    "data": Command("list or download real pairs of low and normal dose", _data_config, _data, extra="data"),
    "train": Command("train a network on normal-dose series", _train_config, _train, extra="train"),
    "benchmark": Command(
        "make the paper's tables and figures again", _benchmark_config, _benchmark, extra="train"
    ),
    "export": Command("write a network for another runtime", _export_config, _export, extra="export"),
    "info": Command("versions, devices and networks", lambda: InfoConfig, _info),
}


def main(argv=None):
    """Runs one command.

    Args:
        argv: Words after `kpn`; those of the process if `None`.

    Returns:
        Exit status: 0 if all went well, 1 if not, 2 for a wrong call, 130 or 143 if interrupted.
    """
    _open_standard_streams()
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="kpn", description="Noise removal for low-dose CT. Research use, not a medical device."
    )
    parser.add_argument("--version", action="version", version=f"kpn_tf {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.text, description=command.text)
        # Only the chosen command's configuration: another's may need an extra that is not installed.
        if argv[:1] == [name]:
            try:
                if command.extra:
                    extras.require(f"kpn {name}", command.extra)
            except extras.MissingExtraError as error:
                return _complain(None, error, USAGE)
            flags.add_arguments(subparser, command.config())
    namespace = parser.parse_args(argv)
    command = COMMANDS[namespace.command]
    return _guarded(command, flags.build(command.config(), namespace))


def _open_standard_streams():
    """Opens the null device where a standard stream is closed.

    The next file opened would get its number: a slice, into which native code then prints.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def _guarded(command, config):
    """Runs a command so that a signal unwinds it, and an expected error is one line."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        status = command.run(config)
        # Short output has not gone anywhere yet.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _complain("kpn", "interrupted", 128 + signal.SIGINT)
    except _Terminated:
        return _complain("kpn", "terminated", 128 + signal.SIGTERM)
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ValueError) as error:
        return _complain("kpn", error, FAILED)
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread."""


def _terminate(signum, frame):
    raise _Terminated


def _complain(who, what, status):
    from kpn_tf.job.console import say

    say(f"{who}: {what}" if who else f"{what}", sys.stderr)
    return status
