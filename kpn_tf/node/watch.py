"""The folder contract of research routers: what is put into one folder appears, denoised, in another."""

import contextlib
import hashlib
import os
import stat
import time
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import ImplicitVRLittleEndian

from kpn_tf import __version__
from kpn_tf.dicom.attributes import text
from kpn_tf.dicom.reading.header import CT_CLASSES
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.node import log
from kpn_tf.node.conductor import Conductor
from kpn_tf.node.inbox import Inbox
from kpn_tf.node.journal import arrivals
from kpn_tf.node.listener.arrival_reader import ArrivalReader
from kpn_tf.node.opening import opened
from kpn_tf.node.stopping import told_to_stop

# A file is looked at when it has not changed between two looks at its folder.
LOOK_S = 1.0

_DAY_S = 86400.0

# What has been seen is remembered for so long after it has gone.
_FORGOTTEN_DAYS = 30.0

_BLOCK = 1 << 20

_OTHER_CONTENT = "has the UID of another object that is here already"
_CHANGED = (
    "has changed after its series was complete, and was denoised as it was before; use kpn denoise instead"
)

# Whose slices they are, in place of a calling AE title.
_FOLDER = "folder"


def watch(folder, settings):
    """Denoises what is put into a folder, until SIGTERM or SIGINT.

    Args:
        folder: Searched to the bottom, again and again, and only read.
        settings: A `Settings`; its spool is the output folder, its one rule says how.

    Raises:
        SpoolError: If the output folder cannot be used.
        JournalError: If the journal cannot be used.
        SelfTestError: If the network does not do what it is for.
    """
    log.start()
    with told_to_stop() as stopping, contextlib.ExitStack() as stack:
        inbox, journal, worker = opened(Inbox, settings, stack)
        conductor = Conductor(settings, inbox, journal, worker, lambda: None)
        conductor.start()
        stack.callback(conductor.stop)
        watcher = Watcher(folder, inbox, journal, settings.limits, stopping)
        stack.callback(watcher.stop)
        log.info("started", version=__version__)
        took_s = 0.0
        # A folder that takes long to look through is looked at less often.
        while not stopping.wait(max(LOOK_S, 4.0 * took_s)):
            began = time.monotonic()
            try:
                watcher.look()
            except Exception as error:
                # A full disk, or a share that is away for a moment.
                log.warning("step failed", step="look", error=type(error).__name__)
            took_s = time.monotonic() - began
        log.info("stopping")
    log.info("stopped")


