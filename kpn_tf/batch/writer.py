"""The last stage of a job: derived slices become files, and what became of each series is reported."""

import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kpn_tf.batch.outcome import series_report
from kpn_tf.batch.process import Task, left
from kpn_tf.batch.staging import OutputError
from kpn_tf.dicom import (
    DicomError,
    Refusal,
    derive_slice,
    is_written,
    open_volume,
    volume_suffix,
    write_slice,
)
from kpn_tf.dicom.refusal import of_frame
from kpn_tf.files import replacing
from kpn_tf.metrics import regional_noise_std_hu


@dataclass
class _Tally:
    """What is known so far about the series being written."""

    task: Task
    folder: Path | None = None
    volume_hu: np.ndarray | None = None  # (Z, H, W), where a volume file is written
    noise_before_hu: list = field(default_factory=list)
    noise_after_hu: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    written: int = 0
    reported: bool = False


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
        tallies = None
        while (work := derived.get()) is not None:
            if tallies is None:
                tallies = [_Tally(task) for task in work.tasks]
            try:
                for tally in tallies:
                    if tally.folder is None:
                        tally.folder = self._staging.open_series(_own_name(tally.task))
                if work.slice_file is not None:
                    self._write(work, tallies)
                else:
                    self._close(work, tallies)
                    tallies = None
            except OutputError:
                for tally in tallies:
                    if not tally.reported:
                        self._report(tally, "failed")
                raise

    def _write(self, work, tallies):
        for tally, derived_hu in zip(tallies, work.derived_hu or [None] * len(tallies), strict=True):
            if work.error is None and tally.task.lacks(work.series, work.slice_file):
                self._write_one(work, tally, derived_hu)
        if work.error is not None:
            self._refuse(work.slice_file.path, work.error)
        self._progress.slice_done()

    def _write_one(self, work, tally, derived_hu):
        try:
            if tally.task.volume:
                _keep(work, tally, derived_hu)
            else:
                dataset = derive_slice(work.ct, derived_hu, tally.task.derived_by)
                write_slice(dataset, tally.folder / f"{dataset.SOPInstanceUID}.dcm")
        except DicomError as error:
            # What one slice lacks is that slice's failure; what the disk lacks is everybody's.
            if isinstance(error.__cause__, OSError):
                raise OutputError(self._staging.output, error) from error
            work.error = of_frame(work.slice_file.frame, error.reason)
            return
        tally.noise_before_hu.append(work.noise_before_hu)
        tally.noise_after_hu.append(regional_noise_std_hu(derived_hu, work.flat))
        tally.seconds.append(work.seconds)

    def _refuse(self, path, reason):
        refusal = Refusal(path, reason, failure=True)
        self._refusals.append(refusal)
        self._progress.refused(refusal)

    def _close(self, work, tallies):
        reason = work.no_hu or work.error
        if reason is not None:
            for _ in left(work.tasks):
                self._progress.slice_done()
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        for tally in tallies:
            self._report(tally, self._published(work, tally), reason, seconds / len(tallies))

    def _published(self, work, tally):
        """Moves a finished series to its place; returns the outcome."""
        task = tally.task
        if task.volume and tally.seconds:
            return self._published_volume(tally)
        if not tally.seconds:
            self._staging.drop_series(_own_name(task))
            return "no HU" if work.no_hu else "incomplete" if task.kept and work.error is None else "failed"
        if task.kept is not None:
            self._join(tally)
        elif self._staging.publish_series(task.place) is None:
            return "exists"
        else:
            tally.written = len(tally.seconds)
        return "written" if tally.written + len(task.kept or ()) == task.slices else "incomplete"

    def _published_volume(self, tally):
        """Writes a volume file, if it has all of its slices, and moves it to its place; returns the outcome."""
        task = tally.task
        try:
            if len(tally.seconds) < task.slices:
                return "failed"
            path = tally.folder / Path(task.place).name
            volume = open_volume(task.volume)
            with replacing(path, private=True, suffix=volume_suffix(path)) as part:
                volume.write(part, tally.volume_hu, task.derived_by.volume_note, task.derived_by.description)
            if self._staging.publish_file(path, task.place) is None:
                return "exists"
        except OSError as error:
            raise OutputError(self._staging.output, error) from error
        except DicomError as error:
            # It was read before, and has gone or changed.
            self._refuse(task.volume, error.reason)
            return "failed"
        finally:
            self._staging.drop_series(_own_name(task))
        tally.written = task.slices
        return "written"

    def _join(self, tally):
        tally.written = len(tally.seconds)
        for path in self._staging.join_series(tally.task.place):
            # Another run may have been faster.
            if not is_written(path, tally.task.uid):
                tally.written -= 1
                self._refuse(
                    path, "is no slice of this series, has the name of one and is never overwritten; move it"
                )

    def _report(self, tally, outcome, reason=None, seconds=0.0):
        tally.reported = True
        fields = {}
        if outcome in ("written", "incomplete"):
            fields = {
                "written": tally.written,
                "kept": len(tally.task.kept or ()),
                "noise_before_hu": _mean(tally.noise_before_hu),
                "noise_after_hu": _mean(tally.noise_after_hu),
                "seconds_per_slice": seconds / len(tally.seconds) if tally.seconds else None,
                "inference_seconds_per_slice": _median(tally.seconds),
                "outside": tally.task.outside,
            }
        report = series_report(tally.task, outcome, reason=reason, **fields)
        self._reports.append(report)
        self._progress.series_done(report)


def _own_name(task):
    """Name of the private folder that a series is built in."""
    return task.uid if task.volume else task.place


def _keep(work, tally, derived_hu):
    """Puts a slice into the volume that will be written."""
    if tally.volume_hu is None:
        tally.volume_hu = np.empty((tally.task.slices, *derived_hu.shape), np.float32)
    tally.volume_hu[work.slice_file.frame - 1] = np.where(work.ct.padding, work.ct.slice_hu, derived_hu)


def _finite(values):
    return [float(value) for value in values if math.isfinite(value)]


def _mean(values):
    return statistics.fmean(finite) if (finite := _finite(values)) else None


def _median(values):
    return statistics.median(finite) if (finite := _finite(values)) else None
