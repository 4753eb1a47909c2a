"""The command `kpn`: parse, build a configuration, call. Each command imports what it needs when chosen."""

import argparse
import contextlib
import dataclasses
import gc
import importlib
import os
import signal
import sys

from kpn_tf import __version__
from kpn_tf.cli import extras, flags

OK, FAILED, USAGE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Command:
    """One subcommand.

    Args:
        text: Help line.
        module: Module of `kpn_tf.cli` with its configuration and `run`, which takes it and returns the exit status.
            It is imported only when the command is chosen.
        config: Name of the configuration dataclass in it.
        extra: Extra it needs, or `None`.
        epilog: Last line of its own help, or `None`.
    """

    text: str
    module: str
    config: str
    extra: str | None = None
    epilog: str | None = None

    def load(self):
        """Imports its module; returns the configuration dataclass and `run`."""
        module = importlib.import_module(f"kpn_tf.cli.{self.module}")
        return getattr(module, self.config), module.run


COMMANDS = {
    "denoise": Command(
        "remove noise from CT series",
        "denoise",
        "DenoiseConfig",
        epilog="kpn denoise INPUT OUTPUT --watch does it for every series that is put into a folder.",
    ),
    "simulate": Command("simulate CT series at a lower dose", "simulate", "SimulateConfig"),
    "evaluate": Command("compare denoisers on pairs of low and normal dose", "evaluate", "EvaluateConfig"),
    "report": Command(
        "show a series before and after, and the kernel of any pixel", "report", "ReportConfig"
    ),
    "quality": Command(
        "noise, sharpness and detectability before and after denoisers", "quality", "QualityConfig"
    ),
    "study": Command("which strength for which protocol, with the evidence", "study", "StudyConfig"),
    "data": Command("list or download real pairs of low and normal dose", "data", "DataConfig", extra="data"),
    "prepare": Command(
        "put the slices of a training on disk, ready to draw from", "prepare", "PrepareConfig"
    ),
    "train": Command("train a network on normal-dose series", "train", "TrainConfig", extra="train"),
    "benchmark": Command(
        "make the paper's tables and figures again", "benchmark", "BenchmarkConfig", extra="train"
    ),
    "export": Command("write a network for another runtime", "export", "ExportConfig", extra="export"),
    "serve-dicom": Command(
        "receive, denoise and forward series as a DICOM node", "serve_dicom", "ServeDicomConfig", extra="node"
    ),
    "node": Command("how the DICOM node is doing; retry; purge", "node", "NodeConfig"),
    "info": Command("versions, devices and networks", "about", "InfoConfig"),
}

# `kpn denoise` with other arguments: instead of a folder that is there, one that fills.
WATCH = Command("remove noise from CT series as they appear in a folder", "watch", "WatchConfig")


def _chosen(name, argv):
    """The command that the words after `kpn` choose."""
    watching = any(word.partition("=")[0] == "--watch" for word in argv)
    return WATCH if name == "denoise" and watching else COMMANDS[name]


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
    for name in COMMANDS:
        command = _chosen(name, argv)
        subparser = subparsers.add_parser(
            name, help=COMMANDS[name].text, description=command.text, epilog=command.epilog
        )
        # Only the chosen command's configuration: another's may need an extra that is not installed.
        if argv[:1] == [name]:
            try:
                if command.extra:
                    extras.require(f"kpn {name}", command.extra)
            except extras.MissingExtraError as error:
                return _complain(None, error, USAGE)
            config_class, run = command.load()
            flags.add_arguments(subparser, config_class, argv)
    # Without a command there is nothing to run, and this does not return.
    namespace = parser.parse_args(argv)
    return _guarded(run, flags.build(config_class, namespace))


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


def _guarded(run, config):
    """Runs a command so that a signal unwinds it, and an expected error is one line."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        status = run(config)
        # Short output has not gone anywhere yet.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _interrupted("interrupted", signal.SIGINT)
    except _Terminated:
        return _interrupted("terminated", signal.SIGTERM)
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except WrongCallError as error:
        return complain_of_usage("kpn", error)
    except (OSError, ValueError) as error:
        return _complain("kpn", error, FAILED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupted(how, number):
    # Or Python, as it ends, looks through all that Dask or TensorFlow has made for circles, which takes it seconds.
    gc.freeze()
    return _complain("kpn", how, 128 + number)


class WrongCallError(Exception):
    """What is wrong with a call, where only the command itself can find out."""


@contextlib.contextmanager
def named_in_the_call():
    """Makes what is not there, or of no use, a mistake of the call that names it: `WrongCallError`."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise WrongCallError(error) from error


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread."""


def _terminate(signum, frame):
    raise _Terminated


def complain_of_usage(who, what):
    """Says in one line what is wrong with a call; returns its exit status."""
    return _complain(who, what, USAGE)


def _complain(who, what, status):
    from kpn_tf.console import say

    say(f"{who}: {what}" if who else f"{what}", sys.stderr)
    return status
