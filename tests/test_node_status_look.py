"""The status page fits a phone and a laptop, and can be read on both by day and by night."""

import json
import re

import pytest

from tests.browser import CHROMIUM, LAPTOP, PHONE
from tests.busy_status_page import browse, busy_page, framed

# The narrowest phone in use, and either side of where tables become cards.
SIZES = ((360, 640), PHONE, (1020, 800), (1050, 800), LAPTOP)

_MEASURE = """
<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const inside = frame.contentDocument, root = inside.documentElement;
    const shown = [...inside.body.querySelectorAll("*")].filter((one) => !one.closest("thead"));
    return {
      width: root.clientWidth,
      scrolled: root.scrollWidth,
      right: Math.max(...shown.map((one) => one.getBoundingClientRect().right)),
      spilled: shown.filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0).length,
      card: getComputedStyle(inside.querySelector("tr")).display,
      font: Math.min(...shown.map((one) => parseFloat(getComputedStyle(one).fontSize))),
    };
  });
  document.body.textContent = JSON.stringify(found);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_nothing_runs_over_the_edge_of_a_phone_or_a_laptop(tmp_path):
    # The longest title there can be, and a rule that somebody has named at length.
    document = busy_page(tmp_path).replace("SCANNER1", "W" * 16).replace(">chest<", f">{'thorax_' * 12}<")
    frames = framed(*((document, size) for size in SIZES))
    dumped = browse(frames + _MEASURE, tmp_path, "--window-size=4400,900", "--dump-dom")
    frames = json.loads(re.search(r"<body>(\[.*\])</body>", dumped)[1])
    for frame, (width, _) in zip(frames, SIZES, strict=True):
        # A scrollbar takes its part.
        assert width - 20 <= frame["width"] <= width
        assert frame["scrolled"] <= frame["width"]
        assert frame["right"] <= frame["width"]
        assert frame["spilled"] == 0
        assert frame["font"] >= 12
    assert [frame["card"] for frame in frames] == [*["flex"] * 3, *["table-row"] * 2]


def luminance(colour):
    """Relative luminance of `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(tmp_path, scheme):
    roots = re.findall(r":root \{[^}]*\}", busy_page(tmp_path))
    colours = dict(re.findall(r"--(\w+): (#\w+);", roots[scheme]))
    for ink in ("ink", "dim", "good", "bad"):
        for behind in ("page", "card"):
            lighter, darker = sorted((luminance(colours[ink]), luminance(colours[behind])), reverse=True)
            # WCAG 2.2, 1.4.3, for text of any size.
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5
