"""The recommended strengths as rules of the DICOM node: a file that it can be started with."""

import json
import re

from kpn_tf.console import printable

# Thickness in headers is rounded by some scanners.
_ROUNDED_MM = 0.05

_HEAD = """\
# Made by kpn study: one rule for each kernel and thickness. kpn serve-dicom FILE --check looks through it.
# The peer, the destination and the spool are examples: write your own.

[node]
spool = "spool"

[[peer]]
ae_title = "SCANNER"
addresses = ["192.0.2.7"]

[[destination]]
name = "archive"
ae_title = "ARCHIVE"
host = "192.0.2.8"
port = 104
"""

_REST = """
# What was not studied is forwarded as it is.
[[rule]]
name = "rest"
weights = ""
originals = true
destinations = ["archive"]
"""


def rules_toml(studied, weights):
    """Writes the rules.

    Rules of the node know neither scanner nor body part: of protocols that share kernel and thickness the smallest
    strength is taken.

    Args:
        studied: List of `(Protocol, Recommendation)`.
        weights: Name of shipped weights, or absolute path of a .tflite.

    Returns:
        TOML, text.
    """
    alike = {}
    for protocol, recommendation in studied:
        alike.setdefault((protocol.kernel, protocol.thickness_mm), []).append((protocol, recommendation))
    parts = [_HEAD]
    for number, ((kernel, thickness_mm), those) in enumerate(alike.items(), 1):
        strength = min(recommendation.strength for _, recommendation in those)
        lines = [
            f"# {protocol.name}: strength {recommendation.strength:g}, leaves {recommendation.noise_hu:.1f} HU"
            for protocol, recommendation in those
        ]
        lines += ["[[rule]]", f"name = {_text(f'study {number}')}", f"kernel = [{_text(_pattern(kernel))}]"]
        if thickness_mm is not None:
            low, high = max(thickness_mm - _ROUNDED_MM, 0.0), thickness_mm + _ROUNDED_MM
            lines.append(f"thickness_mm = [{low:.3f}, {high:.3f}]")
        if strength > 0:
            lines += [f"weights = {_text(weights)}", f"strength = {strength:g}"]
        else:
            lines.append('weights = ""')
        lines += ["originals = true", 'destinations = ["archive"]']
        parts.append("\n" + "\n".join(lines) + "\n")
    return "".join(parts) + _REST


def _pattern(kernel):
    """A pattern that matches this kernel alone.

    Example:

    >>> _pattern("B30f*")
    'B30f[*]'
    """
    return re.sub(r"([*?[])", r"[\1]", kernel)


def _text(value):
    # JSON's strings are TOML's, once nothing unprintable is left.
    return json.dumps(printable(value), ensure_ascii=False)
