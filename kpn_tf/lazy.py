"""Public names of a package that are resolved on first use."""

import importlib


def public_names(package, modules, extra=None):
    """Returns `__getattr__` and `__dir__` of a package whose names live in modules that cost time and memory to load.

    Args:
        package: Name of the package.
        modules: Dict from public name to the module that holds it.
        extra: The extra that brings TensorFlow and Keras, where the error shall name it.

    Example:

    >>> getattr_, dir_ = public_names("kpn_tf", {"WINDOWS": "kpn_tf.hounsfield"})
    >>> sorted(getattr_("WINDOWS"))[:2], dir_()
    (['full', 'lung'], ['WINDOWS'])
    """

    def getattr_(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(modules[name]), name)
        except ModuleNotFoundError as missing:
            if extra is None or missing.name not in ("tensorflow", "keras"):
                raise
            raise ImportError(
                f"{package}.{name} needs the training extra: in a checkout, pip install '.[{extra}]'"
            ) from None

    return getattr_, lambda: list(modules)
