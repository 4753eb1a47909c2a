"""What this installation is: versions, devices, and the networks it carries."""

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


def installation():
    """Describes the installation; TensorFlow is not loaded.

    Returns:
        Dict that `json.dumps` takes: `versions` (name to version, or `None` where not installed), `devices`
        (what `kpn denoise` can compute on) and `networks` (one entry per shipped network).
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
        "networks": [
            {
                "name": artefact.path.stem,
                "model": artefact.model,
                "version": artefact.version,
                "sha256": artefact.sha256,
                "bytes": artefact.path.stat().st_size,
                "licence": artefact.licence,
                "parameters": artefact.parameters,
                "gmac_512": artefact.gmac_512,
                "training_data": artefact.training_data,
            }
            for artefact in shipped()
        ],
    }


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
