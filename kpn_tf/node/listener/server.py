"""The listening socket: strangers are turned away before a byte is read, and nobody can hold up the others."""

import collections
import contextlib
import socket
import threading
import time

from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from kpn_tf.node import log

# Connections that have not become associations yet, beyond the associations that are allowed: of all, of one address.
SPARE, SPARE_OF_ONE = 8, 4

# What comes more slowly, on the average of a message, holds an association and gets nowhere.
_SLOWEST_BYTES_PER_S = 4_000.0

# PS3.8 9.3: no PDU but P-DATA comes near this, and P-DATA keeps to the length that was agreed on.
LARGEST_PDU = 1 << 17
_LONGEST_PDU = 1 << 20

_BLOCK = 1 << 18


class Server(ThreadedAssociationServer):
    """pynetdicom's server, with what it leaves open closed.

    - A TLS handshake happens in the thread of its connection and within the time limit: in pynetdicom it happens
      where connections are accepted, so that one silent peer stops everybody.
    - Callers from unknown addresses get nothing, not even a handshake.
    - A PDU may not be longer than any that is in use, an object not longer than the limit; and neither may take for
      ever, a byte now and then.

    It is made by `AE.make_server`; the class is bound to what it needs by `bound_server`.
    """

    settings = free_bytes = None
    request_queue_size = 128
    daemon_threads = True
    # Threads of connections end by themselves; waiting for them would be waiting for peers.
    block_on_close = False

    def get_request(self):
        return self.socket.accept()

    def __init__(self, *arguments, **options):
        # Connections that are accepted and not associations yet; a TLS handshake can take a while.
        self._arriving, self._count = collections.Counter(), threading.Lock()
        super().__init__(*arguments, **options)

    def verify_request(self, request, client_address):
        if not any(peer.is_at(client_address[0]) for peer in self.settings.peer):
            log.warning("connection refused", address=client_address[0], reason="unknown address")
            return False
        limits, address = self.settings.limits, client_address[0]
        with self._count:
            connections = self._arriving.copy()
            connections.update(one.requestor.address for one in self.active_associations)
            of_one = connections[address] >= limits.per_address + SPARE_OF_ONE
            if of_one or connections.total() >= limits.associations + SPARE:
                reason = "too many connections" + (" from this address" if of_one else "")
                log.warning("connection refused", address=address, reason=reason)
                return False
            self._arriving[address] += 1
        return True

    def process_request_thread(self, request, client_address):
        try:
            self._let_in(request, client_address)
        finally:
            with self._count:
                self._arriving[client_address[0]] -= 1

    def _let_in(self, request, client_address):
        patience_s = self.settings.limits.timeout_s
        request.settimeout(patience_s)
        if self.ssl_context:
            # The time limit of a socket begins anew with every byte.
            watchdog = threading.Timer(patience_s, _shut, (request,))
            watchdog.start()
            try:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            except OSError as error:
                reason = getattr(error, "reason", None) or type(error).__name__
                log.warning("TLS failed", address=client_address[0], reason=str(reason))
                request.close()
                return
            finally:
                watchdog.cancel()
        super().process_request_thread(request, client_address)

    def handle_error(self, request, client_address):
        log.warning("connection failed", address=client_address[0])


def bound_server(settings, free_bytes):
    """Returns the server's class for `Settings`; `free_bytes` tells how much room the disk has."""
    return type("BoundServer", (Server,), {"settings": settings, "free_bytes": staticmethod(free_bytes)})


def _shut(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class BoundedHandler(RequestHandler):
    """Makes associations whose socket stops a PDU, or an object, that is longer, or slower, than allowed."""

    def _create_association(self):
        association = super()._create_association()
        bounded, settings = association.dul.socket, self.server.settings
        begin_message(association)

        def recv(length):
            reason = _too_much(association, length, settings, self.server.free_bytes)
            if not reason:
                data = _received(bounded.socket, length, settings.limits.timeout_s)
                if data is not None:
                    return data
                reason = _TOO_SLOW
            log.warning("association ended", address=self.client_address[0], reason=reason)
            raise OSError(reason)

        bounded.recv = recv
        return association


_TOO_SLOW = "object comes too slowly"


def begin_message(association):
    """What comes from now on is another message: limits are those of one."""
    association.kpn_received = 0


def _too_much(association, length, settings, free_bytes):
    """Why `length` more bytes are not read, or `None`."""
    before, now = association.kpn_received, time.monotonic()
    if before == 0:
        association.kpn_since = now
    if now - association.kpn_since > settings.limits.timeout_s + before / _SLOWEST_BYTES_PER_S:
        return _TOO_SLOW
    association.kpn_received += length
    message = association.dimse.message
    # Only the data set of a C-STORE goes to disk; whatever else comes is kept in memory, and is short.
    stored = message is not None and message._data_set_file is not None
    limit = settings.limits.object_mb * 1e6 if stored else _LONGEST_PDU
    if length > _LONGEST_PDU or association.kpn_received > limit:
        return "object above limit"
    # Ten large objects at once would fill what one may not fill.
    megabyte = association.kpn_received // 1_000_000 > before // 1_000_000
    if megabyte and free_bytes() < settings.limits.keep_free_gb * 1e9:
        return "disk nearly full"
    return None


def _received(connection, length, patience_s):
    """`length` bytes, or fewer where the peer has gone, or None where it takes too long. Pieces of 4 kB, as in
    pynetdicom, cost a third of a core."""
    data, end = bytearray(length), time.monotonic() + patience_s
    view, at = memoryview(data), 0
    while at < length:
        if time.monotonic() > end:
            return None
        count = connection.recv_into(view[at : at + _BLOCK])
        if not count:
            break
        at += count
    view.release()
    del data[at:]
    return data
