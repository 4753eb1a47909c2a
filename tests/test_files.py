"""Files appear atomically."""

import stat

import pytest

from kpn_tf.files import creating, move, remove_parts, replacing, write_text


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.md"
    write_text(path, "older")
    with replacing(path) as part:
        part.write_text("newer", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "older"
    assert path.read_text(encoding="utf-8") == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_what_ends_the_writing_leaves_nothing_behind(tmp_path):
    path = tmp_path / "table.md"

    def interrupted():
        with replacing(path) as part:
            part.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("private", [True, False])
def test_what_holds_patient_data_is_its_owners_alone_at_all_times(tmp_path, private):
    path = tmp_path / "report.html"
    with replacing(path, private=private) as part:
        for_others = stat.S_IMODE(part.stat().st_mode) & 0o077
        assert (for_others == 0) == private
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == for_others


def test_a_folder_that_is_not_there_is_an_error_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "nowhere" / "table.md"):
        pytest.fail("there is nothing to write to")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_by_now_is_left_as_it_is(tmp_path):
    path = tmp_path / "slice.dcm"

    def written_late():
        with creating(path) as part:
            part.write_text("mine", encoding="utf-8")
            path.write_text("another's", encoding="utf-8")

    with pytest.raises(FileExistsError):
        written_late()
    assert path.read_text(encoding="utf-8") == "another's"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_hidden_and_can_be_removed(tmp_path):
    path = tmp_path / "last.npz"
    write_text(path, "older")
    with replacing(path, suffix=".keras") as part:
        assert part.name.startswith(".")
        assert part.suffix == ".keras"
        killed = tmp_path / f"{part.name}x"
        killed.touch()
    remove_parts(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_content_is_not_replaced(tmp_path):
    for name in ("series", "taken"):
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / "slice.dcm", name)
    with pytest.raises(OSError, match="not empty"):
        move(tmp_path / "series", tmp_path / "taken")
    assert (tmp_path / "taken" / "slice.dcm").read_text(encoding="utf-8") == "taken"
    move(tmp_path / "series", tmp_path / "named")
    assert (tmp_path / "named" / "slice.dcm").read_text(encoding="utf-8") == "series"
