"""How a node is doing, from its journal: what the status page, the command line and monitoring are told.

Nothing in it tells whose images these are: series go by their pseudonym, and sentences lose what looks like a UID
or a path.
"""

import re

from kpn_tf import __version__
from kpn_tf.node import log
from kpn_tf.node.journal import deliveries
from kpn_tf.node.journal.schema import STATES

_HOUR_S, _DAY_S = 3600.0, 86400.0

_LAST = 20
_LISTED = 50

# Three dots: no UID of an object or a series has fewer, no number of a sentence so many.
_UID = re.compile(r"\d+(?:\.\d+){3,}")
_PATH = re.compile(r"\S*[/\\]\S*")


def snapshot(settings, spool, journal, now, *, runs, started=None, busy=None):
    """Describes a node.

    In the counts of the last hour and day a series counts from its first slice, and what was sent as long as it is
    kept: with `retention.days` below 1 too little. `totals` is not concerned.

    Args:
        settings: A `Settings`.
        spool: A `Spool`.
        journal: A `Journal`, which is only read.
        now: Time in seconds since 1970.
        runs: Whether the node runs.
        started: Since when, if that is known.
        busy: `Conductor.busy`: pseudonym of the series that is being denoised, slices done, slices; or `None`.

    Returns:
        Dict that `json.dumps` takes. Times are in seconds since 1970. `ok` is false where something needs
        attention, and `attention` says what.
    """
    names = list(dict.fromkeys([one.name for one in settings.destination] + _unsettled(journal)))
    destinations = [_destination(settings, spool, journal, name, now) for name in names]
    told = {
        "kpn_tf": __version__,
        "time": now,
        "node": {
            "ae_title": settings.node.ae_title,
            "port": settings.node.port,
            "runs": runs,
            "uptime_s": None if started is None else now - started,
        },
        "disk": {
            "free_bytes": spool.free_bytes(),
            "reserve_bytes": int(settings.limits.keep_free_gb * 1e9),
        },
        "series": _states(journal),
        "denoising": None
        if busy is None
        else dict(zip(("series", "slices_done", "slices"), busy, strict=True)),
        "destinations": destinations,
        "throughput": {
            "hour": _throughput(journal, now - _HOUR_S, destinations, "sent_hour"),
            "day": _throughput(journal, now - _DAY_S, destinations, "sent_day"),
            "sent_kept_whole_day": settings.retention.days >= 1.0,
            "seconds_per_slice": _seconds_per_slice(journal),
        },
        "totals": _totals(journal, names),
        "last": [_series(spool, journal, row) for row in _rows(journal, "1", _LAST)],
        "failed": [_series(spool, journal, row) for row in _rows(journal, "state = 'failed'", _LISTED)],
        "dead_letters": [letter for name in names for letter in _dead_letters(spool, journal, name)],
    }
    attention = list(_attention(told))
    return {"ok": not attention, "attention": attention, **told}


def _unsettled(journal):
    """Names of all destinations that something is or was to be sent to and has not been."""
    return [
        row["destination"]
        for row in journal.all(
            "SELECT DISTINCT destination FROM delivery WHERE state IN ('queued', 'dead') ORDER BY destination"
        )
    ]


def _destination(settings, spool, journal, name, now):
    outage = deliveries.outage(journal, name)
    refused = deliveries.refused_so_far(journal, name)
    return {
        "name": name,
        "configured": any(one.name == name for one in settings.destination),
        "queued": _count(journal, name, "queued"),
        "dead": _count(journal, name, "dead"),
        "sent_hour": _count(journal, name, "sent", now - _HOUR_S),
        "sent_day": _count(journal, name, "sent", now - _DAY_S),
        "outage": outage
        and {
            "since": outage["since"],
            "reason": _plain(outage["reason"], spool),
            "failures": outage["failures"],
            "next_try": outage["due"],
        },
        "refused": refused and {"objects": refused["objects"], "reason": _plain(refused["reason"], spool)},
    }


