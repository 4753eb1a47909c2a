"""The command `kpn` in the process of the tests, and the network that stands in for the shipped one."""

from pathlib import Path

from kpn_tf import cli

# The 7x7 mean: as a network it is fast, and what it does to a slice is known.
BOX = Path(__file__).parent / "golden" / "standins" / "box.tflite"


def kpn(*words):
    """Runs `kpn` in this process and returns its exit status."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code
