"""The status page of a node in a busy week, in a real browser; every entry is made up."""

import html
import subprocess

from kpn_tf.node import log
from kpn_tf.node.journal import deliveries, retention, steps
from kpn_tf.node.status.page import page
from kpn_tf.node.status.snapshot import snapshot
from tests.browser import HEADLESS
from tests.node_journal import ROOT, Site

# 14 November 2023, 22:13:20 UTC.
NOW = 1_700_000_000.0


def busy_page(folder):
    """Returns the page of a node with a bit of everything."""
    site = Site.made(folder)
    for number in range(1, 6):
        then = NOW - 3600.0 * (30 - 4.1 * number)
        note = "slices are missing at 112.5, 115 mm" if number == 4 else ""
        series = site.arrive_everywhere(number, 40 + 13 * number % 57, then, note)
        if number < 3:
            retention.forget_series(site.spool, site.journal, series, then + 60.0)
    reason = "given up after 3 attempts that ended without an answer"
    site.fail(20, 64, NOW - 5400.0, reason)
    undeliverable = site.receive(21, 58, NOW - 2500.0)
    site.complete(undeliverable, NOW - 2400.0)
    site.denoise(undeliverable, 58, NOW - 2380.0)
    site.keep_dead_letter("pacs", 2, "refuses it with status A900", NOW - 2300.0)
    site.send("pacs", 56, NOW - 2300.0)
    site.send("archive", 58, NOW - 2300.0)
    steps.settle(site.journal, NOW - 2290.0)
    since = NOW - 1500.0
    deliveries.unreachable(site.journal, "archive", "cannot be connected to", lambda failures: 0.0, since)
    deliveries.unreachable(site.journal, "archive", "cannot be connected to", lambda failures: 1580.0, since)
    series = site.receive(22, 77, NOW - 700.0)
    site.complete(series, NOW - 640.0)
    site.denoise(series, 77, NOW - 600.0, 15.2)
    site.send("pacs", 31, NOW - 590.0)
    site.complete(site.receive(23, 120, NOW - 90.0), NOW - 30.0)
    site.complete(site.receive(24, 96, NOW - 80.0), NOW - 20.0)
    site.receive(25, 33, NOW - 2.0)
    busy = log.pseudonym(site.journal.key, f"{ROOT}.23"), 47, 120
    told = snapshot(
        site.settings, site.spool, site.journal, NOW, runs=True, started=NOW - 9.2 * 86400.0, busy=busy
    )
    site.journal.close()
    told["disk"]["free_bytes"] = 812_000_000_000
    return page(told)


def framed(*frames):
    """Documents, each with a size, in frames side by side: chromium's own window is never narrower than 500 pixels."""
    frames = "".join(
        f'<iframe width="{width}" height="{height}" srcdoc="{html.escape(document)}"></iframe>'
        for document, (width, height) in frames
    )
    style = "body { margin: 0; display: flex; gap: 16px; padding: 16px; background: #8a939c } iframe { border: 0 }"
    return f"<!DOCTYPE html><style>{style}</style>{frames}"


def browse(document, folder, *options):
    """Opens a document in a browser without a window; returns what that prints."""
    path = folder / "page.html"
    path.write_text(document, encoding="utf-8")
    command = [*HEADLESS, f"--user-data-dir={folder / 'browser'}", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
