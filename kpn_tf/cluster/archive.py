"""The client's side of an archive: it finds the series, hands them out, and writes down what became of them."""

import contextlib
import itertools
import os
import time
from concurrent.futures import CancelledError
from pathlib import Path

from distributed import as_completed
from distributed.scheduler import KilledWorker

from kpn_tf.batch.denoising import Denoising
from kpn_tf.batch.derivation import plan
from kpn_tf.batch.outcome import JobReport, Progress, series_report
from kpn_tf.batch.staging import OutputError, Staging
from kpn_tf.cluster.manifest import Manifest
from kpn_tf.cluster.scheduler import connected
from kpn_tf.cluster.worker import Order, Terms, UnforeseenError, WorkerError, denoise_series, why_not
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER

# Series at the scheduler at a time: more than any cluster has workers, few enough that it holds a sliver of an archive.
_IN_FLIGHT = 2000

# Attempts after the first, for what passes: a share that hangs, a disk that was full.
_RETRIES = 2


def denoise_archive(
    input_path,
    output,
    denoiser,
    address,
    *,
    strengths=None,
    noise_hu=None,
    names="uid",
    progress=None,
    tell=lambda line: None,
):
    """Denoises every CT series under a path on the workers of a Dask scheduler.

    Input and output lie on a file system that client and workers share. Series are the unit: each is built in a hidden
    folder of the client's and appears in the output when it is complete. A worker that dies costs the time of its
    series. What the output holds already with all of its slices is done; of what it holds in part, the rest is made.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: Folder for the derived series; made if needed.
        denoiser: A `Denoiser` on the CPU. The workers load the same network, and refuse if theirs is another.
        address: `"local"` or `"tcp://HOST:PORT"`.
        strengths: As of `kpn_tf.batch.denoise`.
        noise_hu: As of `kpn_tf.batch.denoise`.
        names: As of `kpn_tf.batch.denoise`.
        progress: A `Progress`, or `None`.
        tell: Function that is told, in a line each, how many workers there are, where the dashboard is, and, after an
            interruption, what stays.

    Returns:
        A `JobReport`. An output that cannot be written, a scheduler that is lost and a worker that cannot take part end
        the job early and are told in `stopped`.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder.
        OSError: If there is no scheduler, no worker, or another run writes to the output.
    """
    started = time.perf_counter()
    # Workers stand in other folders.
    input_path, output = Path(os.path.abspath(input_path)), Path(os.path.abspath(output))
    progress = Progress() if progress is None else progress
    denoising = Denoising(denoiser, strengths, noise_hu)
    planned, reports, refusals = plan(input_path, output, denoising, progress, names)
    todo = []
    for tasks in planned:
        done = [task for task in tasks if task.is_done(output)]
        for task in done:
            reports.append(series_report(task, "done"))
            progress.series_done(reports[-1])
        if len(done) < len(tasks):
            todo.append(tuple(task for task in tasks if task not in done))
    # The longest first: a cluster waits for its last series, which had better be a short one.
    todo.sort(key=lambda tasks: -tasks[0].slices)
    stopped = None
    if todo:
        progress.planned(sum(task.slices for tasks in todo for task in tasks))
        try:
            with (
                Manifest(output, denoiser) as manifest,
                connected(address, denoiser.threads) as client,
                # Left first: a worker that goes on after the client can publish nothing.
                Staging(output) as staging,
            ):
                terms = _terms(denoiser, strengths, noise_hu, output, staging)
                tell(_introduced(client, terms))
                with contextlib.closing(_denoised(client, terms, todo)) as flow:
                    for done in flow:
                        reports += done.series
                        refusals += done.refusals
                        _tell_of(done, manifest, progress)
        except (OutputError, WorkerError) as error:
            stopped = str(error)
        except BaseException as error:
            if not isinstance(error, Exception):
                tell("interrupted: the series that are published stay; the same call goes on with the rest")
            raise
    return JobReport(tuple(reports), tuple(refusals), time.perf_counter() - started, stopped)


def _terms(denoiser, strengths, noise_hu, output, staging):
    # A path means a file of the user's, a name what each worker has installed.
    path = denoiser.artefact.path
    weights = path.stem if path.parent == WEIGHTS_FOLDER else str(path.absolute())
    if noise_hu is None and strengths is None:
        strengths = (denoiser.strength,)
    return Terms(
        weights,
        denoiser.identity.file_sha256,
        strengths,
        noise_hu,
        denoiser.threads,
        output,
        staging.folder,
    )


def _introduced(client, terms):
    """Asks all workers whether they can take part; returns the line about them."""
    workers = client.run(why_not, terms, on_error="return")
    for worker, answer in workers.items():
        if isinstance(answer, Exception):
            # Its own installation could not even take the question.
            answer = f"Expected kpn_tf {terms.version}, as the client has. Received: none, or one that cannot be used; "
            answer += "install the same everywhere"
        if answer is not None:
            raise WorkerError(f"worker {worker}: {answer}")
    return f"workers: {len(workers)}, dashboard: {client.dashboard_link}"


def _denoised(client, terms, todo):
    """Yields a `JobReport` of each series, as they are finished."""
    coming, handed_out = iter(todo), {}

    def submit(tasks):
        # No other run's key: a scheduler would give the answer of then.
        key = f"kpn-{terms.staging.name[-16:]}-{tasks[0].uid}"
        future = client.submit(denoise_series, Order(terms, tasks), key=key, retries=_RETRIES)
        handed_out[key] = future, tasks
        return future

    flow = as_completed([submit(tasks) for tasks in itertools.islice(coming, _IN_FLIGHT)])
    try:
        for future in flow:
            yield _result(future, handed_out.pop(future.key)[1])
            for tasks in itertools.islice(coming, 1):
                flow.add(submit(tasks))
    finally:
        client.cancel([future for future, _ in handed_out.values()])


def _result(future, tasks):
    try:
        return future.result()
    except WorkerError:
        raise
    except CancelledError:
        raise WorkerError("the scheduler was lost; the same call goes on with the rest") from None
    except KilledWorker:
        reason = "ended the process of every worker that took it"
    except UnforeseenError as error:
        reason = f"{error} in every worker that took it"
    return JobReport(tuple(series_report(task, "failed", reason=reason) for task in tasks), (), 0.0)


def _tell_of(done, manifest, progress):
    """Writes down and tells what became of one series."""
    for refusal in done.refusals:
        progress.refused(refusal)
    for report in done.series:
        for _ in range(report.slices):
            progress.slice_done()
        manifest.add(report)
        progress.series_done(report)
