"""Real peers for the node: Orthanc as scanner and archive, pynetdicom as a malformed scanner, the node.

Orthanc and dcmtk are Debian packages; `make test` installs them as root, else what needs them skips.
"""

import collections
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import pydicom
import pynetdicom
import pytest
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification

from tests.ports import free_port

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"

needs_orthanc = pytest.mark.skipif(ORTHANC is None, reason="Orthanc is absent: apt-get install orthanc")
needs_dcmtk = pytest.mark.skipif(
    shutil.which("storescu") is None, reason="storescu is absent: apt-get install dcmtk"
)


def _closed(self):
    """What pynetdicom 3.0 leaves to the garbage collector where the other end has gone: the socket."""
    with contextlib.suppress(OSError):
        self.socket.shutdown(socket.SHUT_RDWR)
    self.socket.close()


pynetdicom.transport.AssociationSocket._shutdown_socket = _closed


def until(condition, seconds=300.0, what="what was waited for"):
    """Waits until a condition holds and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.05)
    return value


class Orthanc:
    """An archive that can also send: a real one, on free ports, with its data in a folder."""

    def __init__(self, folder, *, title="PACS", modalities=None, **more):
        folder.mkdir(parents=True)
        self.title, self.port, self._http = title, free_port(), free_port()
        self._configuration = folder / "orthanc.json"
        settings = {
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "HttpPort": self._http,
            "DicomPort": self.port,
            "DicomAet": title,
            "DicomCheckCalledAet": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": False,
            "SyncStorageArea": False,
            "DicomScuTimeout": 20,
            "DicomModalities": modalities or {},
            "Plugins": [],
            "LimitFindResults": 0,
            **more,
        }
        self._configuration.write_text(json.dumps(settings), encoding="utf-8")
        self._process = None

    def __enter__(self):
        self._process = subprocess.Popen(
            [ORTHANC, str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: self._answers(), what="Orthanc")
        return self

    def __exit__(self, *exception):
        self._process.terminate()
        self._process.wait()

    def _answers(self):
        with contextlib.suppress(OSError):
            return self.rest("/system")

    def rest(self, path, body=None):
        """Asks its REST interface; `body` makes it a POST."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}{path}", data, timeout=300) as response:
            content = response.read()
        return content if path.endswith("/file") else json.loads(content)

    def load(self, paths):
        """Puts files into it, as an acquisition would."""
        for path in paths:
            self.rest("/instances", Path(path).read_bytes())

    def send(self, modality):
        """Has it send everything it has; raises where the other side does not take all of it."""
        series = self.rest("/series")
        answer = self.rest(f"/modalities/{modality}/store", {"Resources": series, "Synchronous": True})
        if answer["FailedInstancesCount"]:
            raise OSError(f"{answer['FailedInstancesCount']} instances were not taken")

    def count(self):
        """How many slices it has."""
        return self.rest("/statistics")["CountInstances"]

    def datasets(self):
        """Everything it has, by SOP Instance UID. Orthanc keeps one instance per UID."""
        found = [
            pydicom.dcmread(pydicom.filebase.DicomBytesIO(self.rest(f"/instances/{one}/file")))
            for one in self.rest("/instances")
        ]
        return {dataset.SOPInstanceUID: dataset for dataset in found}


class Recorder:
    """An archive in this process that can misbehave and remembers the content of everything it was ever sent."""

    def __init__(
        self,
        *,
        title="RECORDER",
        classes=(CT,),
        syntaxes=(EXPLICIT, IMPLICIT),
        port=None,
        answer=lambda sop_uid: 0x0000,
        ssl_context=None,
    ):
        self.title, self.port = title, port or free_port()
        self.digests = collections.defaultdict(list)
        self._answer, self._classes, self._syntaxes = answer, classes, syntaxes
        self._ssl_context = ssl_context

    def __enter__(self):
        ae = AE(self.title)
        ae.add_supported_context(Verification)
        for sop_class in self._classes:
            ae.add_supported_context(sop_class, list(self._syntaxes))
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self._ssl_context
        )
        return self

    def __exit__(self, *exception):
        self._server.shutdown()

    def _store(self, event):
        sop_uid = str(event.request.AffectedSOPInstanceUID)
        status = self._answer(sop_uid)
        if status == 0x0000:
            self.digests[sop_uid].append(hashlib.sha256(event.request.DataSet.getvalue()).hexdigest())
        return status


class Bottleneck:
    """A way to a port on which nothing more passes, in a connection, after `limit` bytes; nor does it end."""

    def __init__(self, port, limit):
        self.limit, self._behind = limit, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open = [self._server]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception):
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._behind))
                self._open += [near, far]
                for source, target, limit in ((near, far, self.limit), (far, near, 10**9)):
                    threading.Thread(target=self._pass, args=(source, target, limit), daemon=True).start()

    def _pass(self, source, target, limit):
        with contextlib.suppress(OSError):
            while limit > 0 and (data := source.recv(min(limit, 65536))):
                target.sendall(data)
                limit -= len(data)
            if limit > 0:
                target.shutdown(socket.SHUT_WR)


