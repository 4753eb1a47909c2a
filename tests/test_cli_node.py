"""`kpn node` tells how a node is doing, gives what failed another chance, and deletes what has settled."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kpn_tf import cli
from kpn_tf.cli import commands
from kpn_tf.node import log
from kpn_tf.node.journal import arrivals, deliveries, steps
from tests.fresh_process import run_without
from tests.node_journal import DESCRIPTION, ROOT, Site

ROOT_FOLDER = Path(__file__).parents[1]

SETTINGS = """
[node]
spool = "spool"
[[peer]]
ae_title = "SCANNER1"
addresses = ["127.0.0.1"]
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 11113
[[destination]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = 11114
[[rule]]
name = "chest"
destinations = ["pacs", "archive"]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


@pytest.fixture
def site(tmp_path):
    site = Site.made(tmp_path)
    yield site
    site.journal.close()


@pytest.fixture
def running(site):
    """The spool's lock, held as a node holds it."""
    lock = site.spool.lock()
    yield
    lock.release()


@pytest.fixture
def troubled(site):
    """One series that is on its way, one that has arrived, one that failed, and two dead letters of a fourth."""
    now = time.time()
    site.receive(1, 2, now)
    site.arrive_everywhere(2, 3, now)
    site.fail(3, 4, now, "given up after 3 attempts that ended without an answer")
    fourth = site.receive(4, 5, now)
    site.complete(fourth, now)
    site.denoise(fourth, 5, now)
    site.keep_dead_letter("pacs", 2, "refuses it with status A900", now)
    site.send("pacs", 3, now)
    site.send("archive", 5, now)
    steps.settle(site.journal, now)
    return site


def node(action, config, *words):
    try:
        return cli.main(["node", action, str(config), *words])
    except SystemExit as stop:
        return stop.code


def states(site):
    return [row["state"] for row in site.journal.all("SELECT state FROM series ORDER BY id")]


def test_a_node_that_runs_and_lacks_nothing_is_ok(config, site, running, capsys):
    site.arrive_everywhere(1, 3, time.time())
    assert node("status", config) == commands.OK
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert re.fullmatch(r"node KPN, port 11112: runs; kpn_tf \S+", lines[0])
    assert "series: 0 received, 0 complete, 0 denoised, 1 sent, 0 done, 0 failed" in lines
    assert "last hour: 3 slices received, 3 denoised; 6 objects sent" in lines
    assert "destination pacs: 0 queued, 0 dead, 3 sent in 24 h" in lines
    name = log.pseudonym(site.journal.key, f"{ROOT}.1")
    assert re.fullmatch(rf"series {name} sent: 3 slices, 3 denoised, rule chest, \d+ s ago", lines[-1])


def test_a_node_that_does_not_run_needs_attention(config, site, capsys):
    assert node("status", config) == commands.FAILED
    assert "needs attention: the node does not run" in capsys.readouterr().out.splitlines()


def test_what_went_wrong_is_told_and_is_the_exit_status(config, troubled, running, capsys):
    deliveries.unreachable(troubled.journal, "archive", "gave no answer", lambda failures: 60.0, time.time())
    assert node("status", config) == commands.FAILED
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("needs attention")] == [
        "needs attention: series that failed: 1",
        "needs attention: dead letters for pacs: 2",
        "needs attention: archive is out of reach: gave no answer",
    ]
    name = log.pseudonym(troubled.journal.key, f"{ROOT}.4")
    assert lines[-1] == f"dead letters: 2 of series {name} for pacs: refuses it with status A900"
    assert any(
        line.endswith("s ago, given up after 3 attempts that ended without an answer") for line in lines
    )


