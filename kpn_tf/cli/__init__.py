"""The command line `kpn`: the only place that knows every part of the package."""

from kpn_tf.cli.commands import main

__all__ = ["main"]
