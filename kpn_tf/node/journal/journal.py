"""The memory of a node: which slices came, what became of their series, what is still to be sent.

SQLite with a write-ahead log. A transaction that has returned is on disk (`synchronous = FULL`), so what was
answered to a scanner survives `kill -9` and a power cut. Every step can be taken twice: a step that was cut off is
simply taken again.
"""

import contextlib
import os
import secrets
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

# received: slices are coming; complete: no more are; denoised: what goes out is on disk; sent: every destination has
# settled; done: its files are deleted. failed: nothing could be made of it, its originals are kept for `dead_days`.
STATES = ("received", "complete", "denoised", "sent", "done", "failed")

_VERSION = 2

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
    preset TEXT NOT NULL DEFAULT '',
    strength REAL NOT NULL DEFAULT 1.0,
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


# SQLITE_CORRUPT and SQLITE_NOTADB, of which there are kinds in the higher bits.
_DAMAGED = {11, 26}

# How often a damaged journal is tried again, and complained of.
DAMAGED_S = 60.0


class JournalError(ValueError):
    """The journal cannot be used; one sentence that names the file and says what to do."""


@dataclass(frozen=True)
class Object:
    """A DICOM file that is kept.

    Args:
        sop_uid: SOP Instance UID.
        sop_class: SOP Class UID.
        syntax: Transfer Syntax UID.
        file: Path below the spool.
    """

    sop_uid: str
    sop_class: str
    syntax: str
    file: str


class Journal:
    """Opens the journal, making it if there is none. Calls may come from any thread, and from other processes.

    Args:
        path: The file, mode 0600.
        read_only: For looking on: nothing is made.

    Raises:
        JournalError: If it cannot be opened, is damaged, or was written by a newer version. Methods raise it, too, when
            they come upon damage.
    """

    def __init__(self, path, *, read_only=False):
        path = self._path = Path(path)
        self._lock = threading.RLock()
        try:
            if not read_only:
                # SQLite gives its companion files the mode of this one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            mode = "ro" if read_only else "rw"
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=30.0,
            )
            self._connection.row_factory = sqlite3.Row
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                # What is deleted is overwritten: it says whose images these were.
                self._connection.execute("PRAGMA secure_delete = ON")
                (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise self._damage(found.rpartition("***\n")[2])
            with self.transaction() if not read_only else contextlib.nullcontext():
                version = self._connection.execute("PRAGMA user_version").fetchone()[0]
                if version < _VERSION and not read_only:
                    (self._make if version == 0 else self._migrate)()
                    self._connection.execute(f"PRAGMA user_version = {_VERSION}")
            if version > _VERSION:
                raise JournalError(
                    f"Expected a journal of version {_VERSION}. Received: {path}, which is of {version}"
                )
            self.key = self.one("SELECT key FROM secret")["key"]
        except (OSError, sqlite3.Error) as error:
            if _is_damage(error):
                raise self._damage(error) from error
            raise JournalError(
                f"Expected a journal that can be opened. Received: {path} ({error})"
            ) from error

    def _make(self):
        for statement in _STATEMENTS:
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))

    def _migrate(self):
        # In version 1 a series was known by its SeriesInstanceUID alone. It keeps that, and what is sent again of it
        # counts as new.
        # Nor was it noted what was in a watched file.
        for table, values in (("instance", "*"), ("delivery", "*"), ("watched", "*, ''")):
            self._connection.execute(f"CREATE TABLE old AS SELECT * FROM {table}")
            self._connection.execute(f"DROP TABLE {table}")
            for statement in _STATEMENTS:
                if f"TABLE {table} " in statement or f" ON {table} " in statement:
                    self._connection.execute(statement)
            self._connection.execute(f"INSERT INTO {table} SELECT {values} FROM old")
            self._connection.execute("DROP TABLE old")

    def reader(self):
        """Returns a `Journal` that looks on through a connection of its own: neither waits for the other."""
        return Journal(self._path, read_only=True)

    def close(self):
        """Writes everything into the one file and lets go of it."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self):
        """All of what happens inside, on disk, or nothing of it."""
        with self._in_use():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def all(self, statement, *values):
        """Rows of a query, as a list."""
        with self._in_use():
            return self._connection.execute(statement, values).fetchall()

    def one(self, statement, *values):
        """First row of a query, or `None`."""
        with self._in_use():
            return self._connection.execute(statement, values).fetchone()

    def change(self, statement, *values):
        """Makes a change; returns how many rows it touched. Outside of `transaction` it is one by itself."""
        with self._in_use():
            return self._connection.execute(statement, values).rowcount

    @contextlib.contextmanager
    def _in_use(self):
        """Nobody else's meanwhile; damage is told as what it is."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                if _is_damage(error):
                    raise self._damage(error) from error
                raise

    def _damage(self, found):
        return JournalError(
            f"Expected a journal that is whole. Received: {self._path}, which is damaged ({found}); stop the node, and "
            "put a copy of the spool back or move this journal away (docs/node.md, Operation)"
        )


def _is_damage(error):
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
