"""The memory of a node: which slices came, what became of their series, what is still to be sent.

SQLite with a write-ahead log. A transaction that has returned is on disk (`synchronous = FULL`), so what was
answered to a scanner survives `kill -9` and a power cut. Every step can be taken twice: a step that was cut off is
simply taken again.
"""

import contextlib
import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from kpn_tf.node.journal import schema

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
                version = (schema.version_of if read_only else schema.bring_up)(self._connection)
            if version > schema.VERSION:
                raise JournalError(
                    f"Expected a journal of version {schema.VERSION}. Received: {path}, which is of {version}"
                )
            self.key = self.one("SELECT key FROM secret")["key"]
        except (OSError, sqlite3.Error) as error:
            if _is_damage(error):
                raise self._damage(error) from error
            raise JournalError(
                f"Expected a journal that can be opened. Received: {path} ({error})"
            ) from error

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
