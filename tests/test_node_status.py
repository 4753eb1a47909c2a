"""The status page counts right, shows nothing that is not its own, and holds nobody up."""

import http.client
import json
import re
import socket
import sqlite3
import threading
from types import SimpleNamespace

import pytest

from kpn_tf.node import log
from kpn_tf.node.addresses import Destination
from kpn_tf.node.journal import deliveries, retention, steps
from kpn_tf.node.settings import Limits, Own, Retention, Status
from kpn_tf.node.status.page import page
from kpn_tf.node.status.prometheus import prometheus
from kpn_tf.node.status.server import StatusServer
from kpn_tf.node.status.snapshot import snapshot
from tests.node_journal import DESCRIPTION, ROOT, Site
from tests.ports import free_port

NOW = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def site(tmp_path):
    site = Site.made(tmp_path)
    yield site
    site.journal.close()


def told_of(site, now=NOW, **more):
    return snapshot(site.settings, site.spool, site.journal, now, **{"runs": True, **more})


def renderings(told):
    return page(told), json.dumps(told), prometheus(told)


def metrics_of(text):
    """Strictly: every sample after the HELP and TYPE of its own name, each name once; `(name, labels)` to value."""
    samples, current, seen = {}, None, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        head = re.fullmatch(r"# HELP ([a-z_]+) ([^\\]+)", line)
        if head:
            assert head[1] not in seen
            seen.add(head[1])
            current, kind = head[1], None
            continue
        head = re.fullmatch(r"# TYPE ([a-z_]+) (gauge|counter)", line)
        if head:
            assert head[1] == current
            kind = head[2]
            assert (kind == "counter") == current.endswith("_total")
            continue
        sample = re.fullmatch(
            r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\[\\"n])*",?)+)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)', line
        )
        assert sample, line
        assert sample[1] == current
        assert kind is not None
        labels = tuple(re.findall(r'([a-z_]+)="((?:[^"\\]|\\[\\"n])*)"', sample[2] or ""))
        assert (current, labels) not in samples
        samples[current, labels] = float(sample[3])
    return samples


def test_an_empty_node_is_ok(site):
    told = told_of(site)
    assert told["ok"]
    assert told["attention"] == []
    assert set(told["series"].values()) == {0}
    assert [one["name"] for one in told["destinations"]] == ["pacs", "archive"]
    assert "None yet." in page(told)
    assert metrics_of(prometheus(told))["kpn_ok", ()] == 1


def test_series_are_counted_by_state(site):
    site.receive(1, 2, NOW)
    site.complete(site.receive(2, 3, NOW), NOW)
    site.fail(3, 1, NOW, "no slice could be denoised")
    site.arrive_everywhere(4, 2, NOW)
    retention.forget_series(site.spool, site.journal, site.arrive_everywhere(5, 1, NOW), NOW)
    assert told_of(site)["series"] == {
        "received": 1,
        "complete": 1,
        "denoised": 0,
        "sent": 1,
        "done": 1,
        "failed": 1,
    }


def test_slices_are_counted_within_the_hour_and_the_day(site):
    site.arrive_everywhere(1, 7, NOW - 2 * DAY)
    site.arrive_everywhere(2, 5, NOW - 2 * HOUR)
    site.arrive_everywhere(3, 3, NOW - 60)
    told = told_of(site)
    assert told["throughput"]["hour"] == {"received": 3, "denoised": 3, "sent": 6}
    assert told["throughput"]["day"] == {"received": 8, "denoised": 8, "sent": 16}
    assert [(one["sent_hour"], one["sent_day"]) for one in told["destinations"]] == [(3, 8), (3, 8)]


def test_the_pace_is_that_of_the_series_denoised_last(site):
    for number, seconds in ((1, 40.0), (2, 6.0)):
        series = site.receive(number, 4, NOW)
        site.complete(series, NOW)
        site.denoise(series, 4, NOW + number, seconds)
    # Only forwarded: takes no time, and says nothing of it.
    series = site.receive(3, 4, NOW)
    site.complete(series, NOW)
    steps.denoised(site.journal, series, [], "", None, NOW + 3)
    assert told_of(site, NOW + 9)["throughput"]["seconds_per_slice"] == 1.5


def test_totals_survive_retention(site):
    series = site.arrive_everywhere(1, 3, NOW)
    retention.forget_series(site.spool, site.journal, series, NOW)
    site.journal.change("DELETE FROM series")
    site.arrive_everywhere(2, 2, NOW)
    metrics = metrics_of(prometheus(told_of(site)))
    assert metrics["kpn_slices_received_total", ()] == 5
    assert metrics["kpn_slices_denoised_total", ()] == 5
    assert metrics["kpn_objects_sent_total", (("destination", "pacs"),)] == 5
    assert metrics["kpn_dead_letters_total", (("destination", "pacs"),)] == 0


def test_a_slice_that_comes_twice_counts_once(site):
    site.receive(1, 3, NOW)
    site.receive(1, 3, NOW + 1)
    assert told_of(site)["totals"]["received"] == 3


