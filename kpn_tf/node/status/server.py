"""The status page, for whoever is on this machine: read-only, on the loopback interface, without identifiers."""

import json
import socketserver
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kpn_tf.node import log
from kpn_tf.node.journal.journal import JournalError
from kpn_tf.node.status.page import page
from kpn_tf.node.status.prometheus import CONTENT_TYPE, prometheus
from kpn_tf.node.status.snapshot import snapshot

_ADDRESS = "127.0.0.1"

# A web page of a stranger reaches loopback under a name of its own (DNS rebinding); its requests bear that name.
_HOSTS = ("127.0.0.1", "localhost")

# What a client may take for its request and for the answer, between one packet and the next.
_TIMEOUT_S = 5.0

# Requests at once: those who send a letter every four seconds hold up the page, never the node.
_REQUESTS = 16

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

_DOCUMENTS = {
    "/": ("text/html; charset=utf-8", page),
    "/status.json": ("application/json", lambda told: json.dumps(told, indent=2, allow_nan=False) + "\n"),
    "/metrics": (CONTENT_TYPE, prometheus),
}


class StatusServer:
    """Answers from `start` to `stop`.

    Args:
        settings: A `Settings`.
        spool: A `Spool`.
        journal: A `Journal`. It is read through a connection of its own: no slice waits for a page.
        conductor: A `Conductor`.
    """

    def __init__(self, settings, spool, journal, conductor):
        self._settings = settings
        self._spool = spool
        self._journal = journal
        self._conductor = conductor
        self._server = self._reader = None

    def start(self):
        """Begins to listen.

        Raises:
            OSError: If the port is taken.
        """
        self._server = _Server((_ADDRESS, self._settings.status.port), _Handler)
        self._reader = self._journal.reader()
        started = time.time()

        def told():
            return snapshot(
                self._settings,
                self._spool,
                self._reader,
                time.time(),
                runs=True,
                started=started,
                busy=self._conductor.busy,
            )

        self._server.told = told
        threading.Thread(target=self._server.serve_forever, name="kpn-status", daemon=True).start()

    def stop(self):
        """Answers nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._reader.close()


class _Server(ThreadingHTTPServer):
    told = None
    daemon_threads = True
    # A crowd is told so at once instead of waiting to be let in.
    request_queue_size = 64

    def __init__(self, *arguments):
        self._free = threading.BoundedSemaphore(_REQUESTS)
        super().__init__(*arguments)

    def server_bind(self):
        # Without the question to DNS for this machine's name, which HTTPServer waits for.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request, client_address):
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address):
        """A client that has gone is no event."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.warning("status page failed", error=type(error).__name__)


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server_version, sys_version = "kpn", ""

    def do_GET(self):
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].partition(":")[0].lower() not in _HOSTS:
            self._answer(403, "text/plain", "Expected localhost or 127.0.0.1 as the host.\n")
            return
        if self.path not in _DOCUMENTS:
            self._answer(404, "text/plain", f"Expected one of {', '.join(_DOCUMENTS)}.\n")
            return
        content_type, rendered = _DOCUMENTS[self.path]
        try:
            told = self.server.told()
        except JournalError as error:
            self._answer(503, "text/plain", f"{error}\n")
            return
        except (OSError, sqlite3.Error) as error:
            log.warning("status page failed", error=type(error).__name__)
            self._answer(503, "text/plain", "The journal cannot be read.\n")
            return
        self._answer(200, content_type, rendered(told))

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, *arguments):
        """Requests are no events; standard error is for the node's own lines."""

    def _answer(self, status, content_type, document):
        body = document.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
