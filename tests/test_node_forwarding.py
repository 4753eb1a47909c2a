"""The way out: destinations that are dead, refuse, hang, come back, or take only some of it."""

import signal
import socket
import stat
import threading
import time
import urllib.request

import pydicom
import pytest
from pynetdicom import AE

from tests.ct_series import write_ct_series
from tests.node_peers import EXPLICIT, IMPLICIT, Bottleneck, Node, Recorder, send, until
from tests.ports import free_port

FORWARD = 'name = "forward"\nweights = ""\noriginals = true\ndestinations = '


def sop_uids(paths):
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths}


def queued(node, destination):
    """States of the deliveries to a destination."""
    return [row[0] for row in node.journal(f"SELECT state FROM delivery WHERE destination = '{destination}'")]


def test_a_destination_that_is_dead_stops_no_other_and_gets_everything_when_it_is_back(tmp_path):
    paths, dead = write_ct_series(tmp_path / "in", name="dead", slices=3), free_port()
    with Recorder() as alive:
        rule = FORWARD + '["dead", "alive"]'
        destinations = [("dead", "RECORDER", dead), ("alive", alive.title, alive.port)]
        with Node(tmp_path / "node", destinations, rule=rule) as node:
            send(node.port, paths)
            until(lambda: set(alive.digests) == sop_uids(paths))
            until(lambda: node.lines("destination out of reach"))
            assert queued(node, "dead") == ["queued"] * 3
            with Recorder(port=dead) as back:
                until(lambda: set(back.digests) == sop_uids(paths))
                node.settled()
            until(lambda: node.lines("destination reached again"))
            assert {len(digests) for digests in back.digests.values()} == {1}
            assert back.digests == alive.digests


def test_a_destination_that_hangs_stops_no_other(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="hangs", slices=2)
    with socket.create_server(("127.0.0.1", 0)) as silent, Recorder() as alive:
        destinations = [("hangs", "SILENT", silent.getsockname()[1]), ("alive", alive.title, alive.port)]
        limits = "[limits]\ntimeout_s = 1\nkeep_free_gb = 0.01\n"
        with Node(
            tmp_path / "node", destinations, rule=FORWARD + '["hangs", "alive"]', sections=limits
        ) as node:
            send(node.port, paths)
            until(lambda: set(alive.digests) == sop_uids(paths))
            (first, *_) = until(lambda: node.lines("destination out of reach"))
            assert (first["destination"], first["reason"]) == ("hangs", "cannot be connected to")
        assert node.process.returncode == 0


def test_a_destination_that_stops_reading_in_the_middle_of_an_object_is_left(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="stalls", slices=1, rows=2048, columns=2048)
    limits = "[limits]\ntimeout_s = 1\nkeep_free_gb = 0.01\n"
    with Recorder() as pacs, Bottleneck(pacs.port, 100_000) as between:
        destinations = [("pacs", pacs.title, between.port)]
        node = Node(tmp_path / "node", destinations, rule=FORWARD + '["pacs"]', sections=limits)
        with node:
            send(node.port, paths)
            line = until(lambda: node.lines("destination out of reach"))[0]
            assert line["reason"] in ("gave no answer", "ended the association")
            between.limit = 10**9
            until(lambda: set(pacs.digests) == sop_uids(paths))
            between.limit = 100_000
            send(
                node.port, write_ct_series(tmp_path / "in2", name="again", slices=1, rows=2048, columns=2048)
            )
            until(lambda: len(node.lines("complete")) == 2)
        assert node.process.returncode == 0


def test_a_host_that_nobody_knows_is_out_of_reach_like_any_other(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="unknown", slices=1)
    node = Node(tmp_path / "node", [("pacs", "PACS", 104)], rule=FORWARD + '["pacs"]')
    node.config.write_text(node.config.read_text().replace('"localhost"', '"nowhere.invalid"'))
    with node:
        send(node.port, paths)
        first = until(lambda: node.lines("destination out of reach"))[0]
        assert first["reason"] == "has a host name that cannot be looked up"


def test_what_is_refused_again_and_again_is_a_dead_letter_until_somebody_asks_for_another_try(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="refused", slices=2)
    answers = {"now": 0xC000}
    with Recorder(answer=lambda _: answers["now"]) as pacs:
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=FORWARD + '["pacs"]')
        with node:
            send(node.port, paths)
            until(lambda: queued(node, "pacs") == ["dead", "dead"])
            letters = list((node.spool / "dead").rglob("*.dcm"))
            assert sop_uids(letters) == sop_uids(paths)
            assert {stat.S_IMODE(letter.stat().st_mode) for letter in letters} == {0o600}
            assert {line["reason"] for line in node.lines("dead letter")} == {"refuses it with status C000"}
            assert pacs.digests == {}
            answers["now"] = 0x0000
            assert node.command("retry").returncode == 0
            until(lambda: set(pacs.digests) == sop_uids(paths))
            until(lambda: not list((node.spool / "dead").rglob("*.dcm")))


def test_the_first_refusal_is_a_warning_in_the_log_on_the_page_and_in_the_status(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="compressed", slices=3)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress("1.2.840.10008.1.2.4.80", generate_instance_uid=False)
        dataset.save_as(path)
    retry = "[retry]\nfirst_s = 600\nlongest_s = 600\n"
    reason = "takes no CT Image Storage in JPEG-LS Lossless Image Compression"
    with Recorder() as pacs:
        node = Node(
            tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=FORWARD + '["pacs"]', sections=retry
        )
        with node:
            send(node.port, paths)
            (line,) = until(lambda: node.lines("refused by destination"))
            assert (line["level"], line["destination"], line["objects"]) == ("warning", "pacs", 3)
            assert line["reason"] == reason
            told = node.command("status")
            assert told.returncode == 1
            assert f"needs attention: pacs refuses 3 objects: {reason}" in told.stdout
            with urllib.request.urlopen(f"http://127.0.0.1:{node.status_port}/", timeout=30) as response:
                page = response.read().decode()
            assert f"pacs refuses 3 objects: {reason}" in page
            assert "▲ refuses objects" in page
            assert node.lines("dead letter") == []


