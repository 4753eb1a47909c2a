"""The folder in which a node keeps everything, readable by its owner alone.

- `lock`: held by the node that runs
- `journal.sqlite`: `kpn_tf.node.journal.journal`
- `incoming/`: objects while they arrive
- `series/<number>/originals/`: as they were received
- `series/<number>/derived/<uid>/`: denoised
- `dead/<destination>/<number>/`: what could not be delivered
- `unknown/`: what the journal does not know; a journal may have been lost
"""

import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path

from kpn_tf.files import move, replacing, sync_folder
from kpn_tf.locks import HeldError, hold

# Whoever only asks whether a node runs holds the lock for a moment, too.
_LOCK_PATIENCE_S = 0.5
_ASK_PATIENCE_S = 0.1


class SpoolError(ValueError):
    """The spool cannot be used; one sentence that says why."""


class Spool:
    """Makes the folders if there are none.

    Args:
        folder: The spool.

    Raises:
        SpoolError: If they cannot be made.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.incoming = self.folder / "incoming"
        self.series = self.folder / "series"
        self.dead = self.folder / "dead"
        self.unknown = self.folder / "unknown"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.incoming, self.series, self.dead, self.unknown):
                part.mkdir(mode=0o700, exist_ok=True)
            # A folder that somebody else made may be open to others.
            os.chmod(self.folder, 0o700)
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        except OSError as error:
            raise SpoolError(
                f"Expected a spool that can be written. Received: {self.folder} ({error.strerror})"
            ) from error

    @property
    def journal(self):
        """Path of the journal."""
        return self.folder / "journal.sqlite"

    def lock(self):
        """Makes this process the only node on this spool, for as long as it lives.

        Returns:
            A `kpn_tf.locks.Lock`.

        Raises:
            SpoolError: If another node holds it.
        """
        try:
            lock = hold(self._lock, patience_s=_LOCK_PATIENCE_S)
        except HeldError:
            raise SpoolError(
                f"Expected a spool that no other node uses. Received: {self.folder}; stop that node first"
            ) from None
        if lock.exclusive:
            return lock
        lock.release()
        raise SpoolError(
            f"Expected a spool on a file system with locks. Received: {self.folder}, where two nodes could run; choose "
            "a folder on a local disk"
        )

    def is_locked(self):
        """Whether a node runs on this spool; nothing is made where none ever did."""
        try:
            # Not made: a node of another user could not open it.
            hold(self._lock, create=False, patience_s=_ASK_PATIENCE_S).release()
        except FileNotFoundError:
            return False
        except HeldError:
            return True
        return False

    @property
    def _lock(self):
        return self.folder / "lock"

    def free_bytes(self):
        """Bytes that are free where the spool is."""
        return shutil.disk_usage(self.folder).free

    def take(self, path, series, sop_uid):
        """Moves an object that has arrived, and is synced, to the originals of its series.

        Returns:
            Its path below the spool. No part of it was chosen by the sender.
        """
        originals = self.originals(series)
        if not originals.is_dir():
            originals.mkdir(mode=0o700, parents=True)
            sync_folder(self.series)
            sync_folder(originals.parent)
        target = originals / f"{hashlib.sha256(sop_uid.encode()).hexdigest()[:32]}.dcm"
        move(path, target)
        return str(target.relative_to(self.folder))

    def drop(self, file):
        """Deletes an original that was taken a moment ago."""
        (self.folder / file).unlink(missing_ok=True)

    def keep_only(self, series, files):
        """Sets aside what lies among the originals of a series and is none of `files`, paths below the spool."""
        for path in self.originals(series).glob("*"):
            if str(path.relative_to(self.folder)) not in files:
                self._set_aside(path)

    def originals(self, series):
        """Folder of the objects of a series as they were received."""
        return self.series / str(series) / "originals"

    def derived(self, series):
        """Folder of what was made of a series."""
        return self.series / str(series) / "derived"

    def publish(self, series, uid):
        """Returns the paths of the slices of a derived series, which stay where they are until they are sent."""
        # Whoever wrote the series has synced all but the name of the folder that he was given.
        sync_folder(self.derived(series).parent)
        return sorted((self.derived(series) / uid).glob("*.dcm"))

    def keep_dead_letter(self, file, destination, series):
        """Keeps a file that cannot be delivered, beyond the deletion of its series.

        Returns:
            Its new path below the spool.
        """
        source = self.folder / file
        letter = self.dead / destination / str(series) / source.name
        letter.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not letter.exists():
            try:
                os.link(source, letter)
            except OSError:
                # A file system without hard links.
                with replacing(letter, private=True) as part:
                    shutil.copyfile(source, part)
        sync_folder(letter.parent)
        return str(letter.relative_to(self.folder))

    def remove_dead_letter(self, file):
        """Deletes a dead letter that has been delivered after all; any other file stays."""
        path = self.folder / file
        if path.is_relative_to(self.dead):
            path.unlink(missing_ok=True)
            # The last of its series takes the folder along.
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def remove_series(self, series):
        """Deletes what is kept of a series, apart from dead letters."""
        shutil.rmtree(self.series / str(series), ignore_errors=True)

    def sweep(self, files, series):
        """Clears away what a node that was killed left half done. To be called before anything arrives.

        What was never acknowledged is deleted. What the journal does not know is set aside: it was not acknowledged
        either, unless the journal was lost or an old one was put in its place.

        Args:
            files: Paths below the spool of all files that the journal knows.
            series: Numbers of all series that it knows.

        Returns:
            Number of files and folders that were set aside.
        """
        for path in self.incoming.iterdir():
            path.unlink()
        folders = list(self.series.iterdir())
        strangers = [
            folder for folder in folders if not folder.name.isdigit() or int(folder.name) not in series
        ]
        known = [folder for folder in folders if folder not in strangers]
        kept = [path for folder in known for path in (folder / "originals").glob("*")]
        kept += self.dead.glob("*/*/*")
        strangers += [path for path in kept if str(path.relative_to(self.folder)) not in files]
        for path in strangers:
            self._set_aside(path)
        return len(strangers)

    def _set_aside(self, path):
        # Its age counts from now.
        os.utime(path)
        move(path, self.unknown / f"{time.time_ns()}-{path.name}")

    def forget_unknown(self, before):
        """Deletes what was set aside before a time in seconds since 1970."""
        for path in self.unknown.iterdir():
            if path.stat().st_mtime > before:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
