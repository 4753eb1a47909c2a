"""Slices arrive, and their series becomes complete."""

import itertools
import statistics

from kpn_tf.node.journal.journal import Object

_SAME_PLACE_MM = 0.1

# Who misses more has another problem.
_MOST_GAPS = 1000

# Longer than from one look for complete series to the next.
_LATELY_S = 10.0


class OtherContentError(ValueError):
    """A slice has the UID of one that is here already, and other content."""


def receive(journal, spool, path, arrival, digest, size, now, *, replaced=""):
    """Enters an object whose file is on disk. The series it belongs to is the open one of this key and sender; after
    that was completed a new one is opened: slices that come late are not lost. The same object from another sender, or
    of another patient, study or series, is another one.

    Args:
        journal: A `Journal`.
        spool: A `Spool`, which takes the file before the entry is made: a file without an entry is rubbish, an entry
            without a file would be a loss.
        path: The file.
        arrival: An `Arrival`.
        digest: Of the content.
        size: Of the file in bytes.
        now: Time in seconds since 1970.
        replaced: Digest of what this object takes the place of, if its series is still open.

    Returns:
        Number of the series, or `None` if the same object is here already; the file stays where it is then.

    Raises:
        OtherContentError: If another object of the same UID is.
    """
    taken = None
    try:
        with journal.transaction():
            known = journal.one(
                "SELECT digest, series, state FROM instance JOIN series ON series.id = instance.series "
                "WHERE sop_uid = ? AND uid = ? AND peer = ?",
                arrival.sop_uid,
                arrival.series_key,
                arrival.traits.calling_ae_title,
            )
            if known is not None:
                if known["digest"] == digest:
                    return None
                if known["digest"] != replaced or known["state"] != "received":
                    raise OtherContentError
                return _replace(journal, spool, path, known["series"], arrival, digest, size, now)
            series = _open_series(journal, arrival, now)
            taken = spool.take(path, series, arrival.sop_uid)
            _enter(journal, series, arrival, digest, size, taken, now)
    except BaseException:
        # What is refused must not lie among what was taken: all that lies there is denoised.
        if taken is not None:
            spool.drop(taken)
        raise
    return series


def _replace(journal, spool, path, series, arrival, digest, size, now):
    # Nothing takes this back: the file was to be replaced, and the entry is made again where it fails.
    spool.take(path, series, arrival.sop_uid)
    journal.change(
        "UPDATE instance SET digest = ?, bytes = ?, arrived = ? WHERE sop_uid = ? AND series = ?",
        digest,
        size,
        now,
        arrival.sop_uid,
        series,
    )
    journal.change("UPDATE series SET changed = ? WHERE id = ?", now, series)
    return series


def still_coming(journal, digest, now):
    """Has the open series of an object wait for more, by the digest of the object."""
    journal.change(
        "UPDATE series SET changed = ? WHERE state = 'received' AND id IN "
        "(SELECT series FROM instance WHERE digest = ?)",
        now,
        digest,
    )


def _open_series(journal, arrival, now):
    traits = arrival.traits
    row = journal.one(
        "SELECT id FROM series WHERE uid = ? AND peer = ? AND state = 'received'",
        arrival.series_key,
        traits.calling_ae_title,
    )
    if row is not None:
        return row["id"]
    journal.change(
        "INSERT INTO series (uid, peer, state, opened, changed, modality, description, kernel, thickness_mm) "
        "VALUES (?, ?, 'received', ?, ?, ?, ?, ?, ?)",
        arrival.series_key,
        traits.calling_ae_title,
        now,
        now,
        traits.modality,
        traits.description,
        traits.kernel,
        traits.thickness_mm,
    )
    return journal.one("SELECT last_insert_rowid() AS id")["id"]


def _enter(journal, series, arrival, digest, size, file, now):
    journal.change(
        "INSERT INTO instance VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        arrival.sop_uid,
        series,
        digest,
        size,
        file,
        arrival.sop_class,
        arrival.syntax,
        now,
    )
    for plane, position_mm in arrival.places:
        if position_mm is not None:
            journal.change("INSERT INTO place VALUES (?, ?, ?)", series, plane, position_mm)
    journal.change(
        "UPDATE series SET slices = slices + ?, changed = ?, processed = max(processed, ?), "
        "expected = max(expected, ?) WHERE id = ?",
        len(arrival.places),
        now,
        arrival.processed,
        arrival.expected,
        series,
    )


def finished(journal, quiet_s, now):
    """Returns the numbers of the series that are complete: all objects that a header announced, or a quiet time."""
    # After the clock was set back nothing may lie in the future.
    journal.change("UPDATE series SET changed = ? WHERE state = 'received' AND changed > ?", now, now)
    rows = journal.all("SELECT * FROM series WHERE state = 'received' ORDER BY id")
    return [
        row["id"]
        for row in rows
        if row["changed"] <= now - quiet_s or 0 < row["expected"] <= came(journal, row)
    ]


def full(journal, slices, size, now):
    """Returns the numbers of the series of which something came lately, and of which there are so many slices, or files
    of so many bytes: what comes later is their next part."""
    rows = journal.all(
        "SELECT series.id FROM series JOIN instance ON instance.series = series.id "
        "WHERE state = 'received' AND changed >= ? GROUP BY series.id HAVING slices >= ? OR sum(bytes) >= ?",
        now - _LATELY_S,
        slices,
        size,
    )
    return [row["id"] for row in rows]


def came(journal, row):
    """Returns how many objects of a series have come, those of its earlier parts included; `row` is its own."""
    return journal.one(
        "SELECT count(*) AS n FROM instance WHERE series IN (SELECT id FROM series WHERE uid = ? AND peer = ?)",
        row["uid"],
        row["peer"],
    )["n"]


def objects(journal, series):
    """Returns the `Object`s of a series as they were received."""
    return [
        Object(row["sop_uid"], row["sop_class"], row["syntax"], row["file"])
        for row in journal.all("SELECT * FROM instance WHERE series = ? ORDER BY rowid", series)
    ]


def missing_mm(journal, row):
    """Returns the positions along the slice normal, in mm, at which a series has a gap, its earlier parts included;
    `row` is its own."""
    planes = {}
    for place in journal.all(
        "SELECT plane, position_mm FROM place WHERE series IN "
        "(SELECT id FROM series WHERE uid = ? AND peer = ?)",
        row["uid"],
        row["peer"],
    ):
        planes.setdefault(place["plane"], []).append(place["position_mm"])
    return [position_mm for plane in sorted(planes) for position_mm in gaps_mm(planes[plane])]


def gaps_mm(positions_mm):
    """Where slices are missing between others that lie at regular distances.

    Args:
        positions_mm: Positions along the slice normal, in any order; phases share one.

    Returns:
        Positions in mm, ascending, at most a thousand. Fewer than four slices tell nothing.

    Example:

    >>> gaps_mm([0.0, 2.5, 5.0, 12.5, 15.0])
    [7.5, 10.0]
    """
    places = []
    for position_mm in sorted(positions_mm):
        # Phases of one place differ by rounding.
        if not places or position_mm - places[-1] > _SAME_PLACE_MM:
            places.append(position_mm)
    if len(places) < 4:
        return []
    steps = [upper - lower for lower, upper in itertools.pairwise(places)]
    step_mm = statistics.median_low(steps)
    missing = (
        round(lower + step_mm * index, 2)
        for lower, gap_mm in zip(places, steps, strict=False)
        for index in range(1, round(gap_mm / step_mm))
    )
    return list(itertools.islice(missing, _MOST_GAPS))