def test_every_frame_is_a_slice(site):
    site.receive(1, 2, NOW, frames=5)
    told = told_of(site)
    assert told["totals"]["received"] == told["throughput"]["hour"]["received"] == 10


def test_counts_of_what_is_deleted_within_a_day_say_so(tmp_path):
    site = Site.made(tmp_path, retention=Retention(days=0.5))
    assert "deleted within a day" in page(told_of(site))
    site.journal.close()


def test_the_queue_tells_of_each_destination_and_its_outage(site):
    series = site.receive(1, 6, NOW)
    site.complete(series, NOW)
    site.denoise(series, 6, NOW)
    site.send("pacs", 2, NOW)
    site.keep_dead_letter("pacs", 1, "refuses it with status A900", NOW)
    deliveries.unreachable(site.journal, "archive", "cannot be connected to", lambda failures: 5.0, NOW - 100)
    pacs, archive = (told := told_of(site))["destinations"]
    assert (pacs["queued"], pacs["dead"], pacs["sent_hour"], pacs["outage"]) == (3, 1, 2, None)
    assert (archive["queued"], archive["dead"]) == (6, 0)
    assert archive["outage"] == {
        "since": NOW - 100,
        "reason": "cannot be connected to",
        "failures": 1,
        "next_try": NOW - 95,
    }
    assert told["attention"] == [
        "dead letters for pacs: 1",
        "archive is out of reach: cannot be connected to",
    ]
    metrics = metrics_of(prometheus(told))
    assert metrics["kpn_destination_up", (("destination", "archive"),)] == 0
    assert metrics["kpn_deliveries", (("destination", "archive"), ("state", "queued"))] == 6


def test_what_waits_for_a_destination_that_was_renamed_needs_attention(site):
    series = site.receive(1, 2, NOW)
    site.complete(series, NOW)
    site.denoise(series, 2, NOW)
    site.settings = Site.made(
        site.spool.folder.parent,
        destination=(Destination("pacs", "PACS", "127.0.0.1", 11113),),
        rule=(),
    ).settings
    told = told_of(site)
    assert told["attention"] == ["waiting for archive, which is not in the configuration any more: 2"]
    assert "not in the configuration" in page(told)


@pytest.mark.parametrize(
    ("happens", "attention"),
    [
        (lambda site: site.fail(1, 1, NOW, "x"), "series that failed: 1"),
        (
            lambda site: setattr(
                site,
                "settings",
                Site.made(site.spool.folder.parent, limits=Limits(keep_free_gb=1e9)).settings,
            ),
            "the disk is nearly full: slices are refused",
        ),
    ],
)
def test_what_needs_attention_is_not_ok(site, happens, attention):
    happens(site)
    told = told_of(site)
    assert not told["ok"]
    assert told["attention"] == [attention]
    assert "▲ Needs attention" in page(told)
    assert metrics_of(prometheus(told))["kpn_ok", ()] == 0


def test_a_series_keeps_its_name_from_the_log_to_the_end(site):
    name = log.pseudonym(site.journal.key, f"{ROOT}.1")
    series = site.arrive_everywhere(1, 2, NOW)
    assert told_of(site)["last"][0]["series"] == name
    retention.forget_series(site.spool, site.journal, series, NOW)
    assert told_of(site)["last"][0]["series"] == name


def test_the_last_twenty_series_come_newest_first(site):
    for number in range(23):
        site.receive(number, 1, NOW + number)
    last = told_of(site, NOW + 30)["last"]
    assert [row["opened"] - NOW for row in last] == [*range(22, 2, -1)]


def test_nothing_that_is_told_says_whose_images_these_are(site):
    folder = site.spool.folder
    for number, reason in enumerate(
        (
            f"Expected a CT file. Received: {folder}/series/3/originals",
            f"{folder}/series/3/originals/a.dcm: has no pixel data",
            f"{ROOT}.5 is damaged",
            r"C:\patients\jane cannot be read",
        )
    ):
        site.fail(number, 1, NOW, reason)
    series = site.receive(7, 3, NOW)
    site.complete(series, NOW)
    site.denoise(series, 3, NOW)
    site.keep_dead_letter("pacs", 2, f"says {ROOT}.9.7.1 of {folder}/x is wrong", NOW)
    deliveries.unreachable(site.journal, "archive", f"{folder} is gone", lambda failures: 5.0, NOW)
    told = told_of(site, busy=(log.pseudonym(site.journal.key, f"{ROOT}.7"), 1, 3))
    for text in renderings(told):
        for secret in (ROOT, DESCRIPTION, str(folder), "jane", "originals", ".dcm", "B30f"):
            assert secret not in text
    assert {row["note"] for row in told["failed"]} == {
        "Expected a CT file. Received: …",
        "… has no pixel data",
        "… is damaged",
        "… cannot be read",
    }


def test_a_spool_whose_path_has_spaces_is_hidden_whole(tmp_path):
    site = Site.made(tmp_path, node=Own(tmp_path / "of Jane Doe" / "spool"))
    site.fail(1, 1, NOW, f"Received: {site.spool.folder}/series/1, which is empty")
    assert told_of(site)["failed"][0]["note"] == "Received: … which is empty"
    site.journal.close()


