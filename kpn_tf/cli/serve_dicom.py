"""`kpn serve-dicom`: the node, until it is told to stop."""

import dataclasses
from dataclasses import field
from pathlib import Path

from kpn_tf.cli.commands import OK, complain_of_usage
from kpn_tf.node.settings import SettingsError, read_settings


@dataclasses.dataclass(frozen=True)
class ServeDicomConfig:
    """What `kpn serve-dicom` is told."""

    config: Path = field(default=None, metadata={"help": "TOML file: docs/node.md", "required": True})


def run(config):
    """Runs the command.

    Returns:
        Exit status.
    """
    try:
        settings = read_settings(config.config)
    except SettingsError as error:
        return complain_of_usage("kpn serve-dicom", error)
    # pynetdicom is loaded only now: a wrong configuration is told without it.
    from kpn_tf.node.service import serve

    serve(settings)
    return OK
