"""The way out: a queue and a thread for each destination, so that one that is dead stops no other."""

import collections
import contextlib
import socket
import threading
import time

from pydicom import uid
from pynetdicom import build_context, evt

from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node import log
from kpn_tf.node.application_entity import application_entity
from kpn_tf.node.journal import deliveries
from kpn_tf.node.journal.journal import DAMAGED_S, JournalError
from kpn_tf.node.reencoding import Reencoder, can_become

# Deliveries of one association. A node that is stopped or a destination that refuses is noticed after each.
_BATCH = 500

_TICK_S = 0.5

# PS3.4 table B.2-1: out of resources concerns every object, so it is the destination that is out of reach.
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
# Success, and success with a warning: coercion, elements discarded, data set of another class.
_ACCEPTED = {0x0000, 0x0001, 0xB000, 0xB006, 0xB007}


class _OutOfReachError(Exception):
    """The destination cannot be spoken to, or takes nothing; one sentence."""


class Sender:
    """Sends what is queued for one destination, from `start` to `stop`.

    Args:
        settings: A `Settings`.
        destination: A `Destination`.
        spool: A `Spool`.
        journal: A `Journal`.
        ssl_context: For TLS, or `None`.
    """

    def __init__(self, settings, destination, spool, journal, ssl_context):
        self._settings = settings
        self._destination = destination
        self._spool = spool
        self._journal = journal
        self._ssl_context = ssl_context if destination.tls else None
        self._new_refusals = collections.Counter()
        self._decompressed = {rule.name for rule in settings.rule if rule.decompress}
        self._reencoder = Reencoder(spool.incoming)
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"kpn-send-{destination.name}")

    def start(self):
        """Starts the thread."""
        self._thread.start()

    def wake(self):
        """There may be something to send."""
        self._woken.set()

    def tell_to_stop(self):
        """Has the thread end after the object that is on its way."""
        self._stopping.set()
        self._woken.set()
        self._reencoder.stop()

    def join(self):
        """Waits until it has."""
        self._thread.join()

    def _loop(self):
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                more = self.send_due(time.time())
            except JournalError:
                # The conductor says so.
                self._stopping.wait(DAMAGED_S)
                more = False
            except Exception as error:
                # Whatever it is, it may pass; a thread that has ended sends nothing for ever.
                log.warning(
                    "step failed", step=f"send to {self._destination.name}", error=type(error).__name__
                )
                more = False
            if not more:
                self._woken.wait(_TICK_S)

    def send_due(self, now):
        """Sends what is due; returns whether there was something."""
        name = self._destination.name
        outage = deliveries.outage(self._journal, name)
        longest_s = self._settings.retry.longest_s
        # A time that is farther away than any pause was noted before the clock was set back.
        if outage is not None and now < outage["due"] <= now + longest_s:
            return False
        rows = deliveries.due(self._journal, name, now, longest_s, _BATCH)
        if not rows:
            return False
        try:
            self._send(rows, outage is not None)
        except _OutOfReachError as error:
            self._out_of_reach(rows, str(error))
        return True

    def _send(self, rows, was_out_of_reach):
        association = self._associated(rows)
        accepted = {
            (context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts
        }
        self._new_refusals = collections.Counter()
        try:
            for row in rows:
                if self._stopping.is_set():
                    return
                self._send_one(association, accepted, row)
                if was_out_of_reach:
                    was_out_of_reach = False
                    deliveries.reachable(self._journal, self._destination.name)
                    log.info("destination reached again", destination=self._destination.name)
        finally:
            if association.is_established:
                association.release()
            for reason, objects in (+self._new_refusals).items():
                log.warning(
                    "refused by destination",
                    destination=self._destination.name,
                    objects=objects,
                    reason=reason,
                )

    def _associated(self, rows):
        ae = application_entity(self._settings)
        wanted = {(row["sop_class"], syntax) for row in rows for syntax in self._can_become(row)}
        # One syntax per context: the destination cannot choose one that the file is not in.
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]
        destination = self._destination
        try:
            association = ae.associate(
                destination.host,
                destination.port,
                contexts=contexts,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once)],
                tls_args=(self._ssl_context, destination.host) if self._ssl_context else None,
            )
        except OSError as error:
            raise _OutOfReachError("has a host name that cannot be looked up") from error
        # An association without any context that was accepted is ended at once, but it was one.
        if not (association.is_established or association.rejected_contexts):
            raise _OutOfReachError(
                "rejects the association" if association.is_rejected else "cannot be connected to"
            )
        return association

    def _send_one(self, association, accepted, row):
        path = self._spool.folder / row["file"]
        if not path.is_file():
            self._give_up(row, row["file"], "its file is gone")
            return
        kind, syntax = row["sop_class"], row["syntax"]
        taken = [one for one in self._can_become(row) if (kind, one) in accepted]
        if not taken:
            self._refused(row, f"takes no {uid.UID(kind).name} in {uid.UID(syntax).name}")
            return
        try:
            # As it came wherever that is taken.
            with (
                contextlib.nullcontext(path)
                if taken[0] == syntax
                else self._reencoder.copy(path, syntax, taken[0])
            ) as file:
                status = association.send_c_store(file)
        except Exception as error:
            if self._stopping.is_set():
                return
            # Anything can come out of re-encoding what somebody else has written.
            if not association.is_established:
                raise _OutOfReachError("ended the association") from error
            reason = (
                error.reason if isinstance(error, DicomError) else f"cannot be sent ({type(error).__name__})"
            )
            self._refused(row, reason)
            return
        if "Status" not in status:
            raise _OutOfReachError("gave no answer")
        if status.Status in _OUT_OF_RESOURCES and not self._is_hopeless(row):
            # Next time another object is offered first: perhaps it is only this one that does not fit.
            pause_s = self._settings.retry.pause_s(row["refusals"] + 1)
            deliveries.refused(self._journal, row["id"], "is out of resources", time.time() + pause_s)
            raise _OutOfReachError("is out of resources")
        if status.Status in _ACCEPTED:
            deliveries.sent(self._journal, row["id"], time.time())
            self._spool.remove_dead_letter(row["file"])
        else:
            self._refused(row, f"refuses it with status {status.Status:04X}")

    def _can_become(self, row):
        return can_become(row["syntax"], row["rule"] in self._decompressed)

    def _is_hopeless(self, row):
        """Whether an object has been offered so often, and for so long, that it will never be taken."""
        retry = self._settings.retry
        waited_s = time.time() - row["queued"]
        return row["refusals"] + 1 >= retry.refusals and waited_s >= retry.give_up_h * 3600.0

    def _refused(self, row, reason):
        now, limit = time.time(), self._settings.retry.refusals
        count = row["refusals"] + 1
        # Said once, not at every offer; a dead letter is said again.
        self._new_refusals[reason] += count == 1 < limit
        if count >= limit:
            self._dead_letter(row, reason)
        else:
            deliveries.refused(self._journal, row["id"], reason, now + self._settings.retry.pause_s(count))

    def _out_of_reach(self, rows, reason):
        now, name = time.time(), self._destination.name
        deliveries.unreachable(self._journal, name, reason, self._settings.retry.pause_s, now)
        outage = deliveries.outage(self._journal, name)
        log.warning("destination out of reach", destination=name, reason=reason, failures=outage["failures"])
        patience_s = self._settings.retry.give_up_h * 3600.0
        if now - outage["since"] >= patience_s:
            for row in rows:
                if now - row["queued"] >= patience_s:
                    self._dead_letter(row, reason)

    def _dead_letter(self, row, reason):
        self._give_up(
            row, self._spool.keep_dead_letter(row["file"], self._destination.name, row["series"]), reason
        )

    def _give_up(self, row, file, reason):
        deliveries.keep_dead_letter(self._journal, row["id"], file, reason, time.time())
        series = self._journal.one("SELECT uid FROM series WHERE id = ?", row["series"])
        name = log.pseudonym(self._journal.key, series["uid"])
        log.warning("dead letter", series=name, destination=self._destination.name, reason=reason)


def _send_at_once(event):
    # A command and its data set are two packets; without this the second waits for the acknowledgement of the first.
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # pynetdicom waits for ever where a destination stops reading in the middle of an object.
    connection.settimeout(event.assoc.network_timeout)
