"""The picture of a node's status page in the docs, with Debian's chromium.

`python -m benchmarks.status_picture docs/images/node_status.png`
"""

import sys
import tempfile
from pathlib import Path

from tests.browser import PHONE
from tests.busy_status_page import browse, busy_page, framed

_HEIGHT = 1510


def main(target):
    """Takes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # Scrollbars would be the browser's, not the page's.
        document = busy_page(folder).replace("</style>", "html { scrollbar-width: none; }</style>")
        by_night = document.replace("(prefers-color-scheme: dark)", "all").replace("light dark", "dark")
        laptop, phone = (1100, _HEIGHT), (PHONE[0], _HEIGHT)
        width, height = laptop[0] + phone[0] + 48, _HEIGHT + 32
        browse(
            framed((document, laptop), (by_night, phone)),
            folder,
            f"--screenshot={target}",
            f"--window-size={width},{height}",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
