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
from kpn_tf.trained import DEFAULT_WEIGHTS, TRAINED

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


@dataclasses.dataclass(frozen=True)
class InfoConfig:
    """Options of `kpn info`."""

    json: bool = field(default=False, metadata={"help": "print one JSON document instead of lines"})


def installation():
    """Describes the installation; TensorFlow is not loaded.

    Returns:
        Dict that `json.dumps` takes: `versions` (name to version, or `None` where not installed), `devices`
        (what `kpn denoise` can compute on: the CPU, and the GPU or why there is none) and `networks` (one entry
        for all trained weights, with the file for `kpn denoise` where there is one, and the file for Keras).
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
        *(
            f"network {one['name']}{' (default)' * one['default']}: {_network_text(one)}"
            for one in about["networks"]
        ),
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
    weights = "for kpn denoise: export it"
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
    if alone := network["alone"]:
        near = "neighbours" if alone["beyond_mm"] is None else f"neighbours within {alone['beyond_mm']:g} mm"
        weights += f"; {alone['name']} for slices without {near}"
    if training := network["training"]:
        weights += f"; trained for {training}"
    if kept := network["keras"]:
        weights += f"; for Keras {kept['file']}, {kept['bytes']} bytes, {_hashes(kept)}"
    return (
        f"{network['model']}, {_known(network['parameters'])} parameters, "
        f"{_known(network['gmac_512'])} GMAC per 512x512 slice, {weights}"
    )


def _hashes(file):
    return f"file sha256 {file['file_sha256']}, weights sha256 {_known(file['weights_sha256'])}"


def _known(value):
    return "?" if value is None else value


def _gpu():
    """The GPU and what its self-test found, with the first shipped network that can run there."""
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
    """All trained weights, those that `kpn denoise` can run first."""
    files = {artefact.path.stem: artefact for artefact in shipped()}
    return [_network(name, files.get(name), TRAINED.get(name)) for name in {**files, **TRAINED}]


def _network(name, artefact, trained):
    """One network: what its file for `kpn denoise` says of it, or what is known of its weights for Keras."""
    known = artefact or trained
    return {
        "name": name,
        "model": known.model,
        "parameters": known.parameters,
        "gmac_512": known.gmac_512,
        "version": artefact and artefact.version,
        "file_sha256": artefact and artefact.file_sha256,
        "weights_sha256": known.weights_sha256,
        "bytes": artefact and artefact.path.stat().st_size,
        "licence": known.licence,
        "training": trained and trained.training,
        "training_data": artefact and artefact.training_data,
        "fixed_form": artefact and _fixed_form(artefact),
        "default": name == DEFAULT_WEIGHTS,
        "alone": artefact and artefact.alone and _alone(artefact),
        "keras": trained
        and {
            "file": trained.path.name,
            "file_sha256": trained.file_sha256,
            "weights_sha256": trained.weights_sha256,
            "bytes": trained.path.stat().st_size,
        },
    }


def _alone(artefact):
    """Who denoises slices without neighbours, and from which distance on the nearest neighbour is none."""
    beyond_mm = artefact.alone_beyond_mm
    return {"name": artefact.alone.path.stem, "beyond_mm": beyond_mm if math.isfinite(beyond_mm) else None}


def _fixed_form(artefact):
    """The same weights as a file for GPUs, or `None`."""
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
    with console.silenced():
        about = installation()
    print(json.dumps(about, indent=2, allow_nan=False) if config.json else "\n".join(lines(about)))
    return OK
