"""The way in: a C-ECHO and C-STORE provider that answers "success" when a slice is on disk, and not before."""

import hashlib
import os
import sqlite3
import threading
import time

from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import evt

from kpn_tf.dicom.reading.header import CT_CLASSES
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node import log
from kpn_tf.node.application_entity import application_entity
from kpn_tf.node.journal import arrivals
from kpn_tf.node.journal.journal import JournalError
from kpn_tf.node.listener.arrival import content_start
from kpn_tf.node.listener.arrival_reader import ArrivalReader
from kpn_tf.node.listener.server import LARGEST_PDU, SPARE, BoundedHandler, begin_message, bound_server

VERIFICATION = "1.2.840.10008.1.1"

# What is taken, most wanted first: a sender that offers several sends in the first of these. Lossless before lossy.
SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.RLELossless,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
    uid.JPEGExtended12Bit,
    uid.UID("1.2.840.10008.1.2.4.55"),  # JPEG full progression, retired
)

# PS3.4 table B.2-1.
_SUCCESS, _OUT_OF_RESOURCES, _NOT_THIS_CLASS, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000

# PS3.8 table 9-21: rejected by the service user, calling AE title not recognised.
_UNKNOWN_CALLER = (1, 1, 3)
# By the presentation layer, for now: local limit exceeded.
_LOCAL_LIMIT = (2, 3, 2)


class Receiver:
    """Listens from `start` to `stop`.

    Args:
        settings: A `Settings`.
        spool: A `Spool`.
        journal: A `Journal`.
        ssl_context: For TLS, or `None`.
    """

    def __init__(self, settings, spool, journal, ssl_context):
        self._settings = settings
        self._spool = spool
        self._journal = journal
        self._ssl_context = ssl_context
        self._reader = ArrivalReader(int(settings.limits.object_mb * 1e6))
        self._server = None

    def start(self):
        """Begins to listen.

        Raises:
            OSError: If the address is taken or not this machine's.
        """
        ae = application_entity(self._settings)
        ae.require_called_aet = True
        # pynetdicom counts connections that say nothing, too: the limit on associations is held in `_requested`.
        ae.maximum_associations = self._settings.limits.associations + SPARE
        ae.maximum_pdu_size = LARGEST_PDU
        ae.add_supported_context(VERIFICATION)
        for sop_class in CT_CLASSES:
            ae.add_supported_context(sop_class, list(SYNTAXES))
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_CONN_CLOSE, _drop_unfinished),
            (evt.EVT_ACCEPTED, _message_came),
            (evt.EVT_DIMSE_RECV, _message_came),
            (evt.EVT_C_ECHO, lambda event: _SUCCESS),
            (evt.EVT_C_STORE, self._store),
        ]
        address = (self._settings.node.host, self._settings.node.port)
        try:
            self._server = ae.make_server(
                address,
                evt_handlers=handlers,
                ssl_context=self._ssl_context,
                server_class=bound_server(self._settings, self._spool.free_bytes),
                request_handler=BoundedHandler,
            )
        except OSError as error:
            raise OSError(
                f"Expected an address that can be listened on. Received: {address[0]}, port {address[1]} "
                f"({error.strerror})"
            ) from error
        ae._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, name="kpn-listen", daemon=True).start()

    def stop(self, patience_s):
        """Takes no new associations, and ends those that are still open when the patience is over."""
        associations = self._server.active_associations
        self._server.shutdown()
        end = time.monotonic() + patience_s
        while time.monotonic() < end and any(association.is_alive() for association in associations):
            time.sleep(0.05)
        for association in associations:
            if association.is_alive():
                association.abort(block=False)
        for association in associations:
            association.join(2.0)
        self._reader.stop()

    def _requested(self, event):
        association = event.assoc
        title = association.requestor.primitive.calling_ae_title
        if not self._settings.knows(title, association.requestor.address):
            self._log_refusal(association, "unknown calling AE title at this address")
            association.acse.send_reject(*_UNKNOWN_CALLER)
            association.kill()
        elif reason := self._full(association.requestor.address):
            self._log_refusal(association, reason)
            association.acse.send_reject(*_LOCAL_LIMIT)
            association.kill()

    def _full(self, address):
        """Why an address gets no further association now, or ""."""
        limits = self._settings.limits
        held = [one.requestor.address for one in self._server.active_associations if one.is_established]
        if held.count(address) >= limits.per_address:
            return "too many associations from this address"
        return "too many associations" if len(held) >= limits.associations else ""

    def _rejected(self, event):
        # By pynetdicom, for the one reason that it was given.
        self._log_refusal(event.assoc, "wrong called AE title")

    def _log_refusal(self, association, reason):
        title = association.requestor.primitive.calling_ae_title
        address = association.requestor.address
        log.warning("association refused", calling=title, address=address, reason=reason)

    def _store(self, event):
        calling = event.assoc.requestor.ae_title
        free_bytes = self._spool.free_bytes()
        if free_bytes < self._settings.limits.keep_free_gb * 1e9:
            log.warning(
                "refused", calling=calling, reason="disk nearly full", free_gb=round(free_bytes / 1e9, 3)
            )
            return _status(_OUT_OF_RESOURCES, "disk nearly full")
        try:
            return self._keep(event, calling)
        except DicomError as error:
            log.warning("refused", calling=calling, reason=error.reason)
            return _status(_CANNOT_UNDERSTAND, error.reason)
        except arrivals.OtherContentError:
            reason = "has the UID of another object that is here already"
            log.warning("refused", calling=calling, reason=reason)
            return _status(_CANNOT_UNDERSTAND, reason)
        except (OSError, sqlite3.Error, JournalError) as error:
            log.warning("refused", calling=calling, reason=type(error).__name__)
            return _status(_OUT_OF_RESOURCES, "cannot be stored")
        except Exception as error:
            # Nobody can foresee what comes out of a damaged object. It is named by its type: its text may quote.
            log.warning("refused", calling=calling, reason=type(error).__name__)
            return _status(_CANNOT_UNDERSTAND, "cannot be understood")

    def _keep(self, event, calling):
        path = event.dataset_path
        request, syntax = event.request, event.context.transfer_syntax
        arrival = self._reader.read(path, syntax, calling)
        if arrival.sop_uid != request.AffectedSOPInstanceUID:
            raise DicomError(path, "has another SOPInstanceUID than was announced")
        if not arrival.sop_class == request.AffectedSOPClassUID == event.context.abstract_syntax:
            reason = "has another SOPClassUID than was announced"
            log.warning("refused", calling=calling, reason=reason)
            return _status(_NOT_THIS_CLASS, reason)
        with open(path, "rb") as file:
            # Without the meta header: it names the software that wrote the file.
            file.seek(content_start(file))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        arrivals.receive(self._journal, self._spool, path, arrival, digest, size, time.time())
        return _SUCCESS


def _message_came(event):
    begin_message(event.assoc)


def _drop_unfinished(event):
    """Removes what had arrived of an object when its connection ended."""
    message = event.assoc.dimse.message
    if message is not None and message._data_set_file is not None:
        message._data_set_file.close()
        message._data_set_path.unlink(missing_ok=True)


def _status(code, comment):
    status = Dataset()
    status.Status = code
    # LO, 64 characters (PS3.7 table C.1-1).
    status.ErrorComment = comment[:64]
    return status
