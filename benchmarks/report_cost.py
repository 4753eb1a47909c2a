"""What a report costs: `python -m benchmarks.report_cost [LOW NORMAL]`, with Debian's chromium on an idle machine.

LOW and NORMAL are folders with a series at both doses; by default 30 slices of the digital torso.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.report_picture import write_scan
from kpn_tf import cli
from tests.browser import LAPTOP, Browser, choose

_HOVERS = 60


def hovers(browser, places):
    """Median and longest milliseconds from a move of the mouse to the kernel's numbers in the page."""
    told = []
    for x, y in places:
        browser.mouse("mouseMoved", x, y)
        told.append(browser.evaluate("Number(document.body.dataset.answerMs)"))
    return f"median {statistics.median(told):.1f} ms, longest {max(told):.1f} ms"


def main(folders):
    """Writes a report, opens it and prints what that took."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if not folders:
            write_scan(folder, slices=30)
            folders = (folder / "low", folder / "normal")
        report, began = folder / "report.html", os.times()
        cli.main(
            ["report", str(folders[0]), "--reference", str(folders[1]), str(report), "--weights", "edge"]
        )
        took = np.subtract(os.times(), began)
        print(f"written in {took[4]:.1f} s, {sum(took[:4]):.1f} s of CPU time")
        print(f"file: {report.stat().st_size / 1e6:.1f} MB")
        with Browser(folder / "browser", LAPTOP) as browser:
            print(browser.send("Browser.getVersion")["product"])
            browser.open(report)
            browser.wait("document.body.dataset.slice !== undefined")
            (x, y), rng = browser.middle("#left canvas"), np.random.default_rng(7)
            print(
                "hover anywhere:",
                hovers(browser, rng.uniform([x - 150, y - 150], [x + 150, y + 150], (_HOVERS, 2)).tolist()),
            )
            print("hover beside:", hovers(browser, [(x - 100 + 2 * i, y + i) for i in range(_HOVERS)]))
            browser.evaluate("began = performance.now()")
            choose(browser, "left", "direction")
            choose(browser, "right", "radius")
            print(f"maps of all kernels: {browser.evaluate('performance.now() - began') / 1000:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