class Node:
    """`kpn serve-dicom` in a process of its own.

    Args:
        folder: For configuration and spool.
        destinations: `(name, title, port)` tuples, with a fourth value `True` for TLS.
        sections: Further lines of the configuration; `rule` replaces the rule, which has weights `edge` unless it
            names some: what such a network makes of a slice does not hang on when its neighbours came.
    """

    # A version before 0.2 wants one before its configuration.
    option = ()

    def __init__(self, folder, destinations=(), *, rule=None, quiet_s=0.6, node="", sections=""):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.spool = folder, folder / "spool"
        self.port, self.status_port = free_port(), free_port()
        self.config = folder / "node.toml"
        names = [destination[0] for destination in destinations]
        rule = f'name = "all"\ndestinations = {json.dumps(names)}\noriginals = true' if rule is None else rule
        if "weights" not in rule:
            rule = f'weights = "edge"\n{rule}'
        text = (
            f'[node]\nspool = "spool"\nport = {self.port}\nhost = "127.0.0.1"\nquiet_s = {quiet_s}\n{node}\n'
        )
        text += f"[status]\nport = {self.status_port}\n"
        text += '[[peer]]\nae_title = "SCANNER"\naddresses = ["127.0.0.1"]\n'
        for name, title, port, *tls in destinations:
            text += (
                f'[[destination]]\nname = "{name}"\nae_title = "{title}"\nhost = "localhost"\nport = {port}\n'
            )
            text += "tls = true\n" if tls else ""
        text += f"[[rule]]\n{rule}\n{sections}\n"
        if "[limits]" not in sections:
            text += "[limits]\nkeep_free_gb = 0.01\ntimeout_s = 5\n"
        if "[retry]" not in sections:
            text += "[retry]\nfirst_s = 0.2\nlongest_s = 1.0\n"
        self.config.write_text(text, encoding="utf-8")
        self.log = folder / "log.jsonl"
        self.process = None

    def start(self, wait=True):
        """Starts it and waits until it listens."""
        before = len(self.lines("started"))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kpn_tf.cli", "serve-dicom", *self.option, str(self.config)],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        if wait:
            until(
                lambda: len(self.lines("started")) > before or self.process.poll() is not None,
                what="the node",
            )
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.stop()

    def stop(self):
        """Stops it as a service manager does; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(300)

    def children(self):
        """Numbers of the processes that it has started."""
        files = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(number) for file in files for number in file.read_text().split()]

    def kill(self):
        """Ends it and its network's process as a power cut does: without a last word."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def command(self, action):
        """Calls `kpn node ACTION`."""
        call = [sys.executable, "-P", "-m", "kpn_tf.cli", "node", action, str(self.config)]
        return subprocess.run(call, capture_output=True, text=True)

    def lines(self, event=None):
        """Its log: all lines, or those of one event."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if event in (None, line["event"])]

    def journal(self, statement):
        """Rows of a query on its journal."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.spool / "journal.sqlite", timeout=300)) as connection:
            return connection.execute(statement).fetchall()

    def idle(self):
        """Whether everything that came has been settled."""
        open_series = "SELECT count(*) FROM series WHERE state NOT IN ('sent', 'done', 'failed')"
        return self.journal(open_series) == [(0,)]

    def settled(self, seconds=300.0):
        """Waits until everything that came has been settled."""
        until(self.idle, seconds, what="an idle node")


def associate(port, files=(), *, calling="SCANNER", called="KPN", contexts=None, **options):
    """Opens an association that offers what the files need."""
    if contexts is None:
        metas = [pydicom.filereader.read_file_meta_info(path) for path in files]
        kinds = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
        contexts = [build_context(*kind) for kind in sorted(kinds)]
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    return ae.associate("127.0.0.1", port, contexts=contexts, ae_title=called, **options)


def send(port, files, **options):
    """Sends files; returns the statuses, `None` where no answer came, and the comments."""
    pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True
    association = associate(port, files, **options)
    if not association.is_established:
        raise ConnectionRefusedError("no association")
    answers = []
    try:
        for path in files:
            if not association.is_established:
                raise ConnectionResetError("the association was ended")
            status = association.send_c_store(path)
            answers.append((status.get("Status"), str(status.get("ErrorComment", ""))))
    finally:
        if association.is_established:
            association.release()
    return answers


def send_until_taken(port, files):
    """A scanner that tries again, after a moment, until everything is taken."""
    left = list(files)
    while left:
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            answers = send(port, left)
            left = [path for path, (status, _) in zip(left, answers, strict=True) if status != 0x0000]
        if left:
            time.sleep(0.2)


def in_threads(function, jobs):
    """Calls a function with each of the jobs, all at once."""
    failures = []

    def call(job):
        try:
            function(job)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def store(node, content, sop_uid, *, syntax=EXPLICIT, sop_class=CT, announced=None):
    """Sends bytes as they are; returns status and comment, or `None` where the association was ended."""
    association = associate(node.port, contexts=[build_context(sop_class, syntax)])
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom, of what is meant to be wrong
            request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = announced or sop_class, sop_uid
            request.DataSet = io.BytesIO(content)
            association._reactor_checkpoint.clear()
            until(lambda: association._is_paused)
            association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
            _, response = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
        if association.is_established:
            association.release()
    return None if response is None else (response.Status, str(response.ErrorComment or ""))


def associate_request():
    """An A-ASSOCIATE-RQ as it goes over the wire, for C-ECHO."""
    context = b"\x20\0\0\x2e\x01\0\0\0\x30\0\0\x111.2.840.10008.1.1\x40\0\0\x111.2.840.10008.1.2"
    user = b"\x50\0\0\x1c\x51\0\0\x04\0\0\x40\0\x52\0\0\x101.2.826.0.1.3680"
    application = b"\x10\0\0\x151.2.840.10008.3.1.1.1"
    fixed = b"\0\x01\0\0" + b"KPN".ljust(16) + b"SCANNER".ljust(16) + bytes(32)
    items = fixed + application + context + user
    return b"\x01\0" + struct.pack(">I", len(items)) + items


def p_data(data):
    """A PDU with a fragment of a command that is not the last (PS3.8 9.3.5)."""
    value = struct.pack(">IBB", len(data) + 2, 1, 0x01) + data
    return struct.pack(">BBI", 4, 0, len(value)) + value
