"""The last stage of a job: derived slices become files, and what became of each series is reported."""

import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from kpn_tf.batch.outcome import series_report
from kpn_tf.batch.staging import OutputError
from kpn_tf.dicom import DicomError, Refusal, derive_slice, is_written, write_slice
from kpn_tf.dicom.refusal import of_frame
from kpn_tf.metrics import noise_std_hu


@dataclass
class _Tally:
    """What is known so far about the series being written."""

    uid: str
    folder: Path | None = None
    noise_before_hu: list = field(default_factory=list)
    noise_after_hu: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    written: int = 0
    kept: int = 0


class Writer:
    """The last stage: it alone writes to the output folder, and it alone reports while the stages run.

    Args:
        staging: An entered `Staging`.
        progress: A `Progress`.
        reports: List that gets a `SeriesReport` for each finished series.
        refusals: List that gets a `Refusal` for each slice that failed.
    """

    def __init__(self, staging, progress, reports, refusals):
        self._staging = staging
        self._progress = progress
        self._reports = reports
        self._refusals = refusals
        self._clock = time.perf_counter()

    def write_all(self, derived):
        """Takes work from a belt until `None` comes."""
        tally = None
        while (work := derived.get()) is not None:
            if tally is None:
                tally = _Tally(work.task.uid)
            try:
                if tally.folder is None:
                    tally.folder = self._staging.open_series(tally.uid)
                if work.slice_file is not None:
                    self._write(work, tally)
                else:
                    self._close(work, tally)
                    tally = None
            except OutputError:
                self._report(work.task, tally, "failed")
                raise

    def _write(self, work, tally):
        if work.error is None:
            try:
                dataset = derive_slice(work.ct, work.derived_hu, work.task.derived_by)
                write_slice(dataset, tally.folder / f"{dataset.SOPInstanceUID}.dcm")
            except DicomError as error:
                # What one slice lacks is that slice's failure; what the disk lacks is everybody's.
                if isinstance(error.__cause__, OSError):
                    raise OutputError(self._staging.output, error) from error
                work.error = of_frame(work.slice_file.frame, error.reason)
        if work.error is None:
            noise_hu = noise_std_hu(work.derived_hu, work.series.pixel_spacing_mm, work.ct.padding)
            tally.noise_before_hu.append(work.noise_before_hu)
            tally.noise_after_hu.append(noise_hu)
            tally.seconds.append(work.seconds)
        else:
            self._refuse(work.slice_file.path, work.error)
        self._progress.slice_done()

    def _refuse(self, path, reason):
        refusal = Refusal(path, reason, failure=True)
        self._refusals.append(refusal)
        self._progress.refused(refusal)

    def _close(self, work, tally):
        tally.kept = len(work.task.kept or ())
        if not tally.seconds:
            self._staging.drop_series(tally.uid)
            outcome = (
                "no HU" if work.no_hu else "incomplete" if tally.kept and work.error is None else "failed"
            )
        elif work.task.kept is not None:
            self._join(tally)
            outcome = "written" if tally.written + tally.kept == work.task.slices else "incomplete"
        elif self._staging.publish_series(tally.uid) is None:
            outcome = "exists"
        else:
            tally.written = len(tally.seconds)
            outcome = "written" if tally.written == work.task.slices else "incomplete"
        reason = work.no_hu or work.error
        if reason is not None:
            for _ in work.task.left:
                self._progress.slice_done()
        self._report(work.task, tally, outcome, reason)

    def _join(self, tally):
        tally.written = len(tally.seconds)
        for path in self._staging.join_series(tally.uid):
            # Another run may have been faster.
            if not is_written(path, tally.uid):
                tally.written -= 1
                self._refuse(
                    path, "is no slice of this series, has the name of one and is never overwritten; move it"
                )

    def _report(self, task, tally, outcome, reason=None):
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        fields = {}
        if outcome in ("written", "incomplete"):
            fields = {
                "written": tally.written,
                "kept": tally.kept,
                "noise_before_hu": _median(tally.noise_before_hu),
                "noise_after_hu": _median(tally.noise_after_hu),
                "seconds_per_slice": seconds / len(tally.seconds) if tally.seconds else None,
                "inference_seconds_per_slice": _median(tally.seconds),
                "outside": task.outside,
            }
        report = series_report(task.parts, outcome, derived_uid=tally.uid, reason=reason, **fields)
        self._reports.append(report)
        self._progress.series_done(report)


def _median(values):
    finite = [float(value) for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else None
