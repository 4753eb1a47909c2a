import os
import subprocess
import sys

import pytest

from kpn_tf import locks
from kpn_tf.locks import HeldError, hold

HOLD = """
import sys
from kpn_tf.locks import hold
lock = hold(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_holder(tmp_path):
    """A process that holds `tmp_path / "lock"`."""
    call = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == b"held"
        yield process
        process.kill()


def test_what_another_process_holds_is_refused_until_that_process_is_killed(tmp_path, other_holder):
    with pytest.raises(HeldError, match=r"another process holds .*lock"):
        hold(tmp_path / "lock")
    other_holder.kill()
    other_holder.wait()
    with hold(tmp_path / "lock") as lock:
        assert lock.exclusive


def test_what_this_process_holds_it_cannot_take_again_before_it_lets_go(tmp_path):
    lock = hold(tmp_path / "lock")
    with pytest.raises(HeldError):
        hold(tmp_path / "lock", patience_s=0.1)
    lock.release()
    lock.release()
    hold(tmp_path / "lock").release()


def test_a_file_is_made_only_where_that_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError):
        hold(tmp_path / "lock", create=False)
    assert not (tmp_path / "lock").exists()
    with pytest.raises(FileNotFoundError):
        hold(tmp_path / "missing" / "lock")


def test_a_file_that_its_holder_removes_meanwhile_is_not_taken_for_the_new_one(tmp_path, monkeypatch):
    opened, native = [], locks.lock_descriptor
    first = hold(tmp_path / "lock")

    def lock_descriptor(handle, blocking):
        opened.append(handle)
        if len(opened) == 1:
            # Between opening it and locking it.
            first.remove()
        return native(handle, blocking=blocking)

    monkeypatch.setattr(locks, "lock_descriptor", lock_descriptor)
    with hold(tmp_path / "lock"), pytest.raises(HeldError):
        hold(tmp_path / "lock")
    assert len(opened) == 3


def test_a_removed_file_is_gone(tmp_path):
    hold(tmp_path / "lock").remove()
    assert list(tmp_path.iterdir()) == []


def test_on_a_file_system_without_locks_nobody_is_kept_out_and_it_is_told(tmp_path, monkeypatch):
    def no_locks(handle, blocking):
        raise OSError("no locks available")

    monkeypatch.setattr(locks, "lock_descriptor", no_locks)
    with hold(tmp_path / "lock") as one, hold(tmp_path / "lock") as other:
        assert not one.exclusive
        assert not other.exclusive


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="symbolic links need a privilege on Windows")
def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("not to be touched")
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(OSError, match="lock"):
        hold(tmp_path / "lock")
