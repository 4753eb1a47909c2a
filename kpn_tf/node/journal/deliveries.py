"""What is still to be sent, to whom, and what became of it."""

from kpn_tf.node import log


def queue(journal, series, destinations, objects, now):
    """Queues objects for destinations, inside a transaction. What was queued before stays as it is, but for a dead
    letter: it has come again.

    Args:
        journal: A `Journal`.
        series: Number of the series.
        destinations: Their names.
        objects: List of `Object`.
        now: Time in seconds since 1970.

    Returns:
        Paths below the spool of the dead letters that are none any more, and whose files nobody needs.
    """
    useless = []
    own = journal.one("SELECT uid, peer FROM series WHERE id = ?", series)
    for destination in destinations:
        for entry in objects:
            dead = journal.one(
                "SELECT delivery.id, file FROM delivery JOIN series ON series.id = delivery.series "
                "WHERE destination = ? AND sop_uid = ? AND delivery.state = 'dead' AND peer = ? AND uid IN (?, ?)",
                destination,
                entry.sop_uid,
                own["peer"],
                # A series whose files are deleted has kept only its pseudonym.
                own["uid"],
                log.pseudonym(journal.key, own["uid"]),
            )
            if dead is not None:
                useless.append(dead["file"])
                journal.change("DELETE FROM delivery WHERE id = ?", dead["id"])
            journal.change(
                "INSERT OR IGNORE INTO delivery (series, destination, sop_uid, sop_class, syntax, file, queued) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                series,
                destination,
                entry.sop_uid,
                entry.sop_class,
                entry.syntax,
                entry.file,
                now,
            )
    return useless


def due(journal, destination, now, longest_s, limit):
    """Returns the deliveries to a destination that are due, at most `limit` rows; those refused least, and the oldest
    of them, first, each with the rule of its series. What is due later than in `longest_s` was noted before the clock
    was set back: it is due."""
    return journal.all(
        "SELECT delivery.*, series.rule FROM delivery JOIN series ON series.id = delivery.series "
        "WHERE destination = ? AND delivery.state = 'queued' AND (delivery.due <= ? OR delivery.due > ?) "
        "ORDER BY refusals, delivery.id LIMIT ?",
        destination,
        now,
        now + longest_s,
        limit,
    )


def sent(journal, delivery, now):
    """The destination has answered that it has the object."""
    journal.change("UPDATE delivery SET state = 'sent', settled = ?, reason = '' WHERE id = ?", now, delivery)


def refused(journal, delivery, reason, due):
    """The destination has refused the object; it is offered again later."""
    journal.change(
        "UPDATE delivery SET refusals = refusals + 1, reason = ?, due = ? WHERE id = ?", reason, due, delivery
    )


def refused_so_far(journal, destination):
    """Returns how many `objects` a destination has refused and will be offered again, with the `reason` of the one that
    it refused most often; `None` if there is none."""
    row = journal.one(
        "SELECT count(*) AS objects, max(refusals), reason FROM delivery "
        "WHERE destination = ? AND state = 'queued' AND refusals > 0",
        destination,
    )
    return row if row["objects"] else None


def keep_dead_letter(journal, delivery, file, reason, now):
    """The object is not offered any more; `file` is where it is kept."""
    journal.change(
        "UPDATE delivery SET state = 'dead', settled = ?, file = ?, reason = ? WHERE id = ?",
        now,
        file,
        reason,
        delivery,
    )


def dead_letters(journal, series):
    """Returns how many deliveries of a series have been given up."""
    return journal.one("SELECT count(*) AS n FROM delivery WHERE series = ? AND state = 'dead'", series)["n"]


def revive(journal, now):
    """Queues all dead letters again, inside a transaction; returns how many."""
    journal.change("DELETE FROM outage")
    return journal.change(
        "UPDATE delivery SET state = 'queued', refusals = 0, due = 0, queued = ? WHERE state = 'dead'", now
    )


def discard(journal, delivery, delete):
    """Deletes a dead letter, unless it has been queued again.

    Args:
        journal: A `Journal`.
        delivery: Its number.
        delete: Function that deletes a path below the spool. It is called before the entry goes: an entry without a
            file is deleted by the next call, a file without an entry would stay.

    Returns:
        Whether it was there.
    """
    with journal.transaction():
        row = journal.one("SELECT file FROM delivery WHERE id = ? AND state = 'dead'", delivery)
        if row is None:
            return False
        delete(row["file"])
        journal.change("DELETE FROM delivery WHERE id = ?", delivery)
    return True


def outage(journal, destination):
    """Returns the row of a destination that is out of reach, or `None`."""
    return journal.one("SELECT * FROM outage WHERE destination = ?", destination)


def unreachable(journal, destination, reason, pause_s, now):
    """A destination could not be reached once more.

    Args:
        journal: A `Journal`.
        destination: Its name.
        reason: One sentence.
        pause_s: Function from the number of failures in a row to the pause after them.
        now: Time in seconds since 1970.
    """
    with journal.transaction():
        row = outage(journal, destination)
        failures = row["failures"] + 1 if row else 1
        journal.change(
            "INSERT OR REPLACE INTO outage VALUES (?, ?, ?, ?, ?)",
            destination,
            row["since"] if row else now,
            failures,
            now + pause_s(failures),
            reason,
        )


def reachable(journal, destination):
    """A destination has been reached."""
    journal.change("DELETE FROM outage WHERE destination = ?", destination)
