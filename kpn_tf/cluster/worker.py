"""What a Dask worker does with one series: the same as one machine, with the same network, into the same folder."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from distributed import get_worker

from kpn_tf import __version__, console
from kpn_tf.batch import JobReport, Progress, pipeline
from kpn_tf.batch.denoising import Denoising
from kpn_tf.batch.outcome import series_report
from kpn_tf.batch.process import Task
from kpn_tf.batch.staging import GuestStaging, OutputError
from kpn_tf.batch.writer import Writer
from kpn_tf.denoiser import Denoiser


class WorkerError(RuntimeError):
    """A worker cannot take part; one sentence that says why."""


class UnforeseenError(RuntimeError):
    """The name of an error that nobody foresaw. Its text may quote a header, and Dask writes texts into its log."""


@dataclass(frozen=True)
class Terms:
    """What client and workers of a run must agree in.

    Args:
        weights: Name of shipped weights, or absolute path of a .tflite.
        file_sha256: Of their file.
        strengths: Shares of the correction, 0 to 1; `None` where a noise is wanted.
        noise_hu: Noise in HU that is wanted, or `None`.
        threads: Threads for the network in each worker.
        output: The output folder, absolute.
        staging: Folder of the client's `Staging` in it.
        version: Of this package.
    """

    weights: str
    file_sha256: str
    strengths: tuple[float, ...] | None
    noise_hu: float | None
    threads: int
    output: Path
    staging: Path
    version: str = __version__


@dataclass(frozen=True)
class Order:
    """One series to denoise, once or at several strengths. Dask prints and shows the arguments of its tasks: this one
    says nothing of the patient.

    Args:
        terms: A `Terms`.
        tasks: Tuple of `Task`s of one source.
    """

    terms: Terms
    tasks: tuple[Task, ...]

    def __repr__(self):
        return f"Order(series ...{self.tasks[0].parts[0].label})"


def denoise_series(order):
    """Denoises one series and publishes it. Two workers that have the same order do each other no harm.

    Args:
        order: An `Order`.

    Returns:
        A `JobReport` of what is derived from this series alone.

    Raises:
        WorkerError: If this worker cannot take part, or can no longer write to the output.
        UnforeseenError: If anything else goes wrong.
    """
    terms = order.terms
    denoiser = _denoiser(terms, get_worker().state.nthreads)
    done = [task for task in order.tasks if task.is_done(terms.output)]
    lacking = tuple(task.resumed(terms.output) for task in order.tasks if task not in done)
    reports, refusals = [series_report(task, "done") for task in done], []
    if not lacking:
        return JobReport(tuple(reports), (), 0.0)
    try:
        with GuestStaging(terms.output, terms.staging) as staging:
            writer = Writer(staging, Progress(), reports, refusals)
            pipeline.run([lacking], Denoising(denoiser, terms.strengths, terms.noise_hu), writer)
    except OutputError as error:
        raise WorkerError(str(error)) from None
    except Exception as error:
        raise UnforeseenError(type(error).__name__) from None
    return JobReport(tuple(reports), tuple(refusals), 0.0)


def why_not(terms, dask_worker):
    """Asks a worker whether it can take part, before it gets any series.

    Args:
        terms: A `Terms`.
        dask_worker: The worker; Dask fills in what has this name.

    Returns:
        One sentence that says why it cannot, or `None`.
    """
    try:
        _denoiser(terms, dask_worker.state.nthreads)
    except WorkerError as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=1)
def _denoiser(terms, worker_threads):
    """The network of a run: loaded once in each worker's process, and only if it is the client's."""
    if worker_threads != 1:
        raise WorkerError(
            f"Expected a worker that takes one series at a time. Received: one of {worker_threads} threads; start them "
            "with --nthreads 1 and --nworkers as many as there are cores"
        )
    if terms.version != __version__:
        raise WorkerError(
            f"Expected kpn_tf {terms.version}, as the client has. Received: {__version__}; install the same everywhere"
        )
    if not os.path.isdir(terms.staging):
        raise WorkerError(
            f"Expected {terms.output} to be the client's folder here too. Received: another, or none; input "
            "and output must lie on a shared file system, under the same path, and belong to the same user"
        )
    try:
        with console.silenced():
            denoiser = Denoiser(terms.weights, threads=terms.threads)
    except (OSError, ValueError) as error:
        raise WorkerError(str(error)) from None
    if denoiser.identity.file_sha256 != terms.file_sha256:
        raise WorkerError(
            f"Expected the client's weights {terms.weights}, file sha256 {terms.file_sha256[:12]}... Received: "
            f"{denoiser.identity.file_sha256[:12]}...; install the same everywhere"
        )
    return denoiser
