"""`kpn node`: how the DICOM node is doing, another chance for what failed, deletion of what has settled."""

import dataclasses
import json
import sys
import time
from dataclasses import field
from pathlib import Path

from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, complain_of_usage
from kpn_tf.console import say
from kpn_tf.node.journal import deliveries, retention, steps
from kpn_tf.node.journal.journal import Journal
from kpn_tf.node.settings import SettingsError, read_settings
from kpn_tf.node.spool import Spool
from kpn_tf.node.status.page import duration
from kpn_tf.node.status.snapshot import snapshot


@dataclasses.dataclass(frozen=True)
class NodeConfig:
    """Options of `kpn node`."""

    action: str = field(
        metadata={
            "help": "status; retry: another chance for what failed; purge: delete now what has settled or failed",
            "kind": kinds.one_of("status", "retry", "purge"),
        }
    )
    config: Path = field(metadata={"help": "TOML file: docs/node.md", "former": ("--config",)})
    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def run(config):
    """Runs the command. The node may run meanwhile: it notices by itself.

    Returns:
        Exit status.
    """
    try:
        settings = read_settings(config.config)
    except SettingsError as error:
        for mistake in error.mistakes:
            status = complain_of_usage("kpn node", mistake)
        return status
    # Opening it would make it; the file is the spool's last part that a node makes.
    if not (settings.node.spool / "journal.sqlite").exists():
        say(f"kpn node: expected the spool of a node. Received: {settings.node.spool}", sys.stderr)
        return FAILED
    spool = Spool(settings.node.spool)
    journal = Journal(spool.journal, read_only=config.action == "status")
    try:
        told = _ACTIONS[config.action](settings, spool, journal)
    finally:
        journal.close()
    if config.json:
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        for line in _LINES[config.action](told):
            say(line, sys.stdout)
    return OK if told.get("ok", True) else FAILED


def _status(settings, spool, journal):
    return snapshot(settings, spool, journal, time.time(), runs=spool.is_locked())


def _retry(settings, spool, journal):
    series, letters = steps.retry(journal, time.time())
    return {"series": series, "letters": letters}


def _purge(settings, spool, journal):
    now = time.time()
    # First, so that nobody can retry what is being deleted.
    steps.write_off(journal, now)
    series = journal.all("SELECT id FROM series WHERE state = 'sent'")
    for row in series:
        retention.forget_series(spool, journal, row["id"], now)
    letters = journal.all("SELECT id FROM delivery WHERE state = 'dead'")
    return {
        "series": len(series),
        "letters": sum(deliveries.discard(journal, row["id"], spool.remove_dead_letter) for row in letters),
    }


def _status_lines(told):
    node, disk, now = told["node"], told["disk"], told["time"]
    yield (
        f"node {node['ae_title']}, port {node['port']}: {'runs' if node['runs'] else 'does not run'}; "
        f"kpn_tf {told['kpn_tf']}"
    )
    for what in told["attention"]:
        yield f"needs attention: {what}"
    yield f"disk: {disk['free_bytes'] / 1e9:.1f} GB free, {disk['reserve_bytes'] / 1e9:g} GB are the reserve"
    yield "series: " + ", ".join(f"{count} {state}" for state, count in told["series"].items())
    flow = told["throughput"]
    for name, span in (("last hour", "hour"), ("last 24 h", "day")):
        counts = flow[span]
        yield (
            f"{name}: {counts['received']} slices received, {counts['denoised']} denoised; "
            f"{counts['sent']} objects sent"
        )
    if flow["seconds_per_slice"] is not None:
        yield f"pace: {flow['seconds_per_slice']:.3f} s/slice in the last series"
    if not flow["sent_kept_whole_day"]:
        yield "files are deleted within a day, and what was sent counts no longer than that"
    for one in told["destinations"]:
        line = f"destination {one['name']}: {one['queued']} queued, {one['dead']} dead, {one['sent_day']} sent in 24 h"
        outage = one["outage"]
        if outage:
            since, wait = duration(now - outage["since"]), duration(outage["next_try"] - now)
            line += f"; {outage['reason']} for {since}, next try in {wait}"
        elif one["refused"]:
            line += f"; refuses {one['refused']['objects']}: {one['refused']['reason']}"
        yield line
    for row in told["last"]:
        yield _series_line(row, now)
    for letter in told["dead_letters"]:
        yield (
            f"dead letters: {letter['objects']} of series {letter['series']} for {letter['destination']}: "
            f"{letter['reason']}"
        )


def _series_line(row, now):
    parts = [
        f"{row['slices']} slices",
        f"{row['derived']} denoised" if row["derived"] else "",
        f"rule {row['rule']}" if row["rule"] else "",
        f"{duration(now - row['changed'])} ago",
        row["note"],
    ]
    return f"series {row['series']} {row['state']}: " + ", ".join(part for part in parts if part)


_ACTIONS = {"status": _status, "retry": _retry, "purge": _purge}
_LINES = {
    "status": _status_lines,
    "retry": lambda told: [f"queued again: {told['series']} series, {told['letters']} dead letters"],
    "purge": lambda told: [f"deleted: {told['series']} series, {told['letters']} dead letters"],
}
