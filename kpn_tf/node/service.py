"""The node as a whole: started in order, stopped in order."""

import contextlib
import ssl
import tempfile

import pynetdicom

from kpn_tf import __version__
from kpn_tf.node import log
from kpn_tf.node.conductor import Conductor
from kpn_tf.node.listener.receiver import Receiver
from kpn_tf.node.opening import opened
from kpn_tf.node.sender import Sender
from kpn_tf.node.spool import Spool
from kpn_tf.node.status.server import StatusServer
from kpn_tf.node.stopping import told_to_stop

# A scanner that is in the middle of a slice when the node is stopped may finish it.
_PATIENCE_S = 10.0


def serve(settings):
    """Runs a node until SIGTERM or SIGINT. It settles how its whole process writes files and uses pynetdicom.

    Args:
        settings: A `Settings`.

    Raises:
        OSError: If it cannot listen, or a certificate cannot be used.
        SpoolError: If the spool cannot be used.
        JournalError: If the journal cannot be used.
        SelfTestError: If a network does not do what it is for.
    """
    log.start()
    with told_to_stop() as stopping, contextlib.ExitStack() as stack:
        _start(settings, stack)
        log.info("started", version=__version__, ae_title=settings.node.ae_title, port=settings.node.port)
        stopping.wait()
        log.info("stopping")
    log.info("stopped")


def _start(settings, stack):
    spool, journal, worker = opened(Spool, settings, stack)
    # What arrives goes straight to the spool's own disk, in files of mode 0600, and never whole into memory.
    tempfile.tempdir = str(spool.incoming)
    pynetdicom._config.STORE_RECV_CHUNKED_DATASET = True
    # What is sent is not even parsed.
    pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"
    server_context, client_context = contexts(settings.tls)
    senders = [
        Sender(settings, destination, spool, journal, client_context) for destination in settings.destination
    ]

    def queued():
        for sender in senders:
            sender.wake()

    conductor = Conductor(settings, spool, journal, worker, queued)
    receiver = Receiver(settings, spool, journal, server_context)
    if settings.status.port:
        page = StatusServer(settings, spool, journal, conductor)
        page.start()
        stack.callback(page.stop)
    receiver.start()
    # Left in the opposite order: nothing comes in any more, then nothing goes out.
    for sender in senders:
        sender.start()
        stack.callback(sender.join)
    for sender in senders:
        stack.callback(sender.tell_to_stop)
    conductor.start()
    stack.callback(conductor.stop)
    stack.callback(receiver.stop, _PATIENCE_S)


def contexts(tls):
    """TLS of the server and of the client; both show the node's certificate and ask for the other's.

    Args:
        tls: A `Tls`, or None.

    Returns:
        Two `ssl.SSLContext`, or two None.

    Raises:
        OSError: If a certificate or the key cannot be used.
    """
    if tls is None:
        return None, None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        # DICOM PS3.15 B.9 (BCP 195): TLS 1.2 or newer.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without the empty password OpenSSL asks for one at the terminal, and waits.
            context.load_cert_chain(tls.certificate, tls.key, password="")
            context.load_verify_locations(tls.authorities)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            raise OSError(
                f"Expected certificates and key in PEM. Received: {tls.certificate} ({reason})"
            ) from error
    return server, client
