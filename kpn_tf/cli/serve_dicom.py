"""`kpn serve-dicom`: the node, until it is told to stop."""

import dataclasses
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf.cli.commands import OK, complain_of_usage
from kpn_tf.console import say
from kpn_tf.node.settings import SettingsError, check_networks, read_settings


@dataclasses.dataclass(frozen=True)
class ServeDicomConfig:
    """Options of `kpn serve-dicom`."""

    config: Path = field(metadata={"help": "TOML file: docs/node.md", "former": ("--config",)})
    check: bool = field(default=False, metadata={"help": "only check the file"})


def run(config):
    """Runs the command.

    Returns:
        Exit status: 2 where starting it again would not help.
    """
    if sys.platform == "win32":
        # Its spool is closed to other users by modes, and it was never tried there.
        return complain_of_usage(
            "kpn serve-dicom",
            "Expected Linux or macOS. Received: Windows; run the node on another machine, or denoise folders here with "
            "kpn denoise",
        )
    try:
        settings = read_settings(config.config)
        check_networks(settings)
    except SettingsError as error:
        for mistake in error.mistakes:
            status = complain_of_usage("kpn serve-dicom", mistake)
        return status
    # pynetdicom is loaded only now: a wrong configuration is told without it.
    from kpn_tf.node.journal.journal import JournalError
    from kpn_tf.node.network.self_test import SelfTestError
    from kpn_tf.node.service import contexts, serve

    try:
        if config.check:
            contexts(settings.tls)
            say(f"{config.config}: nothing is wrong with it", sys.stdout)
        else:
            serve(settings)
    except (JournalError, SelfTestError) as error:
        return complain_of_usage("kpn serve-dicom", error)
    return OK