def test_the_same_is_one_json_document(config, troubled, running, capsys):
    assert node("status", config, "--json") == commands.FAILED
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert told["node"]["runs"]
    assert told["node"]["uptime_s"] is None
    assert told["series"]["failed"] == 1
    assert len(told["last"]) == 4


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_nothing_printed_says_whose_images_these_are(config, troubled, capsys, words):
    for action in ("status", "retry", "status", "purge", "status"):
        node(action, config, *words)
        printed = capsys.readouterr()
        for secret in (ROOT, DESCRIPTION, str(troubled.spool.folder)):
            assert secret not in printed.out + printed.err


def test_looking_on_changes_nothing(config, troubled):
    before = list(troubled.journal._connection.iterdump())
    node("status", config)
    assert list(troubled.journal._connection.iterdump()) == before


def test_status_reads_a_journal_that_nobody_has_open(config, site, capsys):
    site.arrive_everywhere(1, 2, time.time())
    site.journal.close()
    assert not list(site.spool.folder.glob("journal.sqlite-*"))
    assert node("status", config) == commands.FAILED
    assert "1 sent" in capsys.readouterr().out
    assert {path.stat().st_mode & 0o777 for path in site.spool.folder.glob("journal.sqlite*")} == {0o600}


@pytest.mark.parametrize("action", ["status", "retry", "purge"])
def test_without_a_spool_none_is_made(config, tmp_path, capsys, action):
    assert node(action, config) == commands.FAILED
    assert (
        capsys.readouterr().err == f"kpn node: expected the spool of a node. Received: {tmp_path / 'spool'}\n"
    )
    assert not (tmp_path / "spool").exists()


def test_a_wrong_configuration_is_a_wrong_call(config, capsys):
    config.write_text(SETTINGS.replace("[node]", "[nodes]"), encoding="utf-8")
    assert node("status", config) == commands.USAGE
    unknown, missing = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"kpn node: .*Expected only .* Received: nodes", unknown)
    assert re.fullmatch(r"kpn node: .*Expected node in the file. Received: none", missing)


def test_an_unknown_action_is_a_wrong_call(config, capsys):
    assert node("restart", config) == commands.USAGE
    assert "expected one of status, retry, purge, received restart" in capsys.readouterr().err


def test_retry_queues_series_and_letters_again(config, troubled, running, capsys):
    files = troubled.files()
    assert node("retry", config) == commands.OK
    assert capsys.readouterr().out == "queued again: 1 series, 2 dead letters\n"
    assert states(troubled) == ["received", "sent", "complete", "sent"]
    due = deliveries.due(troubled.journal, "pacs", time.time(), 900.0, 10)
    assert [(row["state"], row["refusals"]) for row in due] == [("queued", 0)] * 2
    assert all((troubled.spool.folder / row["file"]).exists() for row in due)
    assert troubled.files() == files
    assert node("retry", config) == commands.OK
    assert capsys.readouterr().out == "queued again: 0 series, 0 dead letters\n"


def test_purge_deletes_what_has_settled_and_nothing_else(config, troubled, running, capsys):
    assert len(troubled.files()) == 2 + (3 + 3) + 4 + (5 + 5) + 2
    assert node("purge", config, "--json") == commands.OK
    assert json.loads(capsys.readouterr().out) == {"series": 3, "letters": 2}
    assert states(troubled) == ["received", "done", "done", "done"]
    # The series that is still arriving.
    assert troubled.files() == sorted(troubled.spool.originals(1).iterdir())
    assert ROOT not in "".join(
        line
        for line in troubled.journal._connection.iterdump()
        if f"{ROOT}.1" not in line and "CREATE" not in line
    )
    assert node("purge", config) == commands.OK
    assert capsys.readouterr().out == "deleted: 0 series, 0 dead letters\n"


def test_purge_spares_what_still_has_to_be_sent(config, site):
    now = time.time()
    queued = site.receive(1, 2, now)
    site.complete(queued, now)
    site.denoise(queued, 2, now)
    failed = site.receive(2, 2, now)
    site.complete(failed, now)
    with site.journal.transaction():
        deliveries.queue(site.journal, failed, ("pacs",), arrivals.objects(site.journal, failed), now)
    steps.fail(site.journal, failed, "no slice could be denoised", now)
    files = site.files()
    assert node("purge", config) == commands.OK
    assert states(site) == ["denoised", "failed"]
    assert site.files() == files


