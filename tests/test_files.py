"""Files appear atomically."""

import stat

import pytest

from kpn_tf.files import replacing, write_text


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
