"""The tables of the journal, and how those of an older version become these."""

import secrets

# received: slices are coming; complete: no more are; denoised: what goes out is on disk; sent: every destination has
# settled; done: its files are deleted. failed: nothing could be made of it, its originals are kept for `dead_days`.
STATES = ("received", "complete", "denoised", "sent", "done", "failed")

VERSION = 4

# `series.uid` tells a series of a sender from all others: a UID made from patient, study and series
# (`kpn_tf.dicom.identity.series_key`).
# `total` only ever grows, whatever retention deletes: a counter that monitoring can rely on.
_SCHEMA = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL,
    peer TEXT NOT NULL,
    state TEXT NOT NULL,
    opened REAL NOT NULL,
    changed REAL NOT NULL,
    expected INTEGER NOT NULL DEFAULT 0,
    slices INTEGER NOT NULL DEFAULT 0,
    modality TEXT NOT NULL,
    description TEXT NOT NULL,
    kernel TEXT NOT NULL,
    thickness_mm REAL,
    processed INTEGER NOT NULL DEFAULT 0,
    rule TEXT NOT NULL DEFAULT '',
    weights TEXT NOT NULL DEFAULT '',
    strengths TEXT NOT NULL DEFAULT '1.0',
    noise_hu REAL,
    found TEXT NOT NULL DEFAULT '',
    destinations TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0.0,
    derived INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    denoised REAL
);
CREATE UNIQUE INDEX open_series ON series (uid, peer) WHERE state = 'received';
CREATE INDEX series_state ON series (state);
CREATE INDEX series_uid ON series (uid);
CREATE INDEX series_opened ON series (opened);
CREATE INDEX series_denoised ON series (denoised);
CREATE TABLE instance (
    sop_uid TEXT NOT NULL,
    series INTEGER NOT NULL REFERENCES series (id),
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    file TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    syntax TEXT NOT NULL,
    arrived REAL NOT NULL,
    PRIMARY KEY (sop_uid, series)
);
CREATE INDEX instance_series ON instance (series);
CREATE TABLE place (
    series INTEGER NOT NULL REFERENCES series (id),
    plane TEXT NOT NULL,
    position_mm REAL NOT NULL
);
CREATE INDEX place_series ON place (series);
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series (id),
    destination TEXT NOT NULL,
    sop_uid TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    syntax TEXT NOT NULL,
    file TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    refusals INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0.0,
    reason TEXT NOT NULL DEFAULT '',
    queued REAL NOT NULL,
    settled REAL,
    UNIQUE (destination, sop_uid, series)
);
CREATE INDEX delivery_due ON delivery (destination, state, due);
CREATE INDEX delivery_series ON delivery (series, state);
CREATE INDEX delivery_settled ON delivery (destination, state, settled);
CREATE TABLE outage (
    destination TEXT PRIMARY KEY,
    since REAL NOT NULL,
    failures INTEGER NOT NULL,
    due REAL NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE watched (
    path BLOB PRIMARY KEY,
    bytes INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    seen REAL NOT NULL,
    digest TEXT NOT NULL
);
CREATE TABLE secret (key BLOB NOT NULL);
CREATE TABLE total (
    what TEXT NOT NULL,
    destination TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (what, destination)
);
CREATE TRIGGER total_received AFTER UPDATE OF slices ON series BEGIN
    INSERT INTO total VALUES ('received', '', NEW.slices - OLD.slices)
    ON CONFLICT DO UPDATE SET number = number + excluded.number; END;
CREATE TRIGGER total_denoised AFTER UPDATE OF state ON series WHEN NEW.state = 'denoised' BEGIN
    INSERT INTO total VALUES ('denoised', '', NEW.derived)
    ON CONFLICT DO UPDATE SET number = number + excluded.number; END;
CREATE TRIGGER total_settled AFTER UPDATE OF state ON delivery WHEN NEW.state IN ('sent', 'dead') BEGIN
    INSERT INTO total VALUES (NEW.state, NEW.destination, 1)
    ON CONFLICT DO UPDATE SET number = number + excluded.number; END;
"""

_STATEMENTS = _SCHEMA.split(";\n")


def bring_up(connection):
    """Makes the tables of a new journal, or alters those of an older version; inside of a transaction.

    Args:
        connection: To the journal, a `sqlite3.Connection`.

    Returns:
        Version of the journal, which is above `VERSION` if a newer package wrote it: then nothing is done.
    """
    version = version_of(connection)
    if version >= VERSION:
        return version
    if version == 0:
        _make(connection)
    else:
        _migrate(connection, version)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return VERSION


def version_of(connection):
    """Version of a journal; 0 if it is new."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _make(connection):
    for statement in _STATEMENTS:
        connection.execute(statement)
    connection.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))


_SERIES = (
    "id, uid, peer, state, opened, changed, expected, slices, modality, description, kernel, thickness_mm, processed, "
    "rule, {how}, destinations, note, attempts, due, derived, seconds, denoised"
)
# Before version 4 it was not noted which strength was found for a noise. Before version 3 a series had one strength,
# and none was found for a noise.
_SERIES_OF_3 = _SERIES.format(how="weights, strengths, noise_hu, ''")
_SERIES_OF_2 = _SERIES.format(how="preset, CAST(strength AS TEXT), NULL, ''")


def _migrate(connection, version):
    tables = [("series", _SERIES_OF_3 if version == 3 else _SERIES_OF_2)]
    if version == 1:
        # A series was known by its SeriesInstanceUID alone. It keeps that, and what is sent again of it counts as new.
        # Nor was it noted what was in a watched file.
        tables += [("instance", "*"), ("delivery", "*"), ("watched", "*, ''")]
    for table, values in tables:
        connection.execute(f"CREATE TABLE old AS SELECT * FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        for statement in _STATEMENTS:
            if f"TABLE {table} " in statement or f" ON {table} " in statement:
                connection.execute(statement)
        connection.execute(f"INSERT INTO {table} SELECT {values} FROM old")
        connection.execute("DROP TABLE old")
