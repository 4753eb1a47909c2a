"""What became of a job, series by series; nothing here identifies a patient."""

from dataclasses import dataclass

from kpn_tf.batch.process import slice_count
from kpn_tf.dicom import Refusal


@dataclass(frozen=True)
class SeriesReport:
    """What became of one series.

    Args:
        source: Last characters of the source's SeriesInstanceUID, and of its StudyInstanceUID where another series ends
            alike.
        kernel: Reconstruction kernel of the source.
        outcome: `"written"`: the output folder holds all of it now; `"incomplete"`: all but the slices that failed;
            `"failed"`: nothing written; `"exists"`: the output folder held it already; `"done"`: the same, which is
            what a rerun on a cluster expects; `"own output"`: the source was made by this package; `"no HU"`:
            its values are on another scale.
        slices: Slices in the source.
        written: Slices of the derived series that this run wrote.
        kept: Slices of it that were in the output folder before, and were left as they are.
        derived_uid: SeriesInstanceUID of the derived series; `None` for own output. That of a volume file is made up.
        place: Its folder in the output, or its file where it is a volume file; `None` for own output.
        strength: Share of the correction, as given or as found for a wanted noise; `None` before it is known, and for
            what is not denoised.
        wanted_noise_hu: Noise in HU that the strength was chosen for, or `None`.
        grain_per_mm: With a wanted noise, the mean frequency of the noise power spectrum that is left, in 1/mm.
        measured_sha256: With a wanted noise, names the slices that it was measured in.
        noise_before_hu: Mean over the slices of the noise SD in the flattest soft tissue of the source; `None` without
            any.
        noise_after_hu: The same in the derived series, in the same places.
        seconds_per_slice: Wall-clock time over slices written.
        inference_seconds_per_slice: Median time in the network (or, at a lower dose, in the simulation).
        reason: Why nothing was written, if that concerns the series as a whole, or `None`.
        outside: What of a series that was taken the network was not made for, as
            `kpn_tf.dicom.reading.scope.outside_scope` tells it.
    """

    source: str
    kernel: str
    outcome: str
    slices: int
    written: int = 0
    kept: int = 0
    derived_uid: str | None = None
    place: str | None = None
    strength: float | None = None
    wanted_noise_hu: float | None = None
    grain_per_mm: float | None = None
    measured_sha256: str | None = None
    noise_before_hu: float | None = None
    noise_after_hu: float | None = None
    seconds_per_slice: float | None = None
    inference_seconds_per_slice: float | None = None
    reason: str | None = None
    outside: tuple[str, ...] = ()


def series_report(task, outcome, **fields):
    """Returns a `SeriesReport` of what a `Task` derives."""
    by = task.derived_by
    wanted_hu, grain_per_mm = (getattr(by, name, None) for name in ("wanted_noise_hu", "grain_per_mm"))
    # One that is wanted is found together with the grain.
    known = wanted_hu is None or grain_per_mm is not None
    return source_report(
        task.parts,
        outcome,
        derived_uid=task.uid,
        place=task.place,
        strength=getattr(by, "strength", None) if known else None,
        wanted_noise_hu=wanted_hu,
        grain_per_mm=grain_per_mm,
        measured_sha256=getattr(by, "measured_sha256", None),
        **fields,
    )


def source_report(parts, outcome, **fields):
    """Returns a `SeriesReport` that names its source without saying whose it is."""
    return SeriesReport(parts[0].label, parts[0].kernel, outcome, slice_count(parts), **fields)


@dataclass(frozen=True)
class JobReport:
    """What became of everything under the input path.

    Args:
        series: One report per series.
        refusals: Files that were skipped or failed, with the reason.
        seconds: Wall-clock time of the whole job.
        stopped: Why the job ended early, or `None`.
    """

    series: tuple[SeriesReport, ...]
    refusals: tuple[Refusal, ...]
    seconds: float
    stopped: str | None = None

    @property
    def slices_written(self):
        return sum(report.written for report in self.series)

    @property
    def derived(self):
        """Reports of the series that the output holds, from this run or from one before."""
        return [report for report in self.series if report.written or report.outcome == "done"]

    @property
    def ok(self):
        """`True` if something is derived, now or before, and nothing that should have been was not."""
        return (
            bool(self.derived)
            and self.stopped is None
            and not any(refusal.failure for refusal in self.refusals)
            and all(report.outcome in ("written", "done", "own output", "no HU") for report in self.series)
        )


class Progress:
    """Hears how a job goes; this one keeps quiet. Calls come one at a time, but not all from one thread."""

    def planned(self, slices):
        """The job is about to process so many slices."""

    def slice_done(self):
        """One of them is written or has failed."""

    def refused(self, refusal):
        """A file was skipped or failed."""

    def series_done(self, report):
        """A series is finished, one way or another."""
