"""The memory of a node: a step is taken once however often it is begun, and what was acknowledged is never lost."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_tf.node.journal import arrivals, deliveries, steps
from kpn_tf.node.journal.journal import Journal, JournalError, Object
from kpn_tf.node.journal.retention import forget_series
from kpn_tf.node.listener.arrival import Arrival
from kpn_tf.node.listener.receiver import Receiver
from kpn_tf.node.rule import Rule, Traits
from kpn_tf.node.settings import Own, Settings
from kpn_tf.node.spool import Spool, SpoolError
from tests.ct_series import write_ct_series

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
RULE = Rule("all", ("a", "b"), originals=True)


def arrival(number, series="1.2", peer="CT1", **fields):
    values = {
        "sop_uid": f"{series}.{number}",
        "sop_class": CT,
        "syntax": EXPLICIT,
        "series_key": series,
        "traits": Traits(peer, "CT", "Thorax", "B30f", 1.0),
        "processed": False,
        "places": (("z", float(number)),),
        "expected": 0,
    }
    return Arrival(**{**values, **fields})


class Shelf:
    """In place of a spool: takes what it is given, unless it is full, and remembers."""

    def __init__(self, full=False):
        self.full, self.files = full, []

    def take(self, path, series, sop_uid):
        if self.full:
            raise OSError("full")
        self.files.append(f"{series}/{sop_uid}")
        return self.files[-1]

    def drop(self, file):
        self.files.remove(file)


def receive(journal, one, digest="d", now=0.0, shelf=None):
    return arrivals.receive(journal, shelf or Shelf(), "path", one, digest, 100, now)


def states(journal):
    return [row["state"] for row in journal.all("SELECT state FROM series ORDER BY id")]


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def test_slices_of_one_series_and_sender_come_together_until_it_is_closed(journal):
    assert receive(journal, arrival(1)) == receive(journal, arrival(2)) == 1
    assert receive(journal, arrival(3, peer="CT2")) == 2
    steps.complete(journal, 1, RULE, "", 5.0)
    assert receive(journal, arrival(4)) == 3
    assert states(journal) == ["complete", "received", "received"]


def test_the_same_slice_is_entered_once_and_another_of_its_uid_never(journal):
    shelf = Shelf()
    for _ in range(3):
        receive(journal, arrival(1), shelf=shelf)
    with pytest.raises(arrivals.OtherContentError):
        receive(journal, arrival(1), "e", shelf=shelf)
    assert shelf.files == ["1/1.2.1"]


def test_the_same_slice_from_two_senders_is_one_of_each_and_goes_out_for_both(journal):
    shelf = Shelf()
    for peer, content in (("CT1", "d"), ("CT2", "e"), ("CT2", "e")):
        receive(journal, arrival(1, peer=peer), content, shelf=shelf)
    assert shelf.files == ["1/1.2.1", "2/1.2.1"]
    with pytest.raises(arrivals.OtherContentError):
        receive(journal, arrival(1, peer="CT2"), "d", shelf=shelf)
    for series in (1, 2):
        steps.complete(journal, series, RULE, "", 5.0)
        steps.denoised(journal, series, [Object("9.1", CT, EXPLICIT, f"{series}/9.1")], "", 1.0, 6.0)
    rows = journal.all("SELECT series, destination, sop_uid FROM delivery ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (series, destination, sop_uid)
        for series in (1, 2)
        for sop_uid in ("1.2.1", "9.1")
        for destination in ("a", "b")
    ]


def test_the_same_slice_of_two_series_is_one_of_each(journal):
    assert receive(journal, arrival(1, sop_uid="1.9")) == 1
    assert receive(journal, arrival(1, series="1.3", sop_uid="1.9"), "e") == 2
    assert receive(journal, arrival(1, series="1.3", sop_uid="1.9"), "e") is None


def test_a_dead_letter_of_one_sender_is_not_taken_back_by_another(journal):
    rule = Rule("x", ("a",), originals=True, weights="")
    for series, peer in ((1, "CT1"), (2, "CT2")):
        receive(journal, arrival(1, peer=peer))
        assert steps.complete(journal, series, rule, "", 1.0) == []
        (row,) = deliveries.due(journal, "a", 2.0, 900.0, 5)
        deliveries.keep_dead_letter(journal, row["id"], f"dead/{peer}", "refused", 2.0)
    assert deliveries.dead_letters(journal, 1) == deliveries.dead_letters(journal, 2) == 1


def test_a_file_that_could_not_be_taken_leaves_no_entry(journal):
    with pytest.raises(OSError, match="full"):
        receive(journal, arrival(1), shelf=Shelf(full=True))
    assert states(journal) == []


def test_an_entry_that_could_not_be_made_leaves_no_file_among_what_was_taken(journal):
    shelf = Shelf()
    with pytest.raises(OverflowError):
        receive(journal, arrival(1, expected=10**30), shelf=shelf)
    assert shelf.files == []
    assert states(journal) == []
    assert receive(journal, arrival(2), shelf=shelf) == 1


def test_a_series_is_complete_after_the_quiet_time_or_when_the_announced_number_is_there(journal):
    receive(journal, arrival(1), now=100.0)
    receive(journal, arrival(2), now=130.0)
    assert arrivals.finished(journal, 60.0, 189.0) == []
    assert arrivals.finished(journal, 60.0, 190.0) == [1]
    receive(journal, arrival(1, series="1.3", expected=2), now=300.0)
    assert arrivals.finished(journal, 60.0, 301.0) == [1]
    receive(journal, arrival(2, series="1.3", expected=2), now=300.0)
    assert arrivals.finished(journal, 60.0, 301.0) == [1, 2]
    steps.complete(journal, 2, RULE, "", 302.0)
    receive(journal, arrival(3, series="1.3", expected=3), now=303.0)
    # Three are announced now, and with those of the part before there are three.
    assert arrivals.finished(journal, 60.0, 304.0) == [1, 3]


def test_a_series_of_many_slices_or_bytes_is_full_while_it_grows(journal):
    receive(journal, arrival(1, places=tuple(("z", float(mm)) for mm in range(3))), now=100.0)
    receive(journal, arrival(1, series="1.3"), now=100.0)
    receive(journal, arrival(2, series="1.3"), now=100.0)  # of 100 bytes each
    assert arrivals.full(journal, 4, 1000, 101.0) == []
    assert arrivals.full(journal, 3, 1000, 101.0) == [1]
    assert arrivals.full(journal, 4, 200, 101.0) == [2]
    # Of what nothing comes any more the quiet time decides.
    assert arrivals.full(journal, 3, 200, 1000.0) == []
    steps.complete(journal, 1, RULE, "", 102.0)
    assert arrivals.full(journal, 3, 1000, 102.0) == []
    assert receive(journal, arrival(2), now=103.0) == 3


def test_gaps_are_looked_for_in_all_parts_of_a_series_together(journal):
    for number in (1, 2, 4, 5):
        receive(journal, arrival(number))
    first = journal.one("SELECT * FROM series")
    assert arrivals.missing_mm(journal, first) == [3.0]
    receive(journal, arrival(3, peer="CT2"))
    assert arrivals.missing_mm(journal, first) == [3.0]
    steps.complete(journal, 1, RULE, "", 5.0)
    assert receive(journal, arrival(3)) == 3
    assert arrivals.missing_mm(journal, journal.one("SELECT * FROM series WHERE id = 3")) == []


def test_senders_take_turns_and_each_of_them_begins_with_his_oldest(journal):
    for peer, count in (("CT1", 4), ("CT2", 2), ("CT3", 1)):
        for number in range(count):
            series = receive(journal, arrival(1, series=f"1.{peer[2]}{number}", peer=peer))
            steps.complete(journal, series, RULE, "", 5.0)
    # A series that ended its process comes after the others of its sender, not after those of all.
    steps.attempt(journal, 1)
    served, order = {}, []
    while row := steps.next_complete(journal, 10.0, 900.0, served):
        order.append((row["peer"], row["id"]))
        served[row["peer"]] = len(order)
        steps.denoised(journal, row["id"], [], "", 1.0, 10.0)
    turns = [("CT1", 2), ("CT2", 5), ("CT3", 7), ("CT1", 3), ("CT2", 6), ("CT1", 4), ("CT1", 1)]
    assert order == turns


def test_steps_taken_twice_change_nothing(journal):
    receive(journal, arrival(1))
    derived = [Object("9.1", CT, EXPLICIT, "derived/9.1.dcm")]
    for _ in range(2):
        steps.complete(journal, 1, RULE, "note", 5.0)
    for _ in range(2):
        steps.denoised(journal, 1, derived, "note", 1.0, 6.0)
    rows = journal.all("SELECT destination, sop_uid FROM delivery ORDER BY id")
    assert [tuple(row) for row in rows] == [("a", "1.2.1"), ("b", "1.2.1"), ("a", "9.1"), ("b", "9.1")]
    assert steps.settle(journal, 7.0) == []
    for row in journal.all("SELECT id FROM delivery"):
        deliveries.sent(journal, row["id"], 8.0)
    assert len(steps.settle(journal, 9.0)) == 1
    assert steps.settle(journal, 9.0) == []
    assert states(journal) == ["sent"]


def test_a_dead_letter_settles_its_series_and_a_retry_opens_it_again(journal):
    receive(journal, arrival(1))
    steps.complete(journal, 1, Rule("x", ("a",), originals=True, weights=""), "", 5.0)
    steps.denoised(journal, 1, [], "", None, 6.0)
    (row,) = deliveries.due(journal, "a", 10.0, 900.0, 5)
    deliveries.keep_dead_letter(journal, row["id"], "dead/x", "refused", 11.0)
    assert deliveries.due(journal, "a", 10.0, 900.0, 5) == []
    assert steps.retry(journal, 12.0) == (0, 1)
    (row,) = deliveries.due(journal, "a", 13.0, 900.0, 5)
    assert (row["file"], row["refusals"]) == ("dead/x", 0)


def test_an_object_that_comes_again_after_it_became_a_dead_letter_is_queued_anew(journal, tmp_path):
    spool = Spool(tmp_path / "spool")
    rule = Rule("x", ("a",), originals=True, weights="")
    receive(journal, arrival(1))
    steps.complete(journal, 1, rule, "", 1.0)
    steps.denoised(journal, 1, [], "", None, 1.0)
    (row,) = deliveries.due(journal, "a", 2.0, 900.0, 5)
    deliveries.keep_dead_letter(journal, row["id"], "dead/x", "refused", 2.0)
    steps.settle(journal, 3.0)
    forget_series(spool, journal, 1, 4.0)
    assert receive(journal, arrival(1)) == 2
    assert steps.complete(journal, 2, rule, "", 5.0) == ["dead/x"]
    (row,) = deliveries.due(journal, "a", 6.0, 900.0, 5)
    assert (row["series"], row["file"], row["refusals"]) == (2, "2/1.2.1", 0)


def test_refusals_wait_and_outages_wait_longer_and_longer(journal):
    receive(journal, arrival(1))
    steps.complete(journal, 1, RULE, "", 5.0)
    (row,) = deliveries.due(journal, "a", 6.0, 900.0, 5)
    deliveries.refused(journal, row["id"], "no", 60.0)
    assert deliveries.due(journal, "a", 59.0, 900.0, 5) == []
    assert len(deliveries.due(journal, "a", 60.0, 900.0, 5)) == 1
    for now in (100.0, 200.0):
        deliveries.unreachable(journal, "b", "gone", lambda failures: 10.0 * failures, now)
    outage = deliveries.outage(journal, "b")
    assert (outage["since"], outage["failures"], outage["due"]) == (100.0, 2, 220.0)
    deliveries.reachable(journal, "b")
    assert deliveries.outage(journal, "b") is None


def test_what_is_forgotten_leaves_no_identifier_and_dead_letters_stay(journal, tmp_path):
    spool = Spool(tmp_path / "spool")
    receive(journal, arrival(1))
    steps.complete(journal, 1, RULE, "", 5.0)
    rows = deliveries.due(journal, "a", 6.0, 900.0, 5) + deliveries.due(journal, "b", 6.0, 900.0, 5)
    deliveries.sent(journal, rows[0]["id"], 7.0)
    deliveries.keep_dead_letter(journal, rows[1]["id"], "dead/x", "refused", 7.0)
    forget_series(spool, journal, 1, 8.0)
    assert states(journal) == ["complete"]
    steps.denoised(journal, 1, [], "", None, 8.0)
    steps.settle(journal, 8.0)
    for _ in range(2):
        forget_series(spool, journal, 1, 8.0)
    assert states(journal) == ["done"]
    assert journal.one("SELECT count(*) AS n FROM instance")["n"] == 0
    (row,) = journal.all("SELECT uid, description FROM series")
    assert (len(row["uid"]), row["description"]) == (12, "")
    assert [row["file"] for row in journal.all("SELECT file FROM delivery")] == ["dead/x"]
    assert receive(journal, arrival(1)) == 2


# What the journal may be told of one series, in any order and any number of times.
EVENTS = st.sampled_from(
    ["receive", "complete", "attempt", "denoised", "fail", "settle", "send", "retry", "forget"]
)
ORDER = ["received", "complete", "denoised", "sent", "done"]


@given(events=st.lists(EVENTS, max_size=25))
def test_no_order_of_events_takes_a_series_back_or_sends_a_delivery_twice(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("order")
    spool, journal, sent = Spool(folder / "spool"), Journal(folder / "journal.sqlite"), []
    receive(journal, arrival(0))
    for now, event in enumerate(events):
        before = states(journal)[0]
        if event == "receive":
            receive(journal, arrival(now + 1), now=float(now))
        elif event == "complete":
            steps.complete(journal, 1, RULE, "", now)
        elif event == "attempt":
            steps.attempt(journal, 1)
        elif event == "denoised":
            steps.denoised(journal, 1, [Object("9.1", CT, EXPLICIT, "x")], "", 1.0, now)
        elif event == "fail":
            steps.fail(journal, 1, "broken", now)
        elif event == "settle":
            steps.settle(journal, now)
        elif event == "retry":
            steps.retry(journal, now)
        elif event == "forget" and before in ("sent", "failed"):
            forget_series(spool, journal, 1, now)
        elif event == "send":
            for row in deliveries.due(journal, "a", now, 900.0, 1):
                sent.append(row["sop_uid"])
                deliveries.sent(journal, row["id"], now)
        after = states(journal)[0]
        if before in ORDER and after in ORDER:
            assert ORDER.index(after) >= ORDER.index(before)
            assert ORDER.index(after) - ORDER.index(before) <= 1
        else:
            assert (before, after) in {
                ("complete", "failed"), ("failed", "failed"), ("failed", "complete"), ("failed", "done"),
            }  # fmt: skip
    assert len(sent) == len(set(sent))
    journal.close()


def test_a_clock_that_was_set_back_holds_up_nothing(journal):
    receive(journal, arrival(1), now=10_000.0)
    assert arrivals.finished(journal, 60.0, 5_000.0) == []
    assert arrivals.finished(journal, 60.0, 5_060.0) == [1]
    steps.complete(journal, 1, RULE, "", 5_060.0)
    steps.again(journal, 1, 10_000.0)
    assert steps.next_complete(journal, 5_070.0, 900.0, {})["id"] == 1
    assert steps.next_complete(journal, 9_500.0, 900.0, {}) is None
    (row,) = deliveries.due(journal, "a", 5_070.0, 900.0, 5)
    deliveries.refused(journal, row["id"], "no", 10_000.0)
    assert len(deliveries.due(journal, "a", 5_070.0, 900.0, 5)) == 1
    assert deliveries.due(journal, "a", 9_500.0, 900.0, 5) == []


def test_a_transaction_that_fails_changes_nothing_and_the_next_one_works(journal):
    def fail():
        with journal.transaction():
            journal.change("INSERT INTO outage VALUES ('a', 0, 1, 0, '')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert deliveries.outage(journal, "a") is None
    receive(journal, arrival(1))


CRASH = """
import os, sys
sys.path[:0] = {path!r}
from tests.test_node_journal import Journal, arrival, receive
journal = Journal({journal!r})
number = 0
while True:
    receive(journal, arrival(number))
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path):
    script = CRASH.format(path=sys.path, journal=str(tmp_path / "journal.sqlite"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        for _ in range(50):
            line = process.stdout.readline()
        process.kill()
        acknowledged = [int(line), *map(int, process.stdout.read().split())]
    journal = Journal(tmp_path / "journal.sqlite")
    kept = {row["sop_uid"] for row in journal.all("SELECT sop_uid FROM instance")}
    assert {f"1.2.{number}" for number in range(acknowledged[-1] + 1)} <= kept
    assert journal.one("PRAGMA integrity_check")[0] == "ok"
    journal.close()


def test_journal_and_spool_are_readable_by_their_owner_alone(tmp_path):
    spool = Spool(tmp_path / "spool")
    journal = Journal(spool.journal)
    receive(journal, arrival(1))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()}
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert (
        modes.pop("journal.sqlite")
        == modes.pop("journal.sqlite-wal")
        == modes.pop("journal.sqlite-shm")
        == 0o600
    )
    assert set(modes.values()) == {0o700}
    journal.close()


def test_a_journal_of_a_later_version_or_that_is_none_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="Expected a journal of version 4"):
        Journal(path)
    (tmp_path / "other").write_bytes(b"no data base" * 1000)
    with pytest.raises(JournalError, match="Expected a journal that is whole"):
        Journal(tmp_path / "other")


