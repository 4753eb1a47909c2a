"""What a terminal shows of a job: a progress bar, a line per series, a line per file that was left out."""

import contextlib
import os
import sys

from tqdm import tqdm

from kpn_tf.job.outcome import Progress


class Console(Progress):
    """Prints a job as it goes: series on standard output, everything else on standard error.

    Args:
        output: The output folder, named in the lines.
        series_lines: Whether series are printed; `False` leaves standard output to a JSON document.
    """

    def __init__(self, output, *, series_lines=True):
        self._output = output
        self._series_lines = series_lines
        self._bar = None

    def planned(self, slices):
        # `disable=None`: no bar where standard error is not a terminal.
        self._bar = tqdm(total=slices, unit="slice", file=sys.stderr, disable=None, leave=False)

    def slice_done(self):
        self._bar.update()

    def refused(self, refusal):
        say(f"{'failed' if refusal.failure else 'skipped'}: {refusal_text(refusal)}", sys.stderr)

    def series_done(self, report):
        # A rerun over an archive: the summary counts them.
        if report.outcome == "done":
            return
        if report.outcome in ("written", "incomplete"):
            if self._series_lines:
                say(series_text(report, self._output), sys.stdout)
        else:
            say(series_text(report, self._output), sys.stderr)

    def close(self):
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


class Notes:
    """Says what is left out, and remembers whether any of it is a failure; called with `(line, failure)`."""

    def __init__(self):
        self.failures = []

    def __call__(self, line, failure):
        if failure:
            self.failures.append(line)
        say(f"{'failed' if failure else 'skipped'}: {line}", sys.stderr)


def bar(slices, total):
    """A context manager: slices that move a progress bar, where there is a terminal, and are closed at the end."""
    return contextlib.closing(
        tqdm(slices, total=total, unit="slice", file=sys.stderr, disable=None, leave=False)
    )


def series_text(report, output):
    """Returns the line that tells what became of one series."""
    name = f"series ...{report.source}" + (f" ({report.kernel})" if report.kernel else "")
    if report.outcome == "own output":
        return f"skipped: {name}: {report.reason}"
    if report.outcome == "exists":
        return f"failed: {name}: {output}/{report.derived_uid} exists already and is never overwritten"
    if report.outcome == "failed":
        return f"failed: {name}: {report.reason or f'none of its {report.slices} slices was written'}"
    count = f"{report.written} of {report.slices}" if report.outcome == "incomplete" else f"{report.slices}"
    return (
        f"{name}: {count} slices, noise {_hu(report.noise_before_hu)} -> {_hu(report.noise_after_hu)} HU, "
        f"{report.seconds_per_slice:.3f} s/slice -> {output}/{report.derived_uid}"
    )


def summary_text(report, output, done):
    """Returns the last line: what became of the whole job, `done` being what it does: "denoised"."""
    if report.stopped is not None:
        return f"stopped: {report.stopped}"
    if not report.derived:
        return f"nothing was {done}"
    before = sum(series.outcome == "done" for series in report.derived)
    skipped = sum(not refusal.failure for refusal in report.refusals)
    failed = sum(refusal.failure for refusal in report.refusals)
    return (
        f"{len(report.derived) - before} series, {report.slices_written} slices in {report.seconds:.1f} s -> {output}"
        + (f"; done before: {before} series" if before else "")
        + (f"; files skipped: {skipped}" if skipped else "")
        + (f"; files failed: {failed}" if failed else "")
    )


def refusal_text(refusal):
    """Returns the file's name and why it was left out."""
    return f"{refusal.path}: {refusal.reason}"


def say(line, stream):
    """Prints one line above the progress bar, control characters escaped: the names are strangers'."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    tqdm.write(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def printable(text):
    """Escapes what would move the cursor, start a new line or not encode.

    Example:

    >>> printable("liver\\x1b[2J\\n")
    'liver\\\\x1b[2J\\\\n'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


@contextlib.contextmanager
def hushed():
    """Silences standard error of native code: LiteRT announces its delegate there at each start."""
    sys.stderr.flush()
    kept = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(silence)
        os.close(kept)


def _hu(value):
    return "?" if value is None else f"{value:.1f}"
