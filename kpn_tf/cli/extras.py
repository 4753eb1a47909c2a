"""Optional parts of the installation, and one line of advice where one is missing."""

import importlib.util

# Extra -> modules it brings; one that is absent means the extra was not installed.
EXTRAS = {
    "train": ("tensorflow", "keras"),
    "export": ("tensorflow", "keras", "tensorflow_serving", "onnx", "onnxruntime", "tf2onnx", "openvino"),
    "baselines": ("bm3d", "dictlearn"),
    "figures": ("matplotlib",),
    "node": ("pynetdicom",),
    "volumes": ("SimpleITK",),
    "cluster": ("distributed", "bokeh", "cryptography"),
    "data": ("idc_index_data", "duckdb"),
}


class MissingExtraError(ImportError):
    """A command needs an extra that is not installed; one sentence that says which."""


def require(command, extra):
    """Makes sure that an extra is installed, without importing what it brings.

    Args:
        command: What needs it, as the user typed it.
        extra: Name of the extra.

    Raises:
        MissingExtraError: If one of its modules is absent.

    Example:

    ```python
    require("kpn train", "train")
    # MissingExtraError: kpn train needs the training extra: in a checkout, pip install '.[train]'
    ```
    """
    if any(importlib.util.find_spec(module) is None for module in EXTRAS[extra]):
        kind = "training" if extra == "train" else extra
        raise MissingExtraError(f"{command} needs the {kind} extra: in a checkout, pip install '.[{extra}]'")