def test_a_destination_out_of_resources_is_asked_again_and_nothing_is_given_up(tmp_path):
    paths, answers = write_ct_series(tmp_path / "in", name="full", slices=2), iter([0xA700] * 8)
    with Recorder(answer=lambda _: next(answers, 0x0000)) as pacs:
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=FORWARD + '["pacs"]')
        with node:
            send(node.port, paths)
            until(lambda: set(pacs.digests) == sop_uids(paths))
            assert node.lines("dead letter") == []
            assert node.lines("destination out of reach")[0]["reason"] == "is out of resources"


def test_one_object_that_never_fits_holds_up_no_other(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="large", slices=6)
    large = str(pydicom.dcmread(paths[0]).SOPInstanceUID)
    with Recorder(answer=lambda sop_uid: 0xA700 if sop_uid == large else 0x0000) as pacs:
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=FORWARD + '["pacs"]')
        with node:
            send(node.port, paths)
            until(lambda: set(pacs.digests) == sop_uids(paths[1:]))


def test_a_file_that_somebody_deleted_is_told_and_holds_up_no_other(tmp_path):
    paths, port = write_ct_series(tmp_path / "in", name="gone", slices=3), free_port()
    node = Node(tmp_path / "node", [("pacs", "RECORDER", port)], rule=FORWARD + '["pacs"]')
    with node:
        send(node.port, paths)
        until(lambda: node.lines("destination out of reach"))
        first, *others = sorted(node.spool.glob("series/*/originals/*.dcm"))
        kept = sop_uids(others)
        first.unlink()
        with Recorder(port=port) as pacs:
            until(lambda: set(pacs.digests) == kept)
            (line,) = until(lambda: node.lines("dead letter"))
            assert line["reason"] == "its file is gone"


def test_after_the_patience_with_a_destination_its_queue_becomes_dead_letters(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="patience", slices=2)
    retry = "[retry]\nfirst_s = 0.2\nlongest_s = 0.2\ngive_up_h = 0.0005\n"
    node = Node(tmp_path / "node", [("gone", "GONE", free_port())], rule=FORWARD + '["gone"]', sections=retry)
    with node:
        send(node.port, paths)
        until(lambda: queued(node, "gone") == ["dead", "dead"])
        node.settled()


def test_a_destination_that_knows_implicit_vr_only_gets_the_derived_slices_in_it(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="implicit", slices=2)
    with (
        Recorder(syntaxes=[IMPLICIT]) as pacs,
        Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node,
    ):
        send(node.port, paths)
        until(lambda: len(pacs.digests) == 4)
        node.settled()


def test_a_compressed_original_that_a_destination_does_not_take_is_told_and_kept(tmp_path):
    (path,) = write_ct_series(tmp_path / "in", name="compressed", slices=1)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    with (
        Recorder(syntaxes=[EXPLICIT]) as pacs,
        Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node,
    ):
        assert send(node.port, [path]) == [(0x0000, "")]
        (line,) = until(lambda: node.lines("dead letter"))
        # A context for JPEG-LS alone is not accepted; the derived slice goes its way.
        until(lambda: len(pacs.digests) == 1)
    assert line["reason"] == "takes no CT Image Storage in JPEG-LS Lossless Image Compression"


def test_a_node_that_is_stopped_stops_between_two_slices_and_goes_on_later(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="stop", slices=30)
    told = threading.Event()

    def slowly(_):
        # The third is answered when the node has been told to stop.
        if len(pacs.digests) > 1:
            told.wait(300)
        time.sleep(0.1)
        return 0x0000

    limits = "[limits]\nkeep_free_gb = 0.01\ntimeout_s = 300\n"
    with Recorder(answer=slowly) as pacs:
        destinations = [("pacs", pacs.title, pacs.port)]
        node = Node(tmp_path / "node", destinations, rule=FORWARD + '["pacs"]', sections=limits)
        with node:
            send(node.port, paths)
            until(lambda: len(pacs.digests) > 1)
            node.process.send_signal(signal.SIGTERM)
            until(lambda: node.lines("stopping"))
            told.set()
            assert node.process.wait(300) == 0
            assert node.lines()[-1]["event"] == "stopped"
        assert len(pacs.digests) < 30
        with node:
            until(lambda: set(pacs.digests) == sop_uids(paths))
        assert {len(digests) for digests in pacs.digests.values()} == {1}


@pytest.mark.parametrize("kind", ["peer", "address", "called"])
def test_who_is_not_known_is_not_let_in(tmp_path, kind):
    with Node(tmp_path / "node", rule=FORWARD + "[]") as node:
        if kind == "address":
            text = node.config.read_text().replace('addresses = ["127.0.0.1"]', 'addresses = ["192.0.2.7"]')
            node.stop()
            node.config.write_text(text)
            node.start()
        ae = AE("STRANGER" if kind == "peer" else "SCANNER")
        ae.acse_timeout = 5
        ae.add_requested_context("1.2.840.10008.1.1")
        association = ae.associate("127.0.0.1", node.port, ae_title="OTHER" if kind == "called" else "KPN")
        assert not association.is_established
        assert association.is_rejected == (kind != "address")
        (line,) = node.lines("connection refused" if kind == "address" else "association refused")
        assert (
            line["reason"]
            == {
                "peer": "unknown calling AE title at this address",
                "address": "unknown address",
                "called": "wrong called AE title",
            }[kind]
        )
