"""Three stages that run at once: decode, infer, write; a handful of slices is between them, never more."""

import contextlib
import math
import statistics
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kpn_tf.dicom import (
    CTSlice,
    DicomError,
    Refusal,
    Series,
    SliceFile,
    derive_slice,
    derived_series_uid,
    read_slice,
    write_slice,
)
from kpn_tf.job.belt import Belt, BeltStoppedError
from kpn_tf.job.outcome import SeriesReport
from kpn_tf.job.staging import OutputError
from kpn_tf.metrics import noise_std_hu

# Slices waiting between two stages: enough to ride out an uneven slice, few enough to keep memory flat.
AHEAD = 2


@dataclass
class _Work:
    """One slice on its way through the stages; without a `slice_file` it marks the end of its series."""

    parts: tuple[Series, ...]
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_file: SliceFile | None = None
    ct: CTSlice | None = None
    error: str | None = None
    noise_before_hu: float = math.nan
    denoised_hu: np.ndarray | None = None  # (H, W)
    inference_seconds: float = math.nan


@dataclass
class _Tally:
    """What is known so far about the series being written."""

    uid: str
    folder: Path | None = None
    noise_before_hu: list = field(default_factory=list)
    noise_after_hu: list = field(default_factory=list)
    inference_seconds: list = field(default_factory=list)


def run(todo, denoiser, writer):
    """Denoises series one after the other, their slices overlapping in the three stages.

    The network runs in the calling thread, so that Ctrl-C reaches it.

    Args:
        todo: List of series, each a tuple of `Series` with one UID: its parts of different geometry.
        denoiser: A `Denoiser`.
        writer: A `Writer`.

    Raises:
        OutputError: If the output cannot be written any further.
    """
    decoded, denoised = Belt(AHEAD), Belt(AHEAD)
    failures = []

    def stop():
        decoded.stop()
        denoised.stop()

    def stage(function, *args):
        try:
            function(*args)
        except BeltStoppedError:
            pass
        except BaseException as error:
            failures.append(error)
            stop()

    reader = threading.Thread(target=stage, args=(_decode_all, todo, decoded), name="kpn-decode")
    scribe = threading.Thread(target=stage, args=(writer.write_all, denoised), name="kpn-write")
    reader.start()
    scribe.start()
    try:
        with contextlib.suppress(BeltStoppedError):
            _infer_all(denoiser, decoded, denoised)
            scribe.join()
    finally:
        # Only after an interruption is anybody still waiting here.
        stop()
        reader.join()
        scribe.join()
    if failures:
        raise failures[0]


def _decode_all(todo, decoded):
    for parts in todo:
        for part in parts:
            for slice_file in part.slices:
                decoded.put(_decode(_Work(parts, part.pixel_spacing_mm, slice_file)))
        decoded.put(_Work(parts))
    decoded.put(None)


def _decode(work):
    try:
        ct = read_slice(work.slice_file.path)
    except DicomError as error:
        return replace(work, error=error.reason)
    noise_hu = noise_std_hu(ct.slice_hu, work.pixel_spacing_mm, ct.padding)
    return replace(work, ct=ct, noise_before_hu=noise_hu)


def _infer_all(denoiser, decoded, denoised):
    while (work := decoded.get()) is not None:
        if work.ct is not None:
            began = time.perf_counter()
            try:
                work.denoised_hu = denoiser(work.ct.slice_hu, work.ct.padding)
            except ValueError as error:
                work.error = str(error)
            work.inference_seconds = time.perf_counter() - began
        denoised.put(work)
    denoised.put(None)


class Writer:
    """The last stage: it alone writes to the output folder, and it alone reports while the stages run.

    Args:
        staging: An entered `Staging`.
        derived_by: A `DerivedBy`.
        progress: A `Progress`.
        reports: List that gets a `SeriesReport` for each finished series.
        refusals: List that gets a `Refusal` for each slice that failed.
    """

    def __init__(self, staging, derived_by, progress, reports, refusals):
        self._staging = staging
        self._derived_by = derived_by
        self._progress = progress
        self._reports = reports
        self._refusals = refusals
        self._clock = time.perf_counter()

    def write_all(self, denoised):
        """Takes work from a belt until `None` comes."""
        tally = None
        while (work := denoised.get()) is not None:
            if tally is None:
                tally = _Tally(derived_series_uid(work.parts[0].uid, self._derived_by))
            try:
                if tally.folder is None:
                    tally.folder = self._staging.open_series(tally.uid)
                if work.slice_file is not None:
                    self._write(work, tally)
                else:
                    self._close(work.parts, tally)
                    tally = None
            except OutputError:
                self._report(work.parts, tally, "failed")
                raise

    def _write(self, work, tally):
        if work.error is None:
            try:
                dataset = derive_slice(work.ct, work.denoised_hu, self._derived_by)
                write_slice(dataset, tally.folder / f"{dataset.SOPInstanceUID}.dcm")
            except DicomError as error:
                # What one slice lacks is that slice's failure; what the disk lacks is everybody's.
                if isinstance(error.__cause__, OSError):
                    raise OutputError(self._staging.output, error) from error
                work.error = error.reason
        if work.error is None:
            noise_hu = noise_std_hu(work.denoised_hu, work.pixel_spacing_mm, work.ct.padding)
            tally.noise_before_hu.append(work.noise_before_hu)
            tally.noise_after_hu.append(noise_hu)
            tally.inference_seconds.append(work.inference_seconds)
        else:
            refusal = Refusal(work.slice_file.path, work.error, failure=True)
            self._refusals.append(refusal)
            self._progress.refused(refusal)
        self._progress.slice_done()

    def _close(self, parts, tally):
        written = len(tally.inference_seconds)
        if written == 0:
            self._staging.drop_series(tally.uid)
            outcome = "failed"
        elif self._staging.publish_series(tally.uid) is None:
            outcome = "exists"
        else:
            outcome = "written" if written == _slices(parts) else "incomplete"
        self._report(parts, tally, outcome)

    def _report(self, parts, tally, outcome):
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        fields = {}
        if outcome in ("written", "incomplete"):
            written = len(tally.inference_seconds)
            fields = {
                "written": written,
                "noise_before_hu": _median(tally.noise_before_hu),
                "noise_after_hu": _median(tally.noise_after_hu),
                "seconds_per_slice": seconds / written,
                "inference_seconds_per_slice": _median(tally.inference_seconds),
            }
        report = series_report(parts, outcome, derived_uid=tally.uid, **fields)
        self._reports.append(report)
        self._progress.series_done(report)


def series_report(parts, outcome, **fields):
    """Returns a `SeriesReport` that names its source without saying whose it is."""
    return SeriesReport(parts[0].uid[-12:], parts[0].kernel, outcome, _slices(parts), **fields)


def _slices(parts):
    return sum(len(part.slices) for part in parts)


def _median(values):
    finite = [float(value) for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else None
