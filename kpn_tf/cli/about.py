"""What this installation is: versions, devices, and every network there is."""

import importlib.metadata
import platform

from kpn_tf import __version__
from kpn_tf.denoiser import devices
from kpn_tf.denoiser.artefact import shipped

# Distributions whose versions explain a result; the last two come with the training extra.
_DISTRIBUTIONS = (
    "numpy",
    "pydicom",
    "ai-edge-litert",
    "pyjpegls",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "tensorflow",
    "keras",
)

# Preset of StructKPN -> trained values, and multiply-accumulates per 512x512 slice in units of 1e9. Written down
# because only Keras could count them; tests/test_export.py holds them to the networks.
PRESETS = {"edge": (369_664, 12.0), "paper": (1_981_763, 518.12)}


def installation():
    """Describes the installation; TensorFlow is not loaded.

    Returns:
        Dict that `json.dumps` takes: `versions` (name to version, or `None` where not installed), `devices`
        (what `kpn denoise` can compute on) and `networks` (one entry per shipped network and per preset
        without weights, in which all that weights would tell is `None`).
    """
    return {
        "versions": {
            "kpn_tf": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _DISTRIBUTIONS},
        },
        "devices": [
            {
                "device": "CPU",
                "name": devices.cpu_name(),
                "physical_cores": devices.physical_cores(),
                "threads": devices.default_threads(),
            }
        ],
        "networks": _networks(),
    }


def _networks():
    """Shipped networks, then the presets that come without weights."""
    carried = [
        {
            "name": artefact.path.stem,
            "model": artefact.model,
            "parameters": artefact.parameters,
            "gmac_512": artefact.gmac_512,
            "version": artefact.version,
            "sha256": artefact.sha256,
            "bytes": artefact.path.stat().st_size,
            "licence": artefact.licence,
            "training_data": artefact.training_data,
        }
        for artefact in shipped()
    ]
    absent = dict.fromkeys(("version", "sha256", "bytes", "licence", "training_data"))
    return carried + [
        {"name": name, "model": f"StructKPN-{name}", "parameters": parameters, "gmac_512": gmac_512, **absent}
        for name, (parameters, gmac_512) in PRESETS.items()
        if name not in {network["name"] for network in carried}
    ]


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
