"""What the commands that derive series have in common: lines or JSON, and the exit status."""

import dataclasses
import json
import sys

from kpn_tf import __version__, console
from kpn_tf.batch.terminal import TerminalProgress, summary_text
from kpn_tf.cli.commands import FAILED, OK, USAGE


def run_batch(name, config, start, *, done, about):
    """Runs a job and tells what became of it.

    Args:
        name: Of the command, such as `"denoise"`.
        config: Its configuration, with `output` and `json`.
        start: Function from a `Progress` to a `JobReport`.
        done: What the job does to series, such as `"denoised"`.
        about: What the JSON document says of how it was done.

    Returns:
        Exit status.
    """
    progress = TerminalProgress(config.output, series_lines=not config.json)
    try:
        report = start(progress)
    except (FileNotFoundError, NotADirectoryError) as error:
        console.say(f"kpn {name}: {error}", sys.stderr)
        return USAGE
    finally:
        progress.close()
    if config.json:
        print(json.dumps(_document(report, about), indent=2, allow_nan=False))
    line = summary_text(report, config.output, done)
    if not report.derived or report.stopped:
        console.say(f"kpn {name}: {line}", sys.stderr)
    elif not config.json:
        console.say(line, sys.stdout)
    return OK if report.ok else FAILED


def _document(report, about):
    return {
        "kpn_tf": __version__,
        **about,
        "ok": report.ok,
        "seconds": report.seconds,
        "slices_written": report.slices_written,
        "stopped": report.stopped,
        "series": [dataclasses.asdict(series) for series in report.series],
        "refusals": [
            {"path": str(refusal.path), "reason": refusal.reason, "failure": refusal.failure}
            for refusal in report.refusals
        ],
    }
