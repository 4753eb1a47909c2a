"""Packages of the extra `baselines`, imported when a denoiser is made; licences that are not free are named."""

import functools
import importlib
import warnings


class LicenceWarning(UserWarning):
    """What follows uses software that is not free for every purpose."""


def package_of(method, name):
    """Imports what a method needs.

    Args:
        method: What the error calls it.
        name: Of the package.

    Returns:
        The module.

    Raises:
        ImportError: If the extra is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{method} needs the baselines extra: in a checkout, pip install '.[baselines]'"
        ) from error


@functools.cache
def warn_of_licence(method, name):
    """Says once per process what may be done with a package of Tampere University.

    Args:
        method: What the warning calls it.
        name: Of the package.
    """
    licence = (
        f"{method}: the package {name} (Tampere University) may be used for non-commercial purposes only"
    )
    warnings.warn(licence, LicenceWarning, stacklevel=3)
