"""Spool and journal brought into line when a node starts."""

from kpn_tf.node import log


def sweep(spool, journal):
    """Clears the spool of what the journal does not know.

    Args:
        spool: A `Spool`.
        journal: A `Journal`.
    """
    files = {row["file"] for row in journal.all("SELECT file FROM instance")}
    files |= {row["file"] for row in journal.all("SELECT file FROM delivery WHERE state != 'sent'")}
    aside = spool.sweep(files, {row["id"] for row in journal.all("SELECT id FROM series")})
    if aside:
        log.warning("unknown files set aside", count=aside)
