"""The Imaging Data Commons: the index is read offline, and a series on disk is whole or not there."""

import os
import signal
import subprocess
import sys

import pytest

from kpn_tf.datasets import download as downloading
from kpn_tf.datasets import idc
from kpn_tf.datasets.download import DownloadError, download, present_size, series_folder
from kpn_tf.datasets.idc import FULL_DOSE, LOW_DOSE, collection
from kpn_tf.locks import hold
from tests.bucket import Bucket, serve
from tests.standin_index import two_patients, write_index


@pytest.fixture
def bucket(tmp_path_factory, monkeypatch):
    """A bucket with two patients, which index and downloads mean from now on."""
    paths, objects = write_index(tmp_path_factory.mktemp("index"), two_patients())
    monkeypatch.setattr(idc, "_index_files", lambda: paths)
    monkeypatch.setattr(downloading, "_WAITS_S", (0, 0, 0))
    bucket = Bucket(objects)
    with serve(bucket) as url:
        monkeypatch.setattr(downloading, "BUCKET_URL", url)
        yield bucket


@pytest.fixture
def series(bucket):
    """The first patient's full dose."""
    return collection().series[0]


def fetch(series, output):
    """Downloads and returns the sizes that progress was told of."""
    sizes = []
    folder = download(series, output, progress=sizes.append)
    assert folder == output / series.patient / series.description.replace(" ", "_")
    return sizes


def keys(bucket, series):
    return sorted(key for key in bucket.objects if key.startswith(series.prefix))


def test_the_installed_index_has_a_hundred_patients_with_both_doses_and_says_how_to_cite_them():
    # idc-index-data 25.0.5, queried with SQL by hand on 2026-11-22.
    known = collection()
    assert known.version >= 25
    assert len(known.patients) >= 100
    assert {"C002", "L004", "L299"} <= set(known.patients)
    assert known.licence == "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    assert known.citation.startswith("McCollough, C., Chen, B., Holmes III, D. R., Duan, X., Yu, Z., ")
    assert known.citation.endswith("The Cancer Imaging Archive. https://doi.org/10.7937/9NPB-2637")
    (full, low) = (one for one in known.series if one.patient == "L004")
    assert (full.description, low.description) == (FULL_DOSE, LOW_DOSE)
    assert full.body_part == low.body_part == "ABDOMEN"
    # 512 x 512 pixels of 16 bits, and a header.
    assert full.files == low.files
    assert 2 * 512**2 < full.size / full.files < 2 * 512**2 + 20_000
    assert full.bucket == "idc-open-data"


def test_the_index_is_read_without_a_network_and_downloads_nothing_by_itself(tmp_path):
    code = (
        "import sys\n"
        "asked = []\n"
        "network = ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen')\n"
        "sys.addaudithook(lambda event, words: asked.append((event, words)) if event in network else None)\n"
        "from kpn_tf.datasets.idc import collection\n"
        "print(len(collection().patients) >= 100, asked, {'pandas', 'pyarrow', 'tensorflow'} & set(sys.modules))"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "True [] set()\n"), run.stderr
    # DuckDB keeps what it downloads at home.
    assert list(tmp_path.iterdir()) == []


def test_patients_without_a_low_dose_are_counted_and_left_out(tmp_path, monkeypatch):
    contents = two_patients(("C002", "L004", "C003"))
    del contents["C003", LOW_DOSE]
    paths, _ = write_index(tmp_path, contents)
    monkeypatch.setattr(idc, "_index_files", lambda: paths)
    known = collection()
    assert known.patients == ("C002", "L004")
    assert [one.description for one in known.series] == [FULL_DOSE, LOW_DOSE] * 2
    assert known.full_dose_only == 1
    assert known.citation == "Somebody, S. (2020). Standing in for CT."


def test_an_index_without_the_collection_is_refused(tmp_path, monkeypatch):
    paths, _ = write_index(tmp_path, {})
    monkeypatch.setattr(idc, "_index_files", lambda: paths)
    with pytest.raises(
        ValueError, match=r"Expected the collection .* Received: version 25 without it; install"
    ):
        collection()


def test_a_downloaded_series_holds_the_bytes_of_the_bucket_and_tells_of_all_of_them(bucket, series, tmp_path):
    sizes = fetch(series, tmp_path)
    assert sum(sizes) == series.size
    folder = tmp_path / "L001" / "Full_Dose_Images"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        key.removeprefix(series.prefix): bucket.objects[key] for key in keys(bucket, series)
    }
    assert [path.name for path in folder.parent.iterdir()] == ["Full_Dose_Images"]
    # Three files in pages of two.
    assert bucket.requests.count("list") == 2


