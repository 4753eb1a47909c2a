"""What a run has not finished is hidden, private and removed: by the run, or by the next if it was killed."""

import os
import stat
import subprocess
import sys

import pytest

from kpn_tf.batch.staging import GuestStaging, OutputError, Staging, sweep

HOLD = """
import sys, time
from kpn_tf.batch.staging import Staging
with Staging(sys.argv[1]) as staging:
    (staging.open_series("1.2.3") / "slice.dcm").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is in the middle of writing a series into `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_an_unfinished_series_is_hidden_and_private(tmp_path):
    with Staging(tmp_path) as staging:
        folder = staging.open_series("1.2.3")
        hidden = folder.parent
        assert hidden.parent == tmp_path
        assert hidden.name.startswith(".")
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_finished_series_appears_whole_and_nothing_else_stays(tmp_path):
    with Staging(tmp_path / "new" / "output") as staging:
        (staging.open_series("1.2.3") / "slice.dcm").write_bytes(b"whole")
        assert staging.publish_series("1.2.3") == tmp_path / "new" / "output" / "1.2.3"
    assert [path.name for path in (tmp_path / "new" / "output").rglob("*")] == ["1.2.3", "slice.dcm"]


def test_an_unfinished_series_is_gone_after_an_error(tmp_path):
    def interrupted():
        with Staging(tmp_path) as staging:
            (staging.open_series("1.2.3") / "slice.dcm").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", [True, False], ids=["full", "empty"])
def test_a_series_that_is_there_already_is_never_replaced(tmp_path, full):
    with Staging(tmp_path) as staging:
        (staging.open_series("1.2.3") / "slice.dcm").write_bytes(b"new")
        (tmp_path / "1.2.3").mkdir()
        if full:
            (tmp_path / "1.2.3" / "slice.dcm").write_bytes(b"old")
        assert staging.publish_series("1.2.3") is None
    assert [path.read_bytes() for path in (tmp_path / "1.2.3").iterdir()] == [b"old"] * full


def test_a_living_run_keeps_its_folder(tmp_path, holder):
    sweep(tmp_path)
    assert len(list(tmp_path.glob(".*/1.2.3/slice.dcm"))) == 1


def test_a_killed_run_leaves_nothing_after_the_next_sweep(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_before_its_lock_is_swept_and_its_owner_makes_another(tmp_path):
    (tmp_path / ".kpn-partial-0123").mkdir()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_everything_else_alone(tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".kpn-partial-of-a-user").mkdir()
    (tmp_path / ".kpn-partial-of-a-user" / "notes").write_text("no lock, not empty")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".kpn-partial-of-a-user"]


def test_a_sweep_of_a_folder_that_is_not_there_does_nothing(tmp_path):
    sweep(tmp_path / "absent")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"^cannot write to .*: Permission denied$"), Staging(tmp_path):
        pass


def test_the_reason_is_the_systems_own_words_however_deep_they_are_wrapped():
    wrapped = ValueError("With tag got exception")
    wrapped.__cause__ = OSError("many\nlines")
    wrapped.__cause__.__context__ = OSError(28, "No space left on device")
    assert str(OutputError("out", wrapped)) == "cannot write to out: No space left on device"


def test_an_output_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"^cannot write to .*: Not a directory$"),
        Staging(tmp_path / "file" / "output"),
    ):
        pass


def finished_series(staging, **slices):
    folder = staging.open_series("1.2.3")
    for name, text in slices.items():
        (folder / name).write_text(text)


def test_of_two_guests_with_the_same_series_one_publishes_it_and_the_other_does_no_harm(tmp_path):
    with (
        Staging(tmp_path) as host,
        GuestStaging(tmp_path, host.folder) as first,
        GuestStaging(tmp_path, host.folder) as second,
    ):
        for guest in (first, second):
            finished_series(guest, a="whole", b="whole")
        assert first.publish_series("1.2.3") == tmp_path / "1.2.3"
        before = {path: path.stat().st_ino for path in (tmp_path / "1.2.3").iterdir()}
        assert second.publish_series("1.2.3") == tmp_path / "1.2.3"
        assert {path: path.stat().st_ino for path in (tmp_path / "1.2.3").iterdir()} == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1.2.3", "a", "b"]


def test_what_a_published_series_lacks_joins_it_and_nothing_is_replaced(tmp_path):
    (tmp_path / "1.2.3").mkdir()
    (tmp_path / "1.2.3" / "a").write_text("first")
    with Staging(tmp_path) as host, GuestStaging(tmp_path, host.folder) as guest:
        finished_series(guest, a="second", b="second")
        guest.publish_series("1.2.3")
    assert {path.name: path.read_text() for path in (tmp_path / "1.2.3").iterdir()} == {
        "a": "first",
        "b": "second",
    }


def test_a_guest_whose_host_is_gone_publishes_nothing(tmp_path):
    with Staging(tmp_path) as host:
        guest = GuestStaging(tmp_path, host.folder)
        guest.__enter__()
        finished_series(guest, a="whole")
    with pytest.raises(OutputError, match=r"cannot write to .*: No such file or directory"):
        guest.publish_series("1.2.3")
    with pytest.raises(OutputError, match=r"cannot write to .*: No such file or directory"):
        GuestStaging(tmp_path, host.folder).__enter__()
    assert list(tmp_path.iterdir()) == []