def damaged(path):
    """Overwrites the third page of a journal and all behind it, as a fault of the disk may."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        file.seek(2 * 4096)
        file.write(b"\xff" * (size - 2 * 4096))


DAMAGE = "Expected a journal that is whole. Received: .*journal.sqlite, which is damaged .*docs/node.md"


def test_a_damaged_journal_is_refused_with_what_to_do(tmp_path):
    Journal(tmp_path / "journal.sqlite").close()
    damaged(tmp_path / "journal.sqlite")
    with pytest.raises(JournalError, match=DAMAGE):
        Journal(tmp_path / "journal.sqlite")


def test_damage_is_told_by_whoever_comes_upon_it(tmp_path):
    Journal(tmp_path / "journal.sqlite").close()
    damaged(tmp_path / "journal.sqlite")

    # A node that looks on checks nothing beforehand.
    def looks_on():
        journal = Journal(tmp_path / "journal.sqlite", read_only=True)
        for table in ("series", "instance", "place", "delivery", "outage", "total"):
            journal.all(f"SELECT * FROM {table}")

    with pytest.raises(JournalError, match=DAMAGE):
        looks_on()


# What version 4 changed.
VERSION_3 = """
ALTER TABLE series DROP COLUMN found;
PRAGMA user_version = 3;
"""

# What version 3 changed.
VERSION_2 = """
ALTER TABLE series RENAME COLUMN weights TO preset;
ALTER TABLE series DROP COLUMN strengths;
ALTER TABLE series DROP COLUMN noise_hu;
ALTER TABLE series ADD COLUMN strength REAL NOT NULL DEFAULT 1.0;
PRAGMA user_version = 2;
"""

# What version 2 changed.
VERSION_1 = """
DROP TABLE instance;
CREATE TABLE instance (
    sop_uid TEXT PRIMARY KEY, series INTEGER NOT NULL REFERENCES series (id), digest TEXT NOT NULL,
    bytes INTEGER NOT NULL, file TEXT NOT NULL, sop_class TEXT NOT NULL, syntax TEXT NOT NULL, arrived REAL NOT NULL
);
CREATE INDEX instance_series ON instance (series);
DROP TABLE delivery;
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series (id), destination TEXT NOT NULL,
    sop_uid TEXT NOT NULL, sop_class TEXT NOT NULL, syntax TEXT NOT NULL, file TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', refusals INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0.0,
    reason TEXT NOT NULL DEFAULT '', queued REAL NOT NULL, settled REAL, UNIQUE (destination, sop_uid)
);
CREATE INDEX delivery_due ON delivery (destination, state, due);
CREATE INDEX delivery_series ON delivery (series, state);
CREATE INDEX delivery_settled ON delivery (destination, state, settled);
CREATE TRIGGER total_settled AFTER UPDATE OF state ON delivery WHEN NEW.state IN ('sent', 'dead') BEGIN
    INSERT INTO total VALUES (NEW.state, NEW.destination, 1)
    ON CONFLICT DO UPDATE SET number = number + excluded.number; END;