def test_a_finished_series_is_not_asked_for_again(bucket, series, tmp_path):
    fetch(series, tmp_path)
    bucket.requests.clear()
    assert fetch(series, tmp_path) == []
    assert bucket.requests == []


def test_what_a_system_leaves_in_folders_is_no_slice(bucket, series, tmp_path):
    fetch(series, tmp_path)
    (series_folder(series, tmp_path) / ".DS_Store").write_bytes(b"desktop")
    bucket.requests.clear()
    assert fetch(series, tmp_path) == []
    assert bucket.requests == []


def test_what_a_broken_download_left_is_used_and_only_the_rest_is_fetched(bucket, series, tmp_path):
    _, broken, last = keys(bucket, series)
    bucket.failures[broken] = [404]
    with pytest.raises(DownloadError, match=r"Received: HTTP status 404; call again to go on"):
        fetch(series, tmp_path)
    assert not (tmp_path / "L001" / "Full_Dose_Images").exists()
    # The pool may have been stopped before the last began.
    (tmp_path / "L001" / "Full_Dose_Images.part" / last[-8:]).write_bytes(bucket.objects[last])
    assert present_size(series, tmp_path) == series.size - len(bucket.objects[broken])
    bucket.requests.clear()
    assert fetch(series, tmp_path) == [len(bucket.objects[broken])]
    assert [key for key in bucket.requests if key != "list"] == [broken]


@pytest.mark.parametrize("damage", [lambda content: content[:-5], lambda content: content[:-1] + b"?"])
def test_a_slice_that_was_left_damaged_is_fetched_again(bucket, series, tmp_path, damage):
    key = keys(bucket, series)[1]
    part = tmp_path / "L001" / "Full_Dose_Images.part"
    part.mkdir(parents=True)
    (part / key[-8:]).write_bytes(damage(bucket.objects[key]))
    fetch(series, tmp_path)
    assert (tmp_path / "L001" / "Full_Dose_Images" / key[-8:]).read_bytes() == bucket.objects[key]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_is_busy_is_asked_again(bucket, series, tmp_path, status):
    key = keys(bucket, series)[0]
    bucket.failures[key] = [status, status]
    fetch(series, tmp_path)
    assert bucket.requests.count(key) == 3


def test_a_server_that_stays_busy_is_given_up_with_its_status(bucket, series, tmp_path):
    key = keys(bucket, series)[0]
    bucket.failures[key] = [503] * 9
    with pytest.raises(
        DownloadError, match=rf"Expected an answer from http.*{key}. Received: HTTP status 503"
    ):
        fetch(series, tmp_path)
    assert bucket.requests.count(key) == 4


def test_an_answer_that_breaks_off_is_never_a_slice(bucket, series, tmp_path):
    key = keys(bucket, series)[2]
    bucket.cut.add(key)
    with pytest.raises(DownloadError, match=rf"{key}. Received: .*"):
        fetch(series, tmp_path)
    assert not (tmp_path / "L001" / "Full_Dose_Images.part" / key[-8:]).exists()
    bucket.cut.clear()
    fetch(series, tmp_path)


def test_an_answer_of_other_content_is_never_a_slice(bucket, series, tmp_path):
    key = keys(bucket, series)[2]
    bucket.served[key] = bucket.objects[key][::-1]
    with pytest.raises(
        DownloadError, match=r"Received: \d+ bytes with another checksum than the bucket states"
    ):
        fetch(series, tmp_path)
    assert not list(tmp_path.rglob(key[-8:]))


def test_a_file_that_was_uploaded_in_parts_has_no_checksum_and_its_size_must_do(bucket, series, tmp_path):
    key = keys(bucket, series)[0]
    bucket.tags[key] = "9b2cf535f27731c974343645a3985328-2"
    bucket.served[key] = bucket.objects[key][::-1]
    fetch(series, tmp_path)
    assert (tmp_path / "L001" / "Full_Dose_Images" / key[-8:]).read_bytes() == bucket.served[key]


