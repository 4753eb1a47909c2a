"""Every CT series under a path becomes a derived series of its own, atomically."""

import os
import time
from pathlib import Path

from kpn_tf.batch import pipeline
from kpn_tf.batch.outcome import JobReport, Progress, series_report, source_report
from kpn_tf.batch.process import NAMES, Task, left
from kpn_tf.batch.staging import OutputError, Staging, sweep
from kpn_tf.batch.writer import Writer
from kpn_tf.dicom import find_series, volume_suffix


def derive(input_path, output, process, *, names="uid", progress=None):
    """Derives a series, or several, from every CT series under a path.

    A series appears in `output/<derived SeriesInstanceUID>/` when it is complete and not before; of one that is there
    in part, the slices that it lacks join it. A volume file becomes one of the same format, `scan_denoised.nii.gz`.
    Nothing is ever overwritten, and the input is only read. Decoding, processing and writing overlap, and memory does
    not grow with a series of DICOM; a volume file is held in it.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: Folder for the derived series; made if needed. It may lie inside the input.
        process: A `Process`.
        names: What the folders of derived series are named after: `"uid"`, or `"description"` and the end of the UID.
        progress: A `Progress`, or `None`.

    Returns:
        A `JobReport`. A full disk or an unwritable output ends the job early and is told in `stopped`.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder, or has the name of a volume file.
    """
    started = time.perf_counter()
    output = Path(output)
    progress = Progress() if progress is None else progress
    planned, reports, refusals = plan(input_path, output, process, progress, names)
    todo = []
    for tasks in planned:
        lacking = []
        for task in tasks:
            if os.path.lexists(output / task.place) and not _is_part(task, output):
                reports.append(series_report(task, "exists"))
                progress.series_done(reports[-1])
            else:
                lacking.append(task.resumed(output))
        if lacking:
            todo.append(tuple(lacking))
    stopped = None
    if todo:
        progress.planned(sum(len(left(tasks)) for tasks in todo))
        try:
            with Staging(output) as staging:
                writer = Writer(staging, progress, reports, refusals)
                pipeline.run(todo, process, writer)
        except OutputError as error:
            stopped = str(error)
    return JobReport(tuple(reports), tuple(refusals), time.perf_counter() - started, stopped)


def plan(input_path, output, process, progress, names="uid"):
    """Finds what is to be derived, from headers alone, and removes what killed runs left in the output folder.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: A `pathlib.Path`.
        process: A `Process`.
        progress: A `Progress`; it is told what is left out.
        names: As of `derive`.

    Returns:
        `(planned, reports, refusals)`: for each series that the process takes a tuple of a `Task` for each series that
        is derived from it, whether or not the output holds it; a list of a `SeriesReport` for each that it does not
        take; a list of the `Refusal` of each file that was left out.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder, or has the name of a volume file.
        ValueError: If `names` is unknown.
    """
    if names not in NAMES:
        raise ValueError(f"Expected names to be one of {', '.join(NAMES)}. Received: {names!r}")
    # os.path rather than Path: a folder that may not be searched is no exception here, but a refusal later.
    if not os.path.exists(input_path):
        raise FileNotFoundError(
            f"Expected a CT file or a folder. Received: {input_path}, which does not exist"
        )
    if os.path.exists(output) and not os.path.isdir(output):
        raise NotADirectoryError(f"Expected a folder for the output. Received: {output}, which is a file")
    if not os.path.exists(output) and volume_suffix(output):
        raise NotADirectoryError(
            f"Expected a folder for the output. Received: {output}, the name of a volume file, which gets that of its "
            "source and a word"
        )
    sweep(output)
    found, refusals = find_series(input_path)
    for refusal in refusals:
        progress.refused(refusal)
    planned, reports = [], []
    for parts in _by_key(found):
        reason = process.refusal(parts)
        if reason is None:
            outside = process.outside(parts)
            below = _below(input_path, parts)
            planned.append(
                tuple(Task(parts, by, outside, names=names, below=below) for by in process.derived_by(parts))
            )
        else:
            reports.append(source_report(parts, "own output", reason=reason))
            progress.series_done(reports[-1])
    return planned, reports, refusals


def _is_part(task, output):
    """Whether the output folder holds the series, but not all of its slices."""
    return (output / task.place).is_dir() and not task.volume and not task.is_done(output)


def _below(input_path, parts):
    """Folder of a series below the input: two volume files of one name in two folders stay two."""
    if not os.path.isdir(input_path):
        return ""
    return os.path.relpath(parts[0].slices[0].path.parent, input_path)


def _by_key(found):
    """Tuples of `Series` that share a key: parts of one series that differ in geometry, derived into one."""
    together = {}
    for series in found:
        together.setdefault(series.key, []).append(series)
    return [tuple(parts) for parts in together.values()]
