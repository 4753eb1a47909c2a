"""What the node and the folder contract begin with: a spool of their own, its journal, and networks that are tested."""

import os

from kpn_tf.node import log
from kpn_tf.node.journal.journal import Journal
from kpn_tf.node.network.worker_process import tested_worker


def opened(kind, settings, stack):
    """Takes possession of a spool, for a whole process: what it writes from now on is for its owner alone.

    Args:
        kind: `Spool` or `Inbox`.
        settings: A `Settings`.
        stack: `contextlib.ExitStack` that ends it all.

    Returns:
        The spool, a `Journal` and a `Worker`.

    Raises:
        SpoolError: If the spool cannot be made, or another node holds it.
        JournalError: If the journal cannot be used.
        SelfTestError: If a network does not do what it is for.
    """
    os.umask(0o077)
    spool = kind(settings.node.spool)
    stack.enter_context(spool.lock())
    journal = Journal(spool.journal)
    stack.callback(journal.close)
    _sweep(spool, journal)
    worker = tested_worker(settings)
    stack.callback(worker.stop)
    return spool, journal, worker


def _sweep(spool, journal):
    """Clears the spool of what the journal does not know."""
    files = {row["file"] for row in journal.all("SELECT file FROM instance")}
    files |= {row["file"] for row in journal.all("SELECT file FROM delivery WHERE state != 'sent'")}
    aside = spool.sweep(files, {row["id"] for row in journal.all("SELECT id FROM series")})
    if aside:
        log.warning("unknown files set aside", count=aside)
