"""What becomes of a series that is complete."""

import json

from kpn_tf.node.journal import arrivals, deliveries
from kpn_tf.node.rule import Traits


def traits(row):
    """Returns the `Traits` of a series from its row."""
    return Traits(row["peer"], row["modality"], row["description"], row["kernel"], row["thickness_mm"])


def complete(journal, series, rule, note, now):
    """Closes a series, settles what will be done with it, and queues its originals where the rule says so.

    Args:
        journal: A `Journal`.
        series: Its number.
        rule: A `Rule`, or `None`: nothing will be done.
        note: What is to be told of it: missing slices, why it is not denoised.
        now: Time in seconds since 1970.

    Returns:
        Dead letters that are none any more, as `deliveries.queue` returns them.
    """
    with journal.transaction():
        closed = journal.change(
            "UPDATE series SET state = 'complete', changed = ?, note = ? WHERE id = ? AND state = 'received'",
            now,
            note,
            series,
        )
        if closed and rule is not None:
            processed = journal.one("SELECT processed FROM series WHERE id = ?", series)["processed"]
            journal.change(
                "UPDATE series SET rule = ?, weights = ?, strengths = ?, noise_hu = ?, destinations = ? WHERE id = ?",
                rule.name,
                "" if processed else rule.weights,
                " ".join(map(repr, rule.strengths)),
                rule.noise_hu,
                " ".join(rule.destinations),
                series,
            )
            if rule.originals:
                objects = arrivals.objects(journal, series)
                return deliveries.queue(journal, series, rule.destinations, objects, now)
    return []


def next_complete(journal, now, longest_s, served):
    """Chooses among the series that are complete and due: the sender whose turn is longest ago, and of his series the
    oldest of those that were attempted least.

    Args:
        journal: A `Journal`.
        now: Time in seconds since 1970.
        longest_s: What is due later than in so many seconds was noted before the clock was set back: it is due.
        served: Dict of senders to numbers that grow with each turn; who is not in it has had none.

    Returns:
        The row of a series, or `None`.
    """
    # The other columns are those of the row with the minimum (SQLite, "Bare columns in an aggregate query").
    firsts = journal.all(
        "SELECT *, min(attempts * 1000000000000 + id) AS place FROM series "
        "WHERE state = 'complete' AND (due <= ? OR due > ?) GROUP BY peer",
        now,
        now + longest_s,
    )
    return min(firsts, key=lambda row: (served.get(row["peer"], 0), row["place"]), default=None)


def attempt(journal, series):
    """Notes, before it is begun, that a series is about to be denoised: a crash leaves its trace."""
    journal.change("UPDATE series SET attempts = attempts + 1 WHERE id = ?", series)


def postpone(journal, series, due, note):
    """Leaves a series for later; the fault was not its own, so this was no attempt."""
    journal.change(
        "UPDATE series SET attempts = max(attempts - 1, 0), due = ?, note = ? WHERE id = ?", due, note, series
    )


def again(journal, series, due):
    """Leaves a series for later, the attempt counted."""
    journal.change("UPDATE series SET due = ? WHERE id = ?", due, series)


def found(journal, row):
    """What was found for the wanted noise of a series in its first part, as `denoised` was given it, or `None`.

    Its parts are to be one derived series, so that they get one strength.
    """
    first = journal.one(
        "SELECT found FROM series WHERE uid = ? AND peer = ? AND weights = ? AND noise_hu = ? AND found != '' "
        "ORDER BY denoised LIMIT 1",
        row["uid"],
        row["peer"],
        row["weights"],
        row["noise_hu"],
    )
    return None if first is None else json.loads(first["found"])


def denoised(journal, series, objects, note, seconds, now, found=None):
    """Queues what was made of a series.

    Args:
        journal: A `Journal`.
        series: Its number.
        objects: `Object`s; empty where nothing was to be made.
        note: What is to be told of it.
        seconds: What it took, or `None`.
        now: Time in seconds since 1970.
        found: What was found for a wanted noise: something that JSON can hold, or `None`.

    Returns:
        As `complete`.
    """
    with journal.transaction():
        if journal.change(
            "UPDATE series SET state = 'denoised', changed = ?, note = ?, seconds = ?, derived = ?, denoised = ?, "
            "found = ? WHERE id = ? AND state = 'complete'",
            now,
            note,
            seconds,
            len(objects),
            now,
            json.dumps(found) if found else "",
            series,
        ):
            row = journal.one("SELECT destinations FROM series WHERE id = ?", series)
            return deliveries.queue(journal, series, row["destinations"].split(), objects, now)
    return []


def fail(journal, series, note, now):
    """Gives a series up. Its originals are kept, and delivered where the rule says so."""
    journal.change(
        "UPDATE series SET state = 'failed', changed = ?, note = ? WHERE id = ? AND state = 'complete'",
        now,
        note,
        series,
    )


def settle(journal, now):
    """Closes every series of which nothing is left to be sent; returns their rows."""
    rows = journal.all(
        "SELECT * FROM series WHERE state = 'denoised' AND NOT EXISTS "
        "(SELECT 1 FROM delivery WHERE delivery.series = series.id AND delivery.state = 'queued')"
    )
    for row in rows:
        journal.change("UPDATE series SET state = 'sent', changed = ? WHERE id = ?", now, row["id"])
    return rows


def retry(journal, now):
    """Gives every series that failed and every dead letter another chance.

    Returns:
        Numbers of series and of letters.
    """
    with journal.transaction():
        series = journal.change(
            "UPDATE series SET state = 'complete', attempts = 0, due = 0, changed = ? WHERE state = 'failed'",
            now,
        )
        return series, deliveries.revive(journal, now)


def write_off(journal, now):
    """Settles the series that failed and of which nothing is left to be sent: `retry` does not find them any more.

    Returns:
        Number of series.
    """
    return journal.change(
        "UPDATE series SET state = 'sent', changed = ? WHERE state = 'failed' AND NOT EXISTS "
        "(SELECT 1 FROM delivery WHERE delivery.series = series.id AND delivery.state = 'queued')",
        now,
    )