DROP TABLE watched;
CREATE TABLE watched (path BLOB PRIMARY KEY, bytes INTEGER NOT NULL, changed_ns INTEGER NOT NULL, seen REAL NOT NULL);
INSERT INTO watched VALUES (x'61', 1, 2, 3.0);
PRAGMA user_version = 1;
"""


def test_a_journal_of_version_1_is_taken_over_with_all_that_it_knows(tmp_path):
    path = tmp_path / "journal.sqlite"
    new = Journal(path)
    before = [dict(row) for row in new.all("SELECT type, name, sql FROM sqlite_master ORDER BY name")]
    new.close()
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_3 + VERSION_2 + VERSION_1)
    connection.close()
    old = Journal(path, read_only=True)
    assert old.all("SELECT * FROM instance") == []
    old.close()
    connection = sqlite3.connect(path)
    connection.executescript(
        "INSERT INTO series (uid, peer, state, opened, changed, modality, description, kernel, preset, strength) "
        "VALUES ('1.2', 'CT1', 'denoised', 0, 0, 'CT', '', '', 'edge', 0.5);"
        "INSERT INTO instance VALUES ('1.2.1', 1, 'd', 100, 'f', '9', '8', 0);"
        "INSERT INTO delivery (series, destination, sop_uid, sop_class, syntax, file, queued) "
        "VALUES (1, 'a', '9.1', '9', '8', 'f', 0);"
    )
    connection.close()
    for _ in range(2):
        journal = Journal(path)
        after = [dict(row) for row in journal.all("SELECT type, name, sql FROM sqlite_master ORDER BY name")]
        assert after == before
        (row,) = deliveries.due(journal, "a", 10.0, 900.0, 5)
        assert (row["id"], row["sop_uid"], row["file"]) == (1, "9.1", "f")
        assert [tuple(row) for row in journal.all("SELECT series, sop_uid FROM instance")] == [(1, "1.2.1")]
        assert [tuple(row) for row in journal.all("SELECT uid, weights, strengths FROM series")] == [
            ("1.2", "edge", "0.5")
        ]
        journal.close()
    journal = Journal(path)
    deliveries.sent(journal, 1, 11.0)
    assert journal.one("SELECT number FROM total WHERE what = 'sent'")["number"] == 1
    journal.close()


def test_a_journal_of_version_3_is_taken_over_with_all_that_it_knows(tmp_path):
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.executescript(
        VERSION_3
        + "INSERT INTO series (uid, peer, state, opened, changed, modality, description, kernel, weights, noise_hu) "
        "VALUES ('1.2', 'CT1', 'complete', 0, 0, 'CT', 'thorax', 'B30f', 'edge', 12.0);"
    )
    connection.close()
    journal = Journal(path)
    row = journal.one("SELECT * FROM series")
    assert [row[name] for name in ("uid", "kernel", "weights", "strengths", "noise_hu", "found")] == [
        "1.2", "B30f", "edge", "1.0", 12.0, "",
    ]  # fmt: skip
    journal.close()


def test_what_was_found_for_a_noise_is_that_of_the_first_part_and_of_no_other_series(journal):
    to_12 = Rule("to 12", (), noise_hu=12.0)

    def row_of(number, rule, **words):
        series = receive(journal, arrival(number, **words))
        steps.complete(journal, series, rule, "", 0.0)
        return journal.one("SELECT * FROM series WHERE id = ?", series)

    first = row_of(1, to_12)
    assert steps.found(journal, first) is None
    steps.denoised(journal, first["id"], [], "", 1.0, 5.0, found={"strength": [0.5]})
    later = row_of(2, to_12)
    assert steps.found(journal, later) == {"strength": [0.5]}
    steps.denoised(journal, later["id"], [], "", 1.0, 6.0, found={"strength": [0.7]})
    assert steps.found(journal, row_of(3, to_12)) == {"strength": [0.5]}
    others = (
        row_of(4, Rule("to 9", (), noise_hu=9.0)),
        row_of(1, to_12, series="1.3"),
        row_of(1, to_12, peer="CT2"),
        row_of(5, Rule("of edge", (), noise_hu=12.0, weights="edge")),
        row_of(6, Rule("half", (), strength=0.5)),
    )
    assert [steps.found(journal, row) for row in others] == [None] * len(others)


def test_one_node_at_a_time_uses_a_spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    lock = spool.lock()
    with pytest.raises(SpoolError, match="Expected a spool that no other node uses"):
        Spool(tmp_path / "spool").lock()
    lock.release()
    spool.lock().release()


def test_a_sweep_sets_aside_what_the_journal_does_not_know_and_nothing_else(tmp_path):
    spool = Spool(tmp_path / "spool")
    known, stranger = [
        spool.take(_file(spool.incoming / name), series, name)
        for name, series in (("1.2.1", 1), ("1.2.2", 1))
    ]
    spool.take(_file(spool.incoming / "x"), 2, "x")
    _file(spool.incoming / "half")
    spool.sweep({known}, {1})
    left = {str(path.relative_to(spool.folder)) for path in spool.series.rglob("*.dcm")}
    assert left == {known}
    assert stranger != known
    assert list(spool.incoming.iterdir()) == []
    # A journal may have been lost: what it does not know is kept for a while.
    assert len(list(spool.unknown.rglob("*.dcm"))) == 2
    spool.forget_unknown(before=time.time() - 60.0)
    assert len(list(spool.unknown.rglob("*.dcm"))) == 2
    spool.forget_unknown(before=time.time() + 60.0)
    assert list(spool.unknown.iterdir()) == []


def _file(path):
    path.write_bytes(b"content")
    return path


def test_only_what_was_acknowledged_is_left_among_the_originals(tmp_path):
    spool = Spool(tmp_path / "spool")
    known = spool.take(_file(spool.incoming / "a"), 1, "1.2.1")
    spool.take(_file(spool.incoming / "b"), 1, "1.2.2")
    spool.keep_only(1, {known})
    assert [str(path.relative_to(spool.folder)) for path in spool.originals(1).iterdir()] == [known]
    assert len(list(spool.unknown.iterdir())) == 1


def test_success_is_answered_after_file_folder_and_journal_are_on_disk(tmp_path, monkeypatch):
    (path,) = write_ct_series(tmp_path, name="order", slices=1)
    spool, steps_taken = Spool(tmp_path / "spool"), []
    journal = Journal(spool.journal)
    assert journal.one("PRAGMA synchronous")[0] == 2  # FULL: a commit is on disk when it returns
    incoming = shutil.copy(path, spool.incoming / "arriving.dcm")
    names = {}

    def noted(name, function):
        def call(first, *others):
            names.setdefault(
                first, os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            )
            steps_taken.append((name, names.pop(first)))
            return function(first, *others)

        return call

    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("move", os.replace))
    journal._connection.set_trace_callback(lambda statement: steps_taken.append(("journal", statement)))
    context = SimpleNamespace(transfer_syntax=EXPLICIT, abstract_syntax=CT)
    sop_uid = str(pydicom.dcmread(path).SOPInstanceUID)
    request = SimpleNamespace(AffectedSOPInstanceUID=sop_uid, AffectedSOPClassUID=CT)
    event = SimpleNamespace(dataset_path=incoming, request=request, context=context)
    receiver = Receiver(Settings(Own(spool.folder), peer=(), rule=()), spool, journal, None)
    assert receiver._keep(event, "CT1") == 0x0000
    originals = str(spool.originals(1))
    wanted = [("sync", str(incoming)), ("move", str(incoming)), ("sync", originals), ("journal", "COMMIT")]
    assert [step for step in steps_taken if step in wanted] == wanted
    # The folders are new: their names are synced before anything is moved there.
    before = steps_taken[: steps_taken.index(("move", str(incoming)))]
    assert {("sync", str(spool.series)), ("sync", str(spool.series / "1"))} <= set(before)
    journal.close()
