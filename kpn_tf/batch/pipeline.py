"""Three stages that run at once: decode, process, write; a handful of slices is between them, never more."""

import collections
import contextlib
import math
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kpn_tf.batch.belt import Belt, BeltStoppedError
from kpn_tf.batch.outcome import SeriesReport
from kpn_tf.batch.process import SeriesError, Task, slice_count
from kpn_tf.batch.staging import OutputError
from kpn_tf.dicom import (
    CTSlice,
    DicomError,
    Refusal,
    Series,
    SliceFile,
    derive_slice,
    is_written,
    other_scale,
    read_slice,
    stop_decoding,
    write_slice,
)
from kpn_tf.dicom.refusal import of_frame
from kpn_tf.metrics import noise_std_hu

# Slices waiting between two stages: enough to ride out an uneven slice, few enough to keep memory flat.
AHEAD = 2

# How long an interrupted job waits for its threads. What they do is given up then: they touch nothing outside of the
# private folder, which goes.
PATIENCE_S = 1.0
_POLL_S = 0.05


@dataclass
class _Work:
    """One slice on its way through the stages; without a `slice_file` it marks the end of its series."""

    task: Task
    series: Series | None = None
    slice_file: SliceFile | None = None
    process_slice: Callable | None = None
    ct: CTSlice | None = None
    error: str | None = None
    no_hu: str | None = None
    noise_before_hu: float = math.nan
    derived_hu: np.ndarray | None = None  # (H, W)
    seconds: float = math.nan


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


def run(todo, process, writer):
    """Derives series one after the other, their slices overlapping in the three stages.

    Slices are processed in the calling thread, so that Ctrl-C reaches it. What the other two do cannot be interrupted,
    and a file may take long to decode: an interrupted run ends the decoder and waits `PATIENCE_S` for them.

    Args:
        todo: List of `Task`.
        process: A `Process`.
        writer: A `Writer`.

    Raises:
        OutputError: If the output cannot be written any further.
    """
    decoded, derived = Belt(AHEAD), Belt(AHEAD)
    failures = []

    def stop():
        decoded.stop()
        derived.stop()

    def stage(function, *args):
        try:
            function(*args)
        except BeltStoppedError:
            pass
        except BaseException as error:
            failures.append(error)
            stop()

    # Daemons: the end of the process waits for neither.
    reader = threading.Thread(
        target=stage, args=(_decode_all, todo, process, decoded), name="kpn-decode", daemon=True
    )
    writer_thread = threading.Thread(
        target=stage, args=(writer.write_all, derived), name="kpn-write", daemon=True
    )
    reader.start()
    writer_thread.start()
    try:
        with contextlib.suppress(BeltStoppedError):
            _process_all(decoded, derived, process.slices_around)
            writer_thread.join()
    finally:
        # Only after an interruption is anybody still at work here.
        stop()
        _leave(reader, writer_thread)
    if failures:
        raise failures[0]


def _leave(*threads):
    """Waits for threads to end, and soon no longer."""
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        for thread in threads:
            thread.join(_POLL_S)
        if threads[0].is_alive():
            stop_decoding()


def _decode_all(todo, process, decoded):
    for task in todo:
        no_hu = other_scale(task.parts)
        if no_hu:
            decoded.put(_Work(task, no_hu=no_hu))
            continue
        try:
            process_slice = process.for_series(task.parts)
        except SeriesError as error:
            decoded.put(_Work(task, error=str(error)))
            continue
        for series, slice_file in task.left:
            decoded.put(_decode(_Work(task, series, slice_file, process_slice)))
        decoded.put(_Work(task))
    decoded.put(None)


def _decode(work):
    try:
        ct = read_slice(work.slice_file.path, work.slice_file.frame)
    except DicomError as error:
        return replace(work, error=error.reason)
    noise_hu = noise_std_hu(ct.slice_hu, work.series.pixel_spacing_mm, ct.padding)
    return replace(work, ct=ct, noise_before_hu=noise_hu)


def _process_all(decoded, derived, around):
    for work, beside in _with_slices_around(decoded, around):
        if work.ct is not None:
            began = time.perf_counter()
            try:
                work.derived_hu = work.process_slice(work.ct, work.series, work.slice_file, *beside)
            except ValueError as error:
                # A sentence of its own: it does not go on from the name of the file.
                frame = work.slice_file.frame
                work.error = str(error) if frame is None else f"frame {frame}: {error}"
            work.seconds = time.perf_counter() - began
        derived.put(work)
    derived.put(None)


def _with_slices_around(decoded, around):
    """Yields `(work, beside)`: what to hand to the process besides the slice, once it has come.

    `beside` is empty, or holds one dict: from the places of the slices around it, counted from it, to the `CTSlice`s.
    """
    if not around:
        while (work := decoded.get()) is not None:
            yield work, ()
        return
    # Of one series, whose slices share a geometry: those before the next to be processed, itself, those after it.
    window, next_one = collections.deque(), 0

    def ready(ended):
        nonlocal next_one
        while next_one < len(window) and (ended or next_one + around < len(window)):
            places = range(max(0, next_one - around), min(len(window), next_one + around + 1))
            yield (
                window[next_one],
                ({i - next_one: window[i].ct for i in places if i != next_one and window[i].ct is not None},),
            )
            next_one += 1
            if next_one > around:
                window.popleft()
                next_one -= 1

    while (work := decoded.get()) is not None:
        if window and work.series is not window[-1].series:
            yield from ready(ended=True)
            window.clear()
            next_one = 0
        if work.slice_file is None:
            yield work, ()
        else:
            window.append(work)
            yield from ready(ended=False)


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


def series_report(parts, outcome, **fields):
    """Returns a `SeriesReport` that names its source without saying whose it is."""
    return SeriesReport(parts[0].label, parts[0].kernel, outcome, slice_count(parts), **fields)


def _median(values):
    finite = [float(value) for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else None
