"""Three stages that run at once: decode, process, write; a handful of slices is between them, never more."""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from kpn_tf.batch.belt import Belt, BeltStoppedError
from kpn_tf.batch.process import SeriesError, Task, left
from kpn_tf.dicom import (
    CTSlice,
    DicomError,
    Series,
    SliceFile,
    other_scale,
    read_slice,
    stop_decoding,
)
from kpn_tf.metrics import flat_regions, regional_noise_std_hu

# Slices waiting between two stages: enough to ride out an uneven slice, few enough to keep memory flat.
AHEAD = 2

# How long an interrupted job waits for its threads. What they do is given up then: they touch nothing outside of the
# private folder, which goes.
PATIENCE_S = 1.0
_POLL_S = 0.05


@dataclass
class _Work:
    """One slice on its way through the stages; without a `slice_file` it marks the end of its series.

    `tasks` are those of its series, and `derived_hu` has a slice for each. `index` is its place in the series. One that
    is not `wanted` is there already, and only a neighbour of others.
    """

    tasks: tuple[Task, ...]
    series: Series | None = None
    slice_file: SliceFile | None = None
    index: int = 0
    wanted: bool = True
    process_slice: Callable | None = None
    ct: CTSlice | None = None
    error: str | None = None
    no_hu: str | None = None
    flat: list = field(default_factory=list)  # regions in which noise is measured
    noise_before_hu: float = math.nan
    derived_hu: list[np.ndarray] | None = None  # (H, W) each
    seconds: float = math.nan


def run(todo, process, writer):
    """Derives series one after the other, their slices overlapping in the three stages.

    Slices are processed in the calling thread, so that Ctrl-C reaches it. What the other two do cannot be interrupted,
    and a file may take long to decode: an interrupted run ends the decoder and waits `PATIENCE_S` for them.

    Args:
        todo: List of tuples of `Task`, those of one source together.
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
    for tasks in todo:
        parts = tasks[0].parts
        no_hu = other_scale(parts)
        if no_hu:
            decoded.put(_Work(tasks, no_hu=no_hu))
            continue
        try:
            makers, process_slice = process.for_series(parts, [task.derived_by for task in tasks])
        except SeriesError as error:
            decoded.put(_Work(tasks, error=str(error)))
            continue
        tasks = tuple(replace(task, derived_by=by) for task, by in zip(tasks, makers, strict=True))
        wanted = {(slice_file.path, slice_file.frame) for _, slice_file in left(tasks)}
        for part in parts:
            is_wanted = [(slice_file.path, slice_file.frame) in wanted for slice_file in part.slices]
            for index, slice_file in enumerate(part.slices):
                if any(is_wanted[max(0, index - process.slices_around) : index + process.slices_around + 1]):
                    work = _Work(tasks, part, slice_file, index, is_wanted[index], process_slice)
                    decoded.put(_decode(work))
        decoded.put(_Work(tasks))
    decoded.put(None)


def _decode(work):
    try:
        ct = read_slice(work.slice_file.path, work.slice_file.frame)
    except DicomError as error:
        return replace(work, error=error.reason)
    if not work.wanted:
        return replace(work, ct=ct)
    flat = flat_regions(ct.slice_hu, work.series.pixel_spacing_mm, ct.padding)
    return replace(work, ct=ct, flat=flat, noise_before_hu=regional_noise_std_hu(ct.slice_hu, flat))


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
    # Of one series, whose slices share a geometry: what may still be a neighbour, and what waits for neighbours.
    window, waiting = collections.deque(), collections.deque()

    def ready(last):
        while waiting and waiting[0].index + around <= last:
            work = waiting.popleft()
            near = {other.index - work.index: other.ct for other in window if other.ct is not None}
            yield work, ({place: ct for place, ct in near.items() if 0 < abs(place) <= around},)
        first = waiting[0].index if waiting else last + 1
        while window and window[0].index < first - around:
            window.popleft()

    while (work := decoded.get()) is not None:
        if window and work.series is not window[-1].series:
            yield from ready(math.inf)
            window.clear()
        if work.slice_file is None:
            yield work, ()
            continue
        window.append(work)
        if work.wanted:
            waiting.append(work)
        yield from ready(work.index)