class Watcher:
    """Copies files into the spool, and enters them into the journal, once they are whole.

    Args:
        folder: Where they appear.
        inbox: An `Inbox`.
        journal: A `Journal`.
        limits: `Limits`.
        stopping: `threading.Event`; looked at between two files.
    """

    def __init__(self, folder, inbox, journal, limits, stopping):
        self._folder = os.fsencode(Path(folder).absolute())
        self._inbox = inbox
        self._journal = journal
        self._limits = limits
        self._reader = ArrivalReader(int(limits.object_mb * 1e6))
        self._stopping = stopping
        self._before = {}
        self._full = False
        self._known, self._digests = self._recalled()
        self._remembered = 0.0

    def look(self):
        """Looks through the folder once."""
        seen = dict(self._files())
        for path, state in seen.items():
            if self._stopping.is_set():
                return
            if self._known.get(path) == state:
                continue
            digest = self._digests.get(path, "")
            if self._before.get(path) != state:
                if digest:
                    # Half of it was taken, perhaps: its length may have been set first.
                    arrivals.still_coming(self._journal, digest, time.time())
                continue
            if self._disk_is_full():
                break
            self._digests[path] = self._enter(path, state[0], digest)
            self._known[path] = state
            self._journal.change(
                "INSERT OR REPLACE INTO watched VALUES (?, ?, ?, ?, ?)",
                path,
                *state,
                time.time(),
                self._digests[path],
            )
        self._before = seen
        if time.time() - self._remembered > _DAY_S:
            self._remember(seen)

    def stop(self):
        """Ends its process."""
        self._reader.stop()

    def _files(self):
        """Paths, in bytes, with size and time of the last change, of regular files and links."""
        hidden = {os.fsencode(self._inbox.output), os.fsencode(self._inbox.folder)} - {self._folder}
        for folder, below, names in os.walk(self._folder):
            # The output may lie inside of the input, or be the same folder.
            below[:] = [name for name in below if os.path.join(folder, name) not in hidden]
            for name in names + below:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    # Opening a pipe would wait for ever. What is empty is still to be copied.
                    regular = stat.S_ISREG(status.st_mode) and status.st_size
                    if regular or stat.S_ISLNK(status.st_mode):
                        yield path, (status.st_size, status.st_mtime_ns)

    def _disk_is_full(self):
        free_bytes = self._inbox.free_bytes()
        full = free_bytes < self._limits.keep_free_gb * 1e9
        if full and not self._full:
            log.warning("disk nearly full", free_gb=round(free_bytes / 1e9, 3))
        self._full = full
        return full

    def _enter(self, path, size, replaced):
        """Takes a file, in place of what was taken of it before; returns the digest of what is taken of it now."""
        name = os.fsdecode(path)
        if size > self._limits.object_mb * 1e6:
            log.warning("refused", file=name, reason=f"is larger than {self._limits.object_mb:g} MB")
            return replaced
        # What is worked on must not change or vanish meanwhile.
        # With its suffix, which says whether it should be DICOM.
        copy = self._inbox.incoming / f"{time.time_ns()}{Path(name).suffix[:8]}"
        try:
            if os.path.islink(path):
                # Whoever may write into the folder could have any file of this machine denoised.
                raise DicomError(copy, "is a link, which is not followed", failure=False)
            digest, size = _copied(path, copy)
            sop_class, syntax = _kind(copy)
            if not sop_class or sop_class in CT_CLASSES:
                arrival = self._reader.read(copy, syntax, _FOLDER)
                sop_class = arrival.sop_class
            if sop_class not in CT_CLASSES:
                raise DicomError(copy, "is no CT slice", failure=False)
            arrivals.receive(
                self._journal, self._inbox, copy, arrival, digest, size, time.time(), replaced=replaced
            )
            return digest
        except DicomError as error:
            if error.failure:
                log.warning("refused", file=name, reason=error.reason)
            else:
                log.info("skipped", file=name, reason=error.reason)
        except arrivals.OtherContentError:
            log.warning("refused", file=name, reason=_CHANGED if replaced else _OTHER_CONTENT)
        except (FileNotFoundError, PermissionError, ValueError) as error:
            # It has gone again, or is not for this user.
            log.warning("refused", file=name, reason=f"cannot be read ({type(error).__name__})")
        finally:
            copy.unlink(missing_ok=True)
        return replaced

    def _remember(self, seen):
        """Once a day: what has been away for long is forgotten, a share that is away for a while is not."""
        now = time.time()
        with self._journal.transaction():
            for path in seen.keys() & self._known.keys():
                self._journal.change("UPDATE watched SET seen = ? WHERE path = ?", now, path)
            self._journal.change("DELETE FROM watched WHERE seen < ?", now - _FORGOTTEN_DAYS * _DAY_S)
        self._known, self._digests = self._recalled()
        self._remembered = now

    def _recalled(self):
        rows = self._journal.all("SELECT * FROM watched")
        return (
            {row["path"]: (row["bytes"], row["changed_ns"]) for row in rows},
            {row["path"]: row["digest"] for row in rows},
        )


def _copied(path, copy):
    """Copies a file; returns the SHA-256 of its content and its size, once the copy is on disk."""
    digest = hashlib.sha256()
    with open(path, "rb") as source, open(copy, "xb") as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
        return digest.hexdigest(), target.tell()


def _kind(path):
    """SOP class and transfer syntax as the meta header has them; files from before part 10 have none to tell."""
    try:
        meta = read_file_meta_info(path)
        return text(meta, "MediaStorageSOPClassUID"), meta.TransferSyntaxUID
    except Exception:
        # Whatever is wrong with it is told by whoever reads the file.
        return "", ImplicitVRLittleEndian