def test_what_is_retried_while_it_is_purged_is_kept(troubled):
    (letter, _) = (row["id"] for row in troubled.journal.all("SELECT id FROM delivery WHERE state = 'dead'"))
    files = troubled.files()
    steps.retry(troubled.journal, time.time())
    assert not deliveries.discard(troubled.journal, letter, lambda file: pytest.fail("deleted"))
    assert steps.write_off(troubled.journal, time.time()) == 0
    assert troubled.files() == files


def test_slices_that_arrive_during_a_purge_are_kept(config, site):
    """The node goes on in a thread and a connection of its own."""
    rounds = 40

    def work():
        node_side = Site.made(site.spool.folder.parent)
        for number in range(rounds):
            node_side.arrive_everywhere(2 * number, 2, time.time())
            node_side.receive(2 * number + 1, 2, time.time())
            # A scanner is not always first at the journal's lock.
            time.sleep(0.02)
        node_side.journal.close()

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        assert node("purge", config) == commands.OK
    thread.join()
    assert node("purge", config) == commands.OK
    assert states(site) == ["done", "received"] * rounds
    known = sorted(site.spool.folder / row["file"] for row in site.journal.all("SELECT file FROM instance"))
    assert site.files() == known
    assert len(known) == 2 * rounds


def test_the_base_install_can_look_and_clear_up(config, site, tmp_path):
    site.arrive_everywhere(1, 2, time.time())
    call = f"from kpn_tf import cli\nsys.exit(cli.main(['node', 'purge', {str(config)!r}]))"
    code = f"sys.path.insert(0, {str(ROOT_FOLDER)!r})\n{call}"
    printed = run_without(["pynetdicom", "tensorflow", "keras"], code, tmp_path)
    assert printed == "deleted: 1 series, 0 dead letters\n"


def serve_dicom(*words):
    call = [sys.executable, "-P", "-m", "kpn_tf.cli", "serve-dicom", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


def test_a_configuration_is_checked_without_a_node(config, tmp_path):
    done = serve_dicom(config, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{config}: nothing is wrong with it\n"
    assert not (tmp_path / "spool").exists()


def test_all_that_is_wrong_with_a_configuration_is_told_a_mistake_a_line(config):
    config.write_text(SETTINGS.replace("port = 11113", "port = 0\nhots = 1").replace('"PACS"', '""'))
    done = serve_dicom(config, "--check")
    assert done.returncode == 2
    assert [line.partition("node.toml: ")[2] for line in done.stderr.splitlines()] == [
        "Expected only name, ae_title, host, port, tls in destination[0]. Received: hots",
        "destination[0]: Expected ae_title of 1 to 16 printable characters. Received: ''",
        "destination[0]: Expected port between 1 and 65535. Received: 0",
    ]


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_an_unknown_network_is_a_wrong_configuration(config, words):
    config.write_text(SETTINGS + 'weights = "egde"\n')
    done = serve_dicom(config, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("kpn serve-dicom: rule 'chest': Expected the name of shipped weights (edge")
    assert done.stderr.count("\n") == 1


def test_a_damaged_journal_is_one_sentence_and_no_reason_to_start_again(config, site):
    site.journal.close()
    with open(site.spool.journal, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100_000)
    for words in (("serve-dicom",), ("node", "retry"), ("node", "status")):
        call = [sys.executable, "-P", "-m", "kpn_tf.cli", *words, str(config)]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120)
        assert done.returncode == (2 if words == ("serve-dicom",) else 1)
        assert "which is damaged" in done.stderr
        assert done.stderr.count("\n") == 1
