"""What happens to a series: it becomes complete, it is denoised, it is sent, its files are deleted."""

import os
import sqlite3
import threading
import time

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from kpn_tf.node import log
from kpn_tf.node.journal import arrivals, deliveries, retention, steps
from kpn_tf.node.journal.journal import DAMAGED_S, JournalError, Object
from kpn_tf.node.network.worker_process import WorkerError
from kpn_tf.node.rule import first_match

# How often is looked for what has become due; arrivals and retries through the journal are noticed then.
TICK_S = 0.5


class Conductor:
    """Two threads between `start` and `stop`: one that closes series, and one that has them denoised.

    Args:
        settings: A `Settings`.
        spool: A `Spool`.
        journal: A `Journal`.
        worker: A `Worker`.
        queued: Function that is called when there is something to send.
    """

    def __init__(self, settings, spool, journal, worker, queued):
        self._settings = settings
        self._spool = spool
        self._journal = journal
        self._worker = worker
        self._queued = queued
        # Senders, and the number of their last turn.
        self._served, self._turns = {}, 0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(step,), name=f"kpn-{step.__name__}")
            for step in (self.close_series, self.denoise_series)
        ]
        self.busy = None

    def start(self):
        """Starts both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Ends both; a series that is being denoised will be begun anew."""
        self._stopping.set()
        self._worker.stop()
        for thread in self._threads:
            thread.join()

    def _loop(self, step):
        while not self._stopping.is_set():
            try:
                more = step()
            except JournalError as error:
                log.warning("journal damaged", reason=str(error))
                self._stopping.wait(DAMAGED_S)
                more = False
            except Exception as error:
                # A full disk, most likely. What was begun is begun again; a thread that has ended begins nothing.
                log.warning("step failed", step=step.__name__, error=type(error).__name__)
                more = False
            if not more:
                self._stopping.wait(TICK_S)

    def close_series(self):
        """Closes the series that are complete, and those of which everything has arrived; deletes what is due."""
        now = time.time()
        limits = self._settings.limits
        whole = arrivals.finished(self._journal, self._settings.node.quiet_s, now)
        parts = set(arrivals.full(self._journal, limits.series_slices, limits.series_gb * 1e9, now))
        for series in [*whole, *sorted(parts.difference(whole))]:
            try:
                self._close(series, now, whole=series in whole)
            except JournalError:
                raise
            except Exception as error:
                # One that cannot be closed holds up no other.
                log.warning("step failed", step="close", error=type(error).__name__)
        for row in steps.settle(self._journal, now):
            log.info(
                "sent",
                series=self._name(row),
                destinations=row["destinations"].split(),
                dead_letters=deliveries.dead_letters(self._journal, row["id"]),
            )
        retention.delete_due(self._settings, self._spool, self._journal, now)
        return False

    def _close(self, series, now, *, whole):
        row = self._journal.one("SELECT * FROM series WHERE id = ?", series)
        rule = first_match(self._settings.rule, steps.traits(row))
        notes = [] if whole else ["a part of its series: others follow"]
        # What a part lacks may come with the next.
        missing = arrivals.missing_mm(self._journal, row) if whole else []
        if missing:
            shown = ", ".join(f"{position:g}" for position in missing[:5])
            notes.append(f"slices are missing at {shown}{' ...' if len(missing) > 5 else ''} mm")
        came = arrivals.came(self._journal, row)
        if whole and came < row["expected"]:
            notes.append(f"{came} of {row['expected']} slices came")
        if rule is None:
            notes.append("no rule matches")
        elif row["processed"] and rule.weights:
            notes.append("not denoised: made by kpn_tf")
        self._remove_dead_letters(steps.complete(self._journal, series, rule, "; ".join(notes), now))
        log.info(
            "complete",
            series=self._name(row),
            slices=row["slices"],
            rule=rule.name if rule else None,
            missing_mm=missing[:100],
            note="; ".join(notes),
        )
        self._queued()

    def denoise_series(self):
        """Has the next complete series denoised; returns whether there was one."""
        row = steps.next_complete(self._journal, time.time(), self._settings.retry.longest_s, self._served)
        if row is None:
            return False
        self._turns += 1
        self._served[row["peer"]] = self._turns
        if not row["weights"]:
            steps.denoised(self._journal, row["id"], [], row["note"], None, time.time())
        else:
            self._denoise(row)
        self._queued()
        return True

    def _denoise(self, row):
        series, name = row["id"], self._name(row)
        if row["attempts"] >= self._settings.retry.attempts:
            self._fail(row, f"given up after {row['attempts']} attempts that ended without an answer")
            return
        # All that lies there is denoised: it must be what was acknowledged, and nothing else.
        self._spool.keep_only(series, {entry.file for entry in arrivals.objects(self._journal, series)})
        steps.attempt(self._journal, series)
        self.busy = name, 0, row["slices"]
        try:
            answer = self._worker.ask(
                {
                    "weights": row["weights"],
                    "strengths": [float(word) for word in row["strengths"].split()],
                    "noise_hu": row["noise_hu"],
                    "found": steps.found(self._journal, row),
                    "device": self._settings.node.device,
                    "threads": self._settings.node.threads,
                    "input": str(self._spool.originals(series)),
                    "output": str(self._spool.derived(series)),
                },
                progress=self._progress(name, row["slices"]),
            )
        except WorkerError as error:
            if self._stopping.is_set():
                steps.postpone(self._journal, series, 0.0, row["note"])
                return
            self._again(row, str(error))
            return
        finally:
            self.busy = None
        if answer.get("passing"):
            self._again(row, answer["reason"])
        elif not answer["ok"]:
            self._fail(row, answer["reason"])
        elif answer["stopped"]:
            self._postpone(row)
        elif not answer["derived"] and answer["failed"]:
            self._fail(row, answer["reason"])
        else:
            try:
                self._finish(row, answer)
            except (OSError, sqlite3.Error):
                self._postpone(row)

    def _again(self, row, reason):
        attempt = row["attempts"] + 1
        steps.again(self._journal, row["id"], time.time() + self._settings.retry.pause_s(attempt))
        log.warning("denoising failed", series=self._name(row), reason=reason, attempt=attempt)

    def _postpone(self, row):
        # The disk, not the series.
        due = time.time() + self._settings.retry.longest_s
        steps.postpone(self._journal, row["id"], due, row["note"])
        log.warning("denoising postponed", series=self._name(row), reason="output cannot be written")

    def _finish(self, row, answer):
        objects = [
            # As `derive_slice` makes them, and `write_slice` names them.
            Object(
                path.stem,
                str(CTImageStorage),
                str(ExplicitVRLittleEndian),
                os.path.relpath(path, self._spool.folder),
            )
            for uid in answer["derived"]
            for path in self._spool.publish(row["id"], uid)
        ]
        notes = [row["note"]] if row["note"] else []
        if answer["failed"]:
            notes.append(f"{answer['failed']} slices could not be denoised: the first {answer['reason']}")
        elif not objects:
            # A scout view is nothing to complain of.
            notes.append(f"not denoised: {answer['reason']}")
        if answer.get("warnings"):
            notes.append(answer["warnings"])
        note = "; ".join(notes)
        self._remove_dead_letters(
            steps.denoised(
                self._journal,
                row["id"],
                objects,
                note,
                answer["seconds"],
                time.time(),
                found=answer.get("found"),
            )
        )
        log.info(
            "denoised",
            series=self._name(row),
            slices=len(objects),
            failed=answer["failed"],
            note=note,
            seconds=round(answer["seconds"], 3),
        )

    def _remove_dead_letters(self, files):
        for file in files:
            self._spool.remove_dead_letter(file)

    def _fail(self, row, reason):
        note = f"{row['note']}; {reason}" if row["note"] else reason
        steps.fail(self._journal, row["id"], note, time.time())
        log.warning("failed", series=self._name(row), reason=reason)

    def _progress(self, name, slices):
        def told(done):
            self.busy = name, done, slices

        return told

    def _name(self, row):
        return log.pseudonym(self._journal.key, row["uid"])
