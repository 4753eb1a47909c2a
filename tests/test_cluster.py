"""An archive on a cluster is that of one machine; whatever is killed, a series is whole, and nothing is done twice."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.request
from concurrent.futures import CancelledError

import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from kpn_tf import __version__, batch, cli
from kpn_tf.batch import writer
from kpn_tf.batch.denoising import Denoising
from kpn_tf.batch.outcome import series_report
from kpn_tf.batch.process import Task
from kpn_tf.batch.staging import Staging
from kpn_tf.cli import extras
from kpn_tf.cluster import archive, denoise_archive, scheduler, worker
from kpn_tf.cluster.manifest import NAME, Manifest, read_manifest
from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.devices import physical_cores
from kpn_tf.dicom import find_series
from tests.ct_series import write_ct_series
from tests.node_peers import until
from tests.test_batch import BOX, Recorder, contents


@pytest.fixture(scope="module")
def box():
    return Denoiser(BOX, threads=1)


@pytest.fixture(scope="module")
def edge():
    """Takes its time, so that something can happen in the middle of a series."""
    return Denoiser("edge", threads=1)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler with two workers, each a process of its own that is started again when it dies."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def write_archive(folder, *, series, slices, rows=30, columns=26):
    for number in range(series):
        name = "x" * (number + 1)
        write_ct_series(folder / f"{number}", name=name, slices=slices, rows=rows, columns=columns)


def derived(folder):
    """Path and hash of what is there beside the manifest, hidden or not."""
    return {path: digest for path, digest in contents(folder).items() if path != NAME}


def changed(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("2.25.*/*.dcm")}


def test_an_archive_on_a_cluster_is_that_of_one_machine_byte_for_byte(tmp_path, box, cluster):
    write_archive(tmp_path / "in", series=4, slices=5)
    (tmp_path / "in" / "SOURCE.txt").write_text("words")
    recorder, told = Recorder(), []
    report = denoise_archive(
        tmp_path / "in",
        tmp_path / "out",
        box,
        cluster.scheduler_address,
        progress=recorder,
        tell=told.append,
    )
    batch.denoise(tmp_path / "in", tmp_path / "one", box)
    assert derived(tmp_path / "out") == contents(tmp_path / "one") != {}
    assert report.ok
    assert [series.outcome for series in report.series] == ["written"] * 4
    assert recorder.events.count(("slice",)) == report.slices_written == 20
    assert ("planned", 20) in recorder.events
    assert ("refused", "SOURCE.txt", False) in recorder.events
    assert len(told) == 1
    assert told[0].startswith("workers: 2, dashboard: http://127.0.0.1:")


def test_workers_give_a_network_of_stacks_the_neighbours_of_every_slice(tmp_path, cluster):
    write_archive(tmp_path / "in", series=2, slices=4)
    write_ct_series(tmp_path / "in" / "single", name="single", slices=1)
    stack = Denoiser("stack", threads=1)
    report = denoise_archive(tmp_path / "in", tmp_path / "out", stack, cluster.scheduler_address)
    assert [series.outcome for series in report.series] == ["written"] * 3
    batch.denoise(tmp_path / "in", tmp_path / "one", stack)
    assert derived(tmp_path / "out") == contents(tmp_path / "one") != {}


def test_two_patients_of_one_series_uid_are_two_series_of_an_archive(tmp_path, box, cluster):
    for patient in ("P-1", "P-2"):
        write_ct_series(tmp_path / "in" / patient, name="a", slices=2, PatientID=patient)
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, cluster.scheduler_address)
    assert report.ok
    assert [(series.outcome, series.written) for series in report.series] == [("written", 2)] * 2
    batch.denoise(tmp_path / "in", tmp_path / "one", box)
    assert derived(tmp_path / "out") == contents(tmp_path / "one") != {}


def test_a_worker_killed_in_the_middle_costs_the_time_of_one_series_and_nothing_else(tmp_path, edge, cluster):
    write_archive(tmp_path / "in", series=5, slices=16, rows=160, columns=152)
    batch.denoise(tmp_path / "in", tmp_path / "one", edge)
    with Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
    begun, over, killed = set(), threading.Event(), []

    def written(folder):
        return len(list(folder.glob("*.dcm")))

    def watch():
        while not over.is_set():
            # What is finished moves away while it is looked at.
            with contextlib.suppress(FileNotFoundError):
                look()
            over.wait(0.002)

    def look():
        # Private folders, one for each attempt at a series.
        now = set((tmp_path / "out").glob(".kpn-partial-*/*/2.25.*"))
        begun.update(one.parent.name for one in now)
        # Both are in the middle of a series, and something is done that must stay.
        if not killed and len(begun) > 2 and len(now) == 2 and all(0 < written(one) < 12 for one in now):
            done = changed(tmp_path / "out")
            os.kill(pids[0], signal.SIGKILL)
            killed.append(done)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        report = denoise_archive(tmp_path / "in", tmp_path / "out", edge, cluster.scheduler_address)
    finally:
        over.set()
        watcher.join()
    assert len(killed) == 1
    assert not psutil.pid_exists(pids[0])
    assert report.ok
    assert sorted(series.outcome for series in report.series) == ["written"] * 5
    assert derived(tmp_path / "out") == contents(tmp_path / "one")
    # Five series and the one that was lost; what was done before the kill has not been touched.
    assert len(begun) == 6
    assert killed[0].items() <= changed(tmp_path / "out").items()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [NAME, *(series.derived_uid for series in report.series)]
    )
    assert len((tmp_path / "out" / NAME).read_text().splitlines()) == 5


def test_a_rerun_makes_what_is_missing_and_leaves_alone_what_is_done(tmp_path, box, cluster):
    write_archive(tmp_path / "in", series=3, slices=3)
    batch.denoise(tmp_path / "in", tmp_path / "out", box)
    before, times = derived(tmp_path / "out"), changed(tmp_path / "out")
    gone, short, whole = sorted((tmp_path / "out").iterdir())
    shutil.rmtree(gone)
    next(short.iterdir()).unlink()
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, cluster.scheduler_address)
    assert report.ok
    outcomes = {series.derived_uid: series.outcome for series in report.series}
    assert outcomes == {gone.name: "written", short.name: "written", whole.name: "done"}
    assert derived(tmp_path / "out") == before
    kept = [path for path, time_ns in changed(tmp_path / "out").items() if times[path] == time_ns]
    assert sorted(path.parent for path in kept) == [short] * 2 + [whole] * 3


def test_where_all_is_done_no_cluster_is_asked_and_all_is_well(tmp_path, box, monkeypatch):
    write_archive(tmp_path / "in", series=2, slices=2)
    batch.denoise(tmp_path / "in", tmp_path / "out", box)
    monkeypatch.delattr(archive, "connected")
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, "tcp://127.0.0.1:1")
    assert report.ok
    assert [series.outcome for series in report.series] == ["done", "done"]
    assert report.slices_written == 0


def test_a_damaged_slice_is_named_and_a_rerun_adds_it_once_it_is_mended(tmp_path, box, cluster):
    write_archive(tmp_path / "in", series=2, slices=4)
    (first, *_) = sorted((tmp_path / "in" / "0").iterdir())
    whole = first.read_bytes()
    # Long enough to look whole: it fails where its pixels are read.
    first.write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    batch.denoise(tmp_path / "in", tmp_path / "one", box)
    recorder = Recorder()
    address = cluster.scheduler_address
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, address, progress=recorder)
    assert not report.ok
    assert sorted(series.outcome for series in report.series) == ["incomplete", "written"]
    assert ("refused", first.name, True) in recorder.events
    assert derived(tmp_path / "out") == contents(tmp_path / "one")
    times = changed(tmp_path / "out")
    first.write_bytes(whole)
    assert denoise_archive(tmp_path / "in", tmp_path / "out", box, address).ok
    shutil.rmtree(tmp_path / "one")
    batch.denoise(tmp_path / "in", tmp_path / "one", box)
    assert derived(tmp_path / "out") == contents(tmp_path / "one")
    assert times.items() < changed(tmp_path / "out").items()
    assert {told["outcome"] for told in read_manifest(tmp_path / "out").values()} == {"written"}


def test_several_strengths_are_the_same_files_on_a_cluster(tmp_path, box, cluster):
    write_archive(tmp_path / "in", series=2, slices=2)
    strengths = (0.4, 1.0)
    batch.denoise(tmp_path / "in", tmp_path / "one", box, strengths=strengths)
    report = denoise_archive(
        tmp_path / "in", tmp_path / "out", box, cluster.scheduler_address, strengths=strengths
    )
    assert report.ok
    assert sorted(series.strength for series in report.series) == [0.4, 0.4, 1.0, 1.0]
    assert derived(tmp_path / "out") == contents(tmp_path / "one")


def test_the_manifest_tells_what_became_of_each_series_and_nothing_of_the_patient(tmp_path, box, cluster):
    write_archive(tmp_path / "in" / "Secret Person", series=2, slices=2)
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, cluster.scheduler_address)
    told = read_manifest(tmp_path / "out")
    assert told == {
        series.derived_uid: {
            "kpn_tf": __version__,
            "network": box.identity._asdict(),
            **dataclasses.asdict(series),
            "outside": list(series.outside),
        }
        for series in report.series
    }
    text = (tmp_path / "out" / NAME).read_text()
    assert not any(secret in text for secret in ("Secret", "ID-0815", "19700101", str(tmp_path)))


def test_half_a_line_of_a_killed_run_spoils_neither_the_manifest_nor_the_next_line(tmp_path, box):
    write_archive(tmp_path / "in", series=2, slices=1)
    reports = batch.denoise(tmp_path / "in", tmp_path / "out", box).series
    for report in reports:
        with Manifest(tmp_path / "out", box) as manifest:
            manifest.add(report)
        with open(tmp_path / "out" / NAME, "ab") as file:
            file.write(b'{"kpn_tf": "0.1.0", "derived_u')
    assert list(read_manifest(tmp_path / "out")) == [report.derived_uid for report in reports]


def test_two_runs_into_one_output_are_refused_in_one_sentence(tmp_path, box):
    write_archive(tmp_path / "in", series=1, slices=1)
    sentence = r"Expected one run at a time to write to .*out. Received: kpn-manifest.jsonl, which another"
    with Manifest(tmp_path / "out", box), pytest.raises(OSError, match=sentence):
        denoise_archive(tmp_path / "in", tmp_path / "out", box, "tcp://127.0.0.1:1")


def test_a_scheduler_that_does_not_answer_is_told_in_one_sentence(tmp_path, box, monkeypatch):
    write_archive(tmp_path / "in", series=1, slices=1)
    monkeypatch.setattr(scheduler, "_PATIENCE_S", 0.2)
    with pytest.raises(OSError, match=r"Expected a Dask scheduler at tcp://127.0.0.1:1. Received: no answer"):
        denoise_archive(tmp_path / "in", tmp_path / "out", box, "tcp://127.0.0.1:1")


@pytest.fixture
def terms(tmp_path, box):
    with Staging(tmp_path / "out") as staging:
        yield worker.Terms(
            str(BOX), box.identity.file_sha256, (1.0,), None, 1, tmp_path / "out", staging.folder
        )


def asked(terms, threads=1):
    return worker.why_not(terms, types.SimpleNamespace(state=types.SimpleNamespace(nthreads=threads)))


def test_a_worker_takes_part_only_with_the_clients_version_network_and_folder(terms, tmp_path):
    assert asked(terms) is None
    assert asked(dataclasses.replace(terms, version="0.0.9")) == (
        f"Expected kpn_tf 0.0.9, as the client has. Received: {__version__}; install the same everywhere"
    )
    other = asked(dataclasses.replace(terms, file_sha256="ab" * 32))
    assert other.startswith(f"Expected the client's weights {BOX}, file sha256 abababababab... Received: ")
    assert "shared file system" in asked(dataclasses.replace(terms, staging=tmp_path / "elsewhere"))
    assert "Expected the name of shipped weights" in asked(dataclasses.replace(terms, weights="none"))
    assert "Received: one of 8 threads; start them with --nthreads 1" in asked(terms, threads=8)


def test_a_worker_loads_the_network_of_a_run_once(terms):
    assert worker._denoiser(terms, 1) is worker._denoiser(dataclasses.replace(terms), 1)


def test_a_worker_that_refuses_ends_the_run_in_one_sentence(tmp_path, box, cluster, monkeypatch):
    write_archive(tmp_path / "in", series=1, slices=1)
    monkeypatch.setattr(archive, "Terms", lambda *terms: worker.Terms(*terms, version="0.0.9"))
    report = denoise_archive(tmp_path / "in", tmp_path / "out", box, cluster.scheduler_address)
    assert not report.ok
    assert report.stopped.startswith("worker tcp://127.0.0.1:")
    assert f"Expected kpn_tf 0.0.9, as the client has. Received: {__version__}" in report.stopped
    assert derived(tmp_path / "out") == {}


def test_an_error_that_nobody_foresaw_reaches_dask_without_its_text(terms, tmp_path, box, monkeypatch):
    write_archive(tmp_path / "in", series=1, slices=1)
    (series,), _ = find_series(tmp_path / "in")
    order = worker.Order(terms, (Task((series,), *Denoising(box).derived_by((series,))),))
    monkeypatch.setattr(
        worker, "get_worker", lambda: types.SimpleNamespace(state=types.SimpleNamespace(nthreads=1))
    )
    monkeypatch.setattr(writer, "derive_slice", lambda *words: {}["Secret^Person"])
    with pytest.raises(worker.UnforeseenError, match=r"^KeyError$") as told:
        worker.denoise_series(order)
    assert told.value.__suppress_context__


def test_an_order_shows_dask_nothing_of_the_patient(terms, tmp_path):
    write_archive(tmp_path / "Secret Person", series=1, slices=1)
    (series,), _ = find_series(tmp_path / "Secret Person")
    order = worker.Order(terms, (Task((series,), None),))
    assert repr(order) == f"Order(series ...{series.uid[-12:]})"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KilledWorker("key", None, 3), "ended the process of every worker that took it"),
        (worker.UnforeseenError("ZeroDivisionError"), "ZeroDivisionError in every worker that took it"),
    ],
)
def test_a_series_that_fails_everywhere_is_named_and_the_rest_goes_on(tmp_path, box, error, reason):
    write_archive(tmp_path / "in", series=1, slices=2)
    (series,), _ = find_series(tmp_path / "in")
    task = Task((series,), *Denoising(box).derived_by((series,)))

    def result():
        raise error

    report = archive._result(types.SimpleNamespace(result=result), (task,))
    assert report.series == (series_report(task, "failed", reason=reason),)


def test_a_lost_scheduler_ends_the_run(box):
    def result():
        raise CancelledError

    with pytest.raises(worker.WorkerError, match="the scheduler was lost; the same call goes on"):
        archive._result(types.SimpleNamespace(result=result), None)


def test_workers_of_this_machine_are_ended_in_the_middle_of_a_series_when_the_run_is(monkeypatch):
    pids, close = [], LocalCluster.close

    def closed(cluster, *words, **more):
        # Nobody tells them to close before: a worker that is told finishes what it is doing.
        until(lambda: not any(map(psutil.pid_exists, pids)), seconds=60.0)
        close(cluster, *words, **more)

    def interrupted():
        with scheduler.connected("local", physical_cores()) as client:
            pids.extend(client.run(os.getpid).values())
            sleeping = client.submit(time.sleep, 3600)
            until(lambda: any(client.processing().values()))
            monkeypatch.setattr(LocalCluster, "close", closed)
            raise KeyboardInterrupt(sleeping)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 1


@contextlib.contextmanager
def running(tmp_path, sign):
    """`kpn denoise --cluster local` in a process of its own, which has written what matches a pattern, or is over."""
    words = [
        "denoise",
        tmp_path / "in",
        tmp_path / "out",
        "--cluster",
        "local",
        "--weights",
        "edge",
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "kpn_tf.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until(lambda: any((tmp_path / "out").glob(sign)) or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_local_cluster_is_reached_from_this_machine_alone_and_an_interrupted_run_goes_on(tmp_path, edge):
    write_archive(tmp_path / "in", series=7, slices=16, rows=160, columns=152)
    batch.denoise(tmp_path / "in", tmp_path / "one", edge)
    with running(tmp_path, "2.25.*/*.dcm") as process:
        parent = psutil.Process(process.pid)
        family = {one.pid for one in (parent, *parent.children(recursive=True))}
        listening = [
            one.laddr.ip
            for one in psutil.net_connections()
            if one.pid in family and one.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3
        assert set(listening) == {"127.0.0.1"}
        line = process.stderr.readline()
        dashboard = line.split()[-1]
        with urllib.request.urlopen(dashboard) as page:
            assert page.status == 200
        # As from a terminal: to the client, the workers and whoever watches them.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130
        assert out == ""
        assert err.splitlines() == [
            "kpn denoise: interrupted: the series that are published stay; the same call goes on with the rest",
            "kpn: interrupted",
        ]
    done = changed(tmp_path / "out")
    assert 0 < len(done) < 112
    assert len(done) % 16 == 0
    assert list((tmp_path / "out").glob(".kpn-partial-*")) == []
    with running(tmp_path, ".kpn-partial-*/*/*/*.dcm") as process:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert psutil.wait_procs(family, timeout=300)[1] == []
    with running(tmp_path, ".kpn-partial-*/*/*/*.dcm") as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert {series["outcome"] for series in json.loads(out)["series"]} == {"done", "written"}
    assert derived(tmp_path / "out") == contents(tmp_path / "one")
    assert done.items() < changed(tmp_path / "out").items()


def kpn(*words):
    with contextlib.suppress(SystemExit):
        return cli.main([str(word) for word in words])
    return 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cluster", "http://a:1"], "expected local or tcp://HOST:PORT, received http://a:1"),
        (["--cluster", "tcp://a"], "expected local or tcp://HOST:PORT, received tcp://a"),
        (["--cluster", "tcp://a:x"], "--cluster: "),
        (
            ["--cluster", "local", "--device", "gpu"],
            "Expected --device cpu with --cluster. Received: --device gpu",
        ),
    ],
)
def test_a_wrong_call_is_told_in_one_sentence(tmp_path, capsys, words, sentence):
    assert kpn("denoise", tmp_path, tmp_path / "out", *words) == 2
    assert sentence in capsys.readouterr().err


def test_without_the_extra_the_option_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "cluster", ("distributed_that_is_not_there",))
    assert kpn("denoise", tmp_path, tmp_path / "out", "--cluster", "local") == 2
    sentence = "kpn denoise --cluster needs the cluster extra: in a checkout, pip install '.[cluster]'"
    assert capsys.readouterr().err.strip() == sentence