def test_a_bucket_that_holds_less_than_the_index_says_is_refused(bucket, series, tmp_path):
    del bucket.objects[keys(bucket, series)[0]]
    with pytest.raises(
        DownloadError, match=r"Expected 3 files with \d+ bytes in the bucket.* Received: 2 with \d+; install"
    ):
        fetch(series, tmp_path)
    assert not (tmp_path / "L001" / "Full_Dose_Images").exists()


@pytest.mark.parametrize(
    "text",
    ["<html>sign in to this network", "<a/>", "<a><Contents><Key>x</Key><Size>much</Size></Contents></a>"],
)
def test_what_is_no_list_is_refused(bucket, series, tmp_path, text):
    bucket.list_text = text
    with pytest.raises(DownloadError, match=r"Expected (the list of a bucket|3 files with)"):
        fetch(series, tmp_path)


@pytest.mark.parametrize("name", ["../escaped.dcm", "..", "a/b.dcm", "", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(bucket, series, tmp_path, name):
    bucket.objects[f"{series.prefix}{name}"] = b"x"
    with pytest.raises(DownloadError, match="Expected the list of a bucket"):
        fetch(series, tmp_path / "output")
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_folder_that_is_not_the_whole_series_is_left_as_it_is(bucket, series, tmp_path):
    folder = tmp_path / "L001" / "Full_Dose_Images"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(
        DownloadError,
        match=r"Expected 3 files with \d+ bytes in .* Received: 1 with 4; nothing is overwritten",
    ):
        fetch(series, tmp_path)
    assert (folder / "mine.txt").read_text() == "mine"
    assert bucket.requests == []


def test_a_file_of_ones_own_among_the_slices_is_kept_and_the_series_not_finished(bucket, series, tmp_path):
    part = tmp_path / "L001" / "Full_Dose_Images.part"
    part.mkdir(parents=True)
    (part / "mine.txt").write_text("mine")
    with pytest.raises(DownloadError, match=r"Expected only the 3 files of the series.* Received: 1 others"):
        fetch(series, tmp_path)
    assert (part / "mine.txt").read_text() == "mine"


def test_two_downloads_of_one_series_do_not_meet(bucket, series, tmp_path):
    (tmp_path / "L001").mkdir()
    other = hold(tmp_path / "L001" / ".Full_Dose_Images.lock")
    with pytest.raises(DownloadError, match=r"another download of .* is under way; wait for it"):
        fetch(series, tmp_path)
    other.release()
    fetch(series, tmp_path)
    # Nor does the lock stay behind.
    assert [path.name for path in (tmp_path / "L001").iterdir()] == ["Full_Dose_Images"]


def test_a_folder_that_cannot_be_written_is_named(bucket, series, tmp_path):
    (tmp_path / "L001").write_text("no folder")
    with pytest.raises(DownloadError, match=r"L001/Full_Dose_Images cannot be written \("):
        fetch(series, tmp_path)


def test_no_server_at_all_is_one_sentence(bucket, series, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "BUCKET_URL", "http://127.0.0.1:9/{bucket}")
    with pytest.raises(DownloadError, match=r"Expected an answer from .*refused.*; call again to go on"):
        fetch(series, tmp_path)


KILLED = """
import os, pathlib, sys, time
from kpn_tf.datasets import download as downloading
from kpn_tf.datasets.idc import RemoteSeries
downloading.BUCKET_URL, downloading._CONNECTIONS = sys.argv[1], 1
get, count = downloading._get, 0
def slow(url, file=None, stopped=None):
    global count
    count += file is not None
    if count == 3:
        print('two are there', flush=True)
        time.sleep(60)
    return get(url, file, stopped)
downloading._get = slow
downloading.download(eval(sys.argv[2]), pathlib.Path(sys.argv[3]), progress=lambda size: None)
"""


def test_a_killed_download_leaves_no_series_and_goes_on_where_it_was(bucket, series, tmp_path):
    command = [sys.executable, "-c", KILLED, downloading.BUCKET_URL, repr(series), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "two are there\n"
        process.send_signal(signal.SIGKILL)
    left = {".Full_Dose_Images.lock", "Full_Dose_Images.part"}
    assert {path.name for path in (tmp_path / "L001").iterdir()} == left
    bucket.requests.clear()
    assert fetch(series, tmp_path) == [len(bucket.objects[keys(bucket, series)[2]])]
    assert len(list((tmp_path / "L001" / "Full_Dose_Images").iterdir())) == 3
    assert [path.name for path in (tmp_path / "L001").iterdir()] == ["Full_Dose_Images"]
