"""What a terminal shows of a batch: a progress bar, a line per series, a line per file that was left out."""

import sys

from tqdm import tqdm

from kpn_tf.batch.outcome import Progress
from kpn_tf.console import say

# Of a wanted noise: more of it was not reached.
_REACHED = 1.05


class TerminalProgress(Progress):
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
            for warning in warnings_of(report):
                say(f"warning: {_name(report)}: {warning}", sys.stderr)
        else:
            say(series_text(report, self._output), sys.stderr)

    def close(self):
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


def series_text(report, output):
    """Returns the line that tells what became of one series."""
    name = _name(report)
    if report.outcome in ("own output", "no HU"):
        return f"skipped: {name}: {report.reason}"
    if report.outcome == "exists":
        return f"failed: {name}: {output}/{report.place} exists already and is never overwritten"
    if report.outcome == "failed":
        return f"failed: {name}: {report.reason or f'none of its {report.slices} slices was written'}"
    count = f"{report.slices}" if report.written == report.slices else f"{report.written} of {report.slices}"
    parts = [f"{count} slices"]
    if report.kept:
        parts.append(f"{report.kept} there before")
    if report.seconds_per_slice is not None:
        noise = f"{_hu(report.noise_before_hu)} -> {_hu(report.noise_after_hu)} HU"
        if report.strength not in (None, 1.0) or report.wanted_noise_hu is not None:
            parts.append(f"strength {report.strength:g}")
        parts.append(f"noise {noise}")
        if report.grain_per_mm is not None:
            parts.append(f"NPS mean frequency {report.grain_per_mm:.3f} per mm")
        parts.append(f"{report.seconds_per_slice:.3f} s/slice")
    return f"{name}: {', '.join(parts)} -> {output}/{report.place}"


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


def warnings_of(report):
    """Returns what has to be said of a series that was derived: sentences."""
    warnings = [outside_text(report.outside)] if report.outside else []
    wanted_hu, left_hu = report.wanted_noise_hu, report.noise_after_hu
    if wanted_hu is None or left_hu is None:
        return warnings
    if report.strength == 0.0:
        warnings.append(
            f"noise of {wanted_hu:g} HU was wanted, and its source has {left_hu:.1f} HU: it stays as it is"
        )
    elif left_hu > _REACHED * wanted_hu:
        warnings.append(
            f"noise of {wanted_hu:g} HU was wanted, and strength {report.strength:g} leaves {left_hu:.1f} HU"
        )
    return warnings


def outside_text(reasons):
    """Says what of a series the network was not made for.

    Example:

    >>> outside_text(("a head", "not axial"))
    'outside what the network was made for (a head, not axial); compare it with its source'
    """
    return f"outside what the network was made for ({', '.join(reasons)}); compare it with its source"


def _name(report):
    return f"series ...{report.source}" + (f" ({report.kernel})" if report.kernel else "")


def _hu(value):
    return "?" if value is None else f"{value:.1f}"
