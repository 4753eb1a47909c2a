"""Tells Keras, once both are imported, where the classes in saved networks are: `import kpn_tf` loads no Keras.

Keras finds a class of a package only if the module with its decorator was imported. So that a file of ours loads
after `import kpn_tf` alone, each name is registered with a stand-in that imports the module when it is needed.
"""

import importlib
import importlib.abc
import importlib.util
import sys

# Name in a saved network -> module that holds it.
SAVED = {
    "EdgeTrunk": "kpn_tf.networks.trunks",
    "FilterMixture": "kpn_tf.layers",
    "HuberError": "kpn_tf.losses",
    "LocalConv": "kpn_tf.layers",
    "PaperTrunk": "kpn_tf.networks.trunks",
    "PSNR": "kpn_tf.losses",
    "REDCNN": "baselines.redcnn",
    "ResidualBlock": "kpn_tf.layers",
    "SSIM": "kpn_tf.losses",
    "SliceDistances": "kpn_tf.layers",
    "StackKPN": "kpn_tf.networks",
    "StackMixture": "kpn_tf.layers",
    "StackTrunk": "kpn_tf.networks.trunks",
    "StructKPN": "kpn_tf.networks",
    "StructureAwareLoss": "kpn_tf.losses",
    "WavResNet": "baselines.wavresnet",
}
SAVED_FUNCTIONS = {"absolute_error": "kpn_tf.losses"}


def register():
    """Registers every class and function that a saved network can name, now or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _KerasFinder())


def _register(keras):
    known = keras.saving.get_custom_objects()
    for name, module in SAVED.items():
        known.setdefault(f"kpn_tf>{name}", _stand_in_class(name, module))
    for name, module in SAVED_FUNCTIONS.items():
        known.setdefault(f"kpn_tf>{name}", _stand_in_function(name, module))


def _stand_in_class(name, module):
    def from_config(config):
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})


def _stand_in_function(name, module):
    def function(*args, **kwargs):
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    function.__name__ = name
    return function


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras as the others do, and registers when it has been imported."""

    def find_spec(self, fullname, path, target=None):
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            # Whoever asks whether Keras is there does not import it yet.
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Announcing(spec.loader, self)
        return spec


class _Announcing(importlib.abc.Loader):
    def __init__(self, loader, finder):
        self._loader, self._finder = loader, finder

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # From here on the module has the loader it would have without us.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        sys.meta_path.remove(self._finder)
        _register(module)
