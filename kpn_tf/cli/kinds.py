"""Words of the command line -> values, each with its range."""

import argparse
import math
import urllib.parse
from pathlib import Path

from kpn_tf.hounsfield import WINDOWS

# An observer of five channels wants more than eight images in all, also where one of each kind is left out.
_FEWEST_REALISATIONS = 6


def path(word):
    """A file or a folder. An empty word, from a variable that is not set, would mean the current folder."""
    if not word:
        raise argparse.ArgumentTypeError("expected a file or a folder, received an empty word")
    return Path(word)


def fraction(word):
    """A number from 0 to 1, both allowed."""
    value = float(word)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, received {word}")
    return value


def dose(word):
    """A fraction of a dose: between 0 and 1, neither allowed."""
    value = float(word)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a fraction between 0 and 1, received {word}")
    return value


def count(word):
    """A whole number from 1 on."""
    return _whole(word, 1)


def seed(word):
    """A whole number from 0 on."""
    return _whole(word, 0)


def patch(word):
    """The side of a patch: a whole number from that of the largest kernel on."""
    return _whole(word, 21)


def slices(word):
    """How many slices a network sees: 1, 3 or 5."""
    if word not in ("1", "3", "5"):
        raise argparse.ArgumentTypeError(f"expected 1, 3 or 5, received {word}")
    return int(word)


def workers(word):
    """A number of devices, or the name of the environment variable that says which machines there are."""
    if word == "TF_CONFIG":
        return word
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on or TF_CONFIG, received {word}")
    return int(word)


def positive(word):
    """A finite number above 0."""
    value = float(word)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, received {word}")
    return value


def scheduler(word):
    """A Dask scheduler: `local`, or the address of one."""
    address = urllib.parse.urlsplit(word)
    if word != "local" and not (address.scheme == "tcp" and address.hostname and address.port):
        raise argparse.ArgumentTypeError(f"expected local or tcp://HOST:PORT, received {word}")
    return word


def one_of(*names):
    """Returns the kind of words that are one of these names."""

    def name(word):
        if word not in names:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, received {word}")
        return word

    return name


convention = one_of(*WINDOWS)


def _whole(word, least):
    value = int(word)
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, received {word}")
    return value


def realisations(word):
    """Scans of a phantom with, and as many without lesions."""
    value = count(word)
    if value < _FEWEST_REALISATIONS:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from {_FEWEST_REALISATIONS} on, received {word}"
        )
    return value
