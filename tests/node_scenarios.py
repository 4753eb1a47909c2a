"""What a node must survive, each of a length that its caller chooses: short in the tests, long in `make soak`."""

import contextlib
import random
import subprocess
import threading
import time
from pathlib import Path

import pydicom

from kpn_tf.batch import denoise
from kpn_tf.denoiser import Denoiser
from tests.ct_series import write_ct_series
from tests.node_peers import Node, Orthanc, Recorder, in_threads, send_until_taken, until


def derived_from(folder, output, weights="edge"):
    """What one run of `kpn denoise` makes of a folder: datasets by SOP Instance UID."""
    denoise(folder, output, Denoiser(weights, threads=2))
    return {path.stem: pydicom.dcmread(path) for path in output.rglob("*.dcm")}


def chaos(folder, *, kills, slices=4, senders=2, seed=1):
    """Kills the node at random points while scanners send, and compares what the archive has in the end.

    Returns:
        Measures: kills, series and slices sent, seconds from start to listening.
    """
    rng = random.Random(seed)
    inbox, stopped, sent = folder / "in", threading.Event(), []
    with Orthanc(folder / "pacs") as pacs, Recorder() as recorder:
        destinations = [("pacs", pacs.title, pacs.port), ("recorder", recorder.title, recorder.port)]
        node = Node(folder / "node", destinations, quiet_s=0.5)

        def scan(number):
            while not stopped.is_set():
                name = f"chaos{number}x{len(sent)}"
                sent.append(name)
                paths = write_ct_series(inbox / name, name=name, slices=slices)
                # In two parts, the second perhaps late: both belong to one series.
                for part in (paths[::2], paths[1::2]):
                    send_until_taken(node.port, part)
                    time.sleep(0.2)

        scanners = [threading.Thread(target=scan, args=(number,)) for number in range(senders)]
        recovery_s, cut_off = [], 0
        before, began, awaited = 0, 0.0, False
        try:
            node.start()
            for scanner in scanners:
                scanner.start()
            for _ in range(kills):
                # From before it listens to well into its work.
                until_s = time.monotonic() + rng.uniform(0.3, 6.0)
                while time.monotonic() < until_s:
                    if awaited and len(node.lines("started")) > before:
                        recovery_s.append(time.monotonic() - began)
                        awaited = False
                    time.sleep(0.02)
                cut_off += awaited
                node.kill()
                before, began, awaited = len(node.lines("started")), time.monotonic(), True
                node.start(wait=False)
            stopped.set()
            for scanner in scanners:
                scanner.join()
            node.settled(600.0)
        finally:
            stopped.set()
            node.stop()
        found = pacs.datasets()
        expected = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, inbox.rglob("*.dcm"))}
        originals = len(expected)
        expected |= derived_from(inbox, folder / "expected")
        assert len(expected) == 2 * originals
        assert pacs.count() == len(expected), (pacs.count(), len(expected))
        assert set(found) == set(expected)
        for sop_uid, dataset in expected.items():
            assert found[sop_uid] == dataset
        # Sent again is allowed (the answer may have been lost), with other content is not.
        assert set(recorder.digests) == set(expected)
        assert {len(set(digests)) for digests in recorder.digests.values()} == {1}
    return {
        "kills": kills,
        "series": len(sent),
        "slices": originals,
        "sent more than once": sum(len(digests) > 1 for digests in recorder.digests.values()),
        "recovery_s": recovery_s,
        "cut_off": cut_off,
    }


def load(folder, *, associations, slices, rows, columns, storescu=False):
    """Several scanners send at once; everything must be in the archive in the end.

    Returns:
        Measures: seconds until all was received and until all was settled.
    """
    inbox = folder / "in"
    names = [f"load{number}" for number in range(associations)]
    files = {
        name: write_ct_series(
            inbox / name, name=name, slices=slices // associations, rows=rows, columns=columns
        )
        for name in names
    }
    count = sum(map(len, files.values()))
    with Orthanc(folder / "pacs") as pacs, Node(folder / "node", [("pacs", pacs.title, pacs.port)]) as node:
        began = time.monotonic()

        def scan(name):
            if not storescu:
                return send_until_taken(node.port, files[name])
            call = ["storescu", "-aet", "SCANNER", "-aec", "KPN", "+sd", "127.0.0.1", str(node.port)]
            subprocess.run([*call, str(inbox / name)], check=True)

        in_threads(scan, names)
        received_s = time.monotonic() - began
        node.settled(3600.0)
        settled_s = time.monotonic() - began
        assert pacs.count() == 2 * count
        assert node.lines("step failed") == []
        denoised = node.lines("denoised")
    return {
        "associations": associations,
        "slices": count,
        "received_s": received_s,
        "settled_s": settled_s,
        "denoising_s": sum(line["seconds"] for line in denoised),
    }


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A file system of a given size, in memory; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def full_disk(folder, *, slices, megabytes, keep_free_gb):
    """A scanner sends more than the disk holds; what is delivered is deleted, and the rest is taken then.

    Returns:
        Measures: refusals, and slices.
    """
    paths = write_ct_series(folder / "in", name="disk", slices=slices, rows=512, columns=512)
    limits = f"[retention]\ndays = 0\n[limits]\nkeep_free_gb = {keep_free_gb}\ntimeout_s = 5\n"
    with Orthanc(folder / "pacs") as pacs, small_disk(folder / "node" / "spool", megabytes):
        with Node(folder / "node", [("pacs", pacs.title, pacs.port)], sections=limits, quiet_s=0.5) as node:
            send_until_taken(node.port, paths)
            node.settled(300.0)
            assert node.process.poll() is None
            refused = len(node.lines("refused"))
        assert pacs.count() == 2 * slices
    return {"slices": slices, "refused": refused}


def endurance(folder, *, minutes, slices, rows, columns, pause_s):
    """Series after series for a long time, deleted as soon as they are delivered; what the node needs meanwhile.

    Returns:
        Measures: slices; memory of the node and of its network's process, in MB, file descriptors and threads of the
        node, each once warm and at the end.
    """
    end, sent, memory, held = time.monotonic() + 60.0 * minutes, 0, [], []
    with Recorder() as recorder:
        destinations = [("recorder", recorder.title, recorder.port)]
        with Node(folder / "node", destinations, sections="[retention]\ndays = 0\n") as node:
            while time.monotonic() < end:
                name = f"long{sent}"
                paths = write_ct_series(folder / "in", name=name, slices=slices, rows=rows, columns=columns)
                send_until_taken(node.port, paths)
                sent += slices
                for path in paths:
                    path.unlink()
                node.settled(600.0)
                memory.append([_resident_mb(pid) for pid in (node.process.pid, *node.children())])
                held.append((_count(node, "fd"), _count(node, "task")))
                time.sleep(pause_s)
            until(lambda: not list(node.spool.glob("series/*")), what="an empty spool")
            assert node.process.poll() is None
            assert node.lines("thread died") == []
            journal_mb = sum(path.stat().st_size for path in node.spool.glob("journal*")) / 1e6
    assert len(recorder.digests) == 2 * sent
    warm = min(len(memory) - 1, len(memory) // 10)
    return {
        "minutes": minutes,
        "slices": sent,
        "warm_mb": memory[warm],
        "end_mb": memory[-1],
        "warm_held": held[warm],
        "end_held": held[-1],
        "journal_mb": journal_mb,
    }


def _count(node, what):
    """How many file descriptors ("fd") or threads ("task") the node has."""
    return len(list(Path(f"/proc/{node.process.pid}/{what}").iterdir()))


def _resident_mb(pid):
    """Resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1000)
