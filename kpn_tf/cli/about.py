"""What this installation is: versions, devices, and every network there is."""

import dataclasses
import importlib.metadata
import json
import math
import platform
from dataclasses import field

from kpn_tf import __version__, console
from kpn_tf.cli.commands import OK
from kpn_tf.denoiser import devices
from kpn_tf.denoiser.artefact import fixed_form, shipped
from kpn_tf.denoiser.trial import try_gpu

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


@dataclasses.dataclass(frozen=True)
class InfoConfig:
    """What `kpn info` is told."""

    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def installation():
    """Describes the installation; TensorFlow is not loaded.

    Returns:
        Dict that `json.dumps` takes: `versions` (name to version, or `None` where not installed), `devices`
        (what `kpn denoise` can compute on: the CPU, and the GPU or why there is none) and `networks` (one entry
        per shipped network and per preset without weights, in which all that weights would tell is `None`).
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
            },
            _gpu(),
        ],
        "networks": _networks(),
    }


def lines(about):
    """Tells of an installation in lines.

    Args:
        about: What `installation` returned.

    Returns:
        List of str.
    """
    devices_text = {"CPU": _cpu_text, "GPU": _gpu_text}
    return [
        *(f"{name} {version or 'not installed'}" for name, version in about["versions"].items()),
        *(f"device {one['device']}: {devices_text[one['device']](one)}" for one in about["devices"]),
        *(f"network {one['name']}: {_network_text(one)}" for one in about["networks"]),
    ]


def _cpu_text(cpu):
    return f"{cpu['name']}, {cpu['physical_cores']} physical cores, {cpu['threads']} threads by default"


def _gpu_text(gpu):
    parts = [gpu["name"]] if gpu["name"] else []
    if gpu["reason"]:
        parts.append(f"not used: {gpu['reason']}")
    if test := gpu["self_test"]:
        largest = "no number" if test["largest_hu"] is None else f"{test['largest_hu']:.2g} HU"
        parts.append(
            f"self-test {'passed' if test['passed'] else 'failed'}: {largest} from the CPU with {test['network']}, "
            f"{test['gpu_ms']:.0f} ms a tile, CPU {test['cpu_ms']:.0f} ms"
        )
    return ", ".join(parts)


def _network_text(network):
    weights = "no weights shipped"
    if network["file_sha256"]:
        weights = (
            f"version {network['version']}, {network['bytes']} bytes, {network['licence']}, "
            f"{_hashes(network)}"
        )
    if fixed := network["fixed_form"]:
        weights += (
            f"; for the GPU {fixed['name']}, {fixed['side']}x{fixed['side']}, {fixed['bytes']} bytes, "
            f"{_hashes(fixed)}"
        )
    return (
        f"{network['model']}, {_known(network['parameters'])} parameters, "
        f"{_known(network['gmac_512'])} GMAC per 512x512 slice, {weights}"
    )


def _hashes(network):
    return f"file sha256 {network['file_sha256']}, weights sha256 {_known(network['weights_sha256'])}"


def _known(value):
    return "?" if value is None else value


def _gpu():
    """The graphics adapter and what its self-test found, with the first shipped network that can run there."""
    gpu = {"device": "GPU", "name": None, "software": None, "reason": None, "self_test": None}
    artefact = next((network for network in shipped() if fixed_form(network)), None)
    if artefact is None:
        return gpu | {"reason": "no network of fixed size is installed"}
    trial = try_gpu(artefact, devices.default_threads())
    if trial.gpu is not None:
        trial.gpu.close()
    if trial.adapter is not None:
        gpu |= {"name": trial.adapter.name, "software": trial.adapter.software}
    if (test := trial.self_test) is not None:
        gpu["self_test"] = {
            "network": trial.artefact.path.stem,
            "passed": test.passed,
            "largest_hu": test.largest_hu if math.isfinite(test.largest_hu) else None,
            "gpu_ms": test.gpu_ms,
            "cpu_ms": test.cpu_ms,
        }
    return gpu | {"reason": trial.reason}


def _networks():
    """Shipped networks, then the presets that come without weights."""
    carried = [
        {
            "name": artefact.path.stem,
            "model": artefact.model,
            "parameters": artefact.parameters,
            "gmac_512": artefact.gmac_512,
            "version": artefact.version,
            "file_sha256": artefact.file_sha256,
            "weights_sha256": artefact.weights_sha256,
            "bytes": artefact.path.stat().st_size,
            "licence": artefact.licence,
            "training_data": artefact.training_data,
            "fixed_form": _fixed_form(artefact),
        }
        for artefact in shipped()
    ]
    absent = dict.fromkeys(
        ("version", "file_sha256", "weights_sha256", "bytes", "licence", "training_data", "fixed_form")
    )
    return carried + [
        {"name": name, "model": f"StructKPN-{name}", "parameters": parameters, "gmac_512": gmac_512, **absent}
        for name, (parameters, gmac_512) in PRESETS.items()
        if name not in {network["name"] for network in carried}
    ]


def _fixed_form(artefact):
    """The same weights as a file for graphics adapters, or `None`."""
    fixed = fixed_form(artefact)
    if fixed is None:
        return None
    return {
        "name": fixed.path.stem,
        "side": fixed.side,
        "file_sha256": fixed.file_sha256,
        "weights_sha256": fixed.weights_sha256,
        "bytes": fixed.path.stat().st_size,
    }


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(config):
    """Prints it and returns the exit status."""
    with console.hushed():
        about = installation()
    print(json.dumps(about, indent=2, allow_nan=False) if config.json else "\n".join(lines(about)))
    return OK