def _count(journal, destination, state, since=None):
    statement = "SELECT count(*) AS count FROM delivery WHERE destination = ? AND state = ?"
    if since is None:
        return journal.one(statement, destination, state)["count"]
    return journal.one(f"{statement} AND settled >= ?", destination, state, since)["count"]


def _states(journal):
    counted = {
        row["state"]: row["count"]
        for row in journal.all("SELECT state, count(*) AS count FROM series GROUP BY state")
    }
    return {state: counted.get(state, 0) for state in STATES}


def _throughput(journal, since, destinations, sent):
    received = journal.one("SELECT coalesce(sum(slices), 0) AS count FROM series WHERE opened >= ?", since)
    denoised = journal.one("SELECT coalesce(sum(derived), 0) AS count FROM series WHERE denoised >= ?", since)
    return {
        "received": received["count"],
        "denoised": denoised["count"],
        "sent": sum(one[sent] for one in destinations),
    }


def _seconds_per_slice(journal):
    """Of the series that was denoised last, or `None`."""
    row = journal.one(
        "SELECT seconds, derived FROM series WHERE denoised IS NOT NULL AND seconds IS NOT NULL AND derived > 0 "
        "ORDER BY denoised DESC LIMIT 1"
    )
    return row and row["seconds"] / row["derived"]


def _totals(journal, names):
    counted = {(row["what"], row["destination"]): row["number"] for row in journal.all("SELECT * FROM total")}
    return {
        "received": counted.get(("received", ""), 0),
        "denoised": counted.get(("denoised", ""), 0),
        "sent": {name: counted.get(("sent", name), 0) for name in names},
        "dead": {name: counted.get(("dead", name), 0) for name in names},
    }


def _rows(journal, condition, limit):
    return journal.all(f"SELECT * FROM series WHERE {condition} ORDER BY id DESC LIMIT {limit}")


def _series(spool, journal, row):
    return {
        "series": _name(journal, row),
        "calling_ae_title": row["peer"],
        "state": row["state"],
        "slices": row["slices"],
        "derived": row["derived"],
        "rule": row["rule"],
        "opened": row["opened"],
        "changed": row["changed"],
        "seconds": row["seconds"],
        "note": _plain(row["note"], spool),
    }


def _name(journal, row):
    """A series whose files are deleted has kept only its pseudonym."""
    return row["uid"] if row["state"] == "done" else log.pseudonym(journal.key, row["uid"])


def _dead_letters(spool, journal, name):
    """Dead letters of a destination, those of one series and one reason together, the newest first."""
    return [
        {
            "destination": name,
            "series": _name(journal, row),
            "reason": _plain(row["reason"], spool),
            "objects": row["objects"],
            "last": row["last"],
        }
        for row in journal.all(
            "SELECT series.uid, series.state, delivery.reason, count(*) AS objects, max(delivery.settled) AS last "
            "FROM delivery JOIN series ON series.id = delivery.series WHERE delivery.destination = ? "
            f"AND delivery.state = 'dead' GROUP BY series.id, delivery.reason ORDER BY last DESC LIMIT {_LISTED}",
            name,
        )
    ]


def _attention(told):
    if not told["node"]["runs"]:
        yield "the node does not run"
    disk = told["disk"]
    if disk["free_bytes"] < disk["reserve_bytes"]:
        yield "the disk is nearly full: slices are refused"
    if told["series"]["failed"]:
        yield f"series that failed: {told['series']['failed']}"
    for one in told["destinations"]:
        if one["outage"]:
            yield f"{one['name']} is out of reach: {one['outage']['reason']}"
        elif one["refused"]:
            yield f"{one['name']} refuses {one['refused']['objects']} objects: {one['refused']['reason']}"
        if one["dead"]:
            yield f"dead letters for {one['name']}: {one['dead']}"
        if one["queued"] and not one["configured"]:
            yield f"waiting for {one['name']}, which is not in the configuration any more: {one['queued']}"


def _plain(text, spool):
    """A sentence without UIDs and paths; the spool's own path may hold spaces."""
    return _UID.sub("…", _PATH.sub("…", text.replace(str(spool.folder), "/")))