def test_hostile_words_are_text(site):
    hostile = "\"><img src=x onerror='a'>&\\"
    site.receive(1, 1, NOW, peer=hostile)
    site.fail(2, 1, NOW, hostile)
    series = site.receive(3, 1, NOW)
    site.complete(series, NOW)
    site.denoise(series, 1, NOW)
    site.keep_dead_letter("pacs", 1, hostile, NOW)
    deliveries.unreachable(site.journal, "archive", hostile, lambda failures: 5.0, NOW)
    told = told_of(site, busy=(hostile, 0, 1))
    told["node"]["ae_title"] = hostile + "\n"
    document, _, metrics = renderings(told)
    assert "<img" not in document
    assert document.count("&lt;img") >= 7
    labels = next(labels for name, labels in metrics_of(metrics) if name == "kpn_info")
    assert dict(labels)["ae_title"] == hostile.replace("\\", "\\\\").replace('"', '\\"') + "\\n"


def test_what_is_being_denoised_is_told(site):
    told = told_of(site, busy=("8cbd4d3a30d4", 17, 120), started=NOW - 7500)
    assert told["denoising"] == {"series": "8cbd4d3a30d4", "slices_done": 17, "slices": 120}
    assert told["node"]["uptime_s"] == 7500
    document = page(told)
    assert "slice 17 of 120" in document
    assert "runs for 2 h" in document


def test_the_page_says_what_it_is_for_and_loads_nothing(site):
    document = page(told_of(site))
    assert "Research use, not a medical device" in document
    assert "<script" not in document
    assert not re.search(r"src=|href=|url\(|@import", document)


def test_whether_a_node_runs_is_told_by_its_lock(site):
    assert not site.spool.is_locked()
    lock = site.spool.lock()
    assert site.spool.is_locked()
    lock.release()
    assert not site.spool.is_locked()
    # It has not kept the lock to itself.
    site.spool.lock().release()


@pytest.fixture
def server(site):
    port = free_port()
    settings = Site.made(site.spool.folder.parent, status=Status(port)).settings
    server = StatusServer(settings, site.spool, site.journal, SimpleNamespace(busy=("8cbd4d3a30d4", 1, 9)))
    server.start()
    yield port
    server.stop()


def asked(port, path="/", method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name in [f"127.0.0.1:{port}"] if host is None else host:
            connection.putheader("Host", name)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def test_the_server_answers_in_three_forms(server, capfd):
    status, headers, document = asked(server)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "slice 1 of 9" in document
    status, headers, document = asked(server, "/status.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(document)["ok"]
    status, headers, document = asked(server, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert metrics_of(document)["kpn_ok", ()] == 1
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Python" not in headers["Server"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["/journal.sqlite", "/../etc/passwd", "/status", "/?x", "http://localhost/"])
def test_there_is_nothing_else(server, path):
    status, headers, document = asked(server, path)
    assert status == 404
    assert document == "Expected one of /, /status.json, /metrics.\n"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_nothing_can_be_done_but_read(server, method):
    assert asked(server, method=method)[0] == 501


@pytest.mark.parametrize(
    "host",
    [
        ["evil.example"],
        ["evil.example:8104"],
        ["localhost.evil.example"],
        [],
        ["localhost", "evil"],
        ["[::1]"],
    ],
)
def test_a_page_of_a_stranger_gets_nothing(server, host):
    status, _, document = asked(server, host=host)
    assert status == 403
    assert document == "Expected localhost or 127.0.0.1 as the host.\n"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1"])
def test_a_tunnel_may_end_at_another_port(server, host):
    assert asked(server, host=[host])[0] == 200


def test_only_this_machine_is_listened_to(server):
    with socket.socket() as taken, pytest.raises(OSError, match="in use"):
        taken.bind(("127.0.0.1", server))
    with socket.socket() as other:
        other.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", server))


def test_the_page_does_not_wait_for_a_writer(server, site):
    writer = sqlite3.connect(site.spool.journal, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE series SET slices = 0")
    with site.journal._lock:
        assert asked(server)[0] == 200
    writer.execute("ROLLBACK")
    writer.close()


def test_silent_clients_are_left_and_hold_nobody_up(server):
    silent = [socket.create_connection(("127.0.0.1", server)) for _ in range(15)]
    assert asked(server)[0] == 200
    silent[0].settimeout(60)
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


def test_a_crowd_is_turned_away_instead_of_growing_threads(server):
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", server)) for _ in range(60)]
    silent[-1].settimeout(60)
    # Turned away at once, with requests before it still open.
    assert silent[-1].recv(1) == b""
    assert threading.active_count() - before <= 16
    for connection in silent:
        connection.close()


def test_a_journal_that_cannot_be_read_is_one_sentence(server, site):
    site.journal.change("ALTER TABLE outage RENAME TO gone")
    assert asked(server)[0::2] == (503, "The journal cannot be read.\n")
    site.journal.change("ALTER TABLE gone RENAME TO outage")
    assert asked(server)[0] == 200
