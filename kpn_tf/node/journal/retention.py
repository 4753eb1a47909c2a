"""Deleting on time: files first, then what the journal knows of them."""

import contextlib
import time

from kpn_tf.node import log
from kpn_tf.node.journal import deliveries

_DAY_S = 86400.0

# An object that was not finished, of a sender that has gone. Nothing still arriving is that old.
_ABANDONED_S = 3600.0


def delete_due(settings, spool, journal, now):
    """Deletes everything whose time is over.

    Args:
        settings: A `Settings`.
        spool: A `Spool`.
        journal: A `Journal`.
        now: Time in seconds since 1970.

    Returns:
        Number of series whose files were deleted.
    """
    kept = settings.retention
    series = [
        row["id"]
        for row in journal.all(
            "SELECT id FROM series WHERE (state = 'sent' AND changed <= ?) OR (state = 'failed' AND changed <= ? AND "
            "NOT EXISTS (SELECT 1 FROM delivery WHERE series = series.id AND state = 'queued'))",
            now - kept.days * _DAY_S,
            now - kept.dead_days * _DAY_S,
        )
    ]
    for number in series:
        forget_series(spool, journal, number, now)
    letters = journal.all(
        "SELECT id FROM delivery WHERE state = 'dead' AND settled <= ?", now - kept.dead_days * _DAY_S
    )
    for row in letters:
        deliveries.discard(journal, row["id"], spool.remove_dead_letter)
    # Of a letter that was delivered after its series had been forgotten.
    journal.change(
        "DELETE FROM delivery WHERE state = 'sent' AND series IN (SELECT id FROM series WHERE state = 'done')"
    )
    journal.change(
        "DELETE FROM series WHERE state = 'done' AND changed <= ? AND NOT EXISTS "
        "(SELECT 1 FROM delivery WHERE delivery.series = series.id)",
        now - kept.journal_days * _DAY_S,
    )
    spool.forget_unknown(now - kept.dead_days * _DAY_S)
    for path in spool.incoming.iterdir():
        # Most of these are just arriving, and gone the next moment.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
    return len(series)


def forget_series(spool, journal, series, now):
    """Deletes the files of a series, and from the journal everything that says whose they were. Dead letters stay.

    A series that has been opened again meanwhile, or is forgotten already, stays as it is.
    """
    with journal.transaction():
        row = journal.one("SELECT uid FROM series WHERE id = ? AND state IN ('sent', 'failed')", series)
        if row is None:
            return
        name = log.pseudonym(journal.key, row["uid"])
        spool.remove_series(series)
        for table in ("instance", "place"):
            journal.change(f"DELETE FROM {table} WHERE series = ?", series)
        journal.change("DELETE FROM delivery WHERE series = ? AND state = 'sent'", series)
        journal.change(
            "UPDATE series SET state = 'done', changed = ?, uid = ?, description = '' WHERE id = ?",
            now,
            name,
            series,
        )
    log.info("deleted", series=name)
