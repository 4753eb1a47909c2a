"""`kpn export`: a trained network as the file that another runtime takes."""

import dataclasses
import hashlib
import itertools
import os
import sys
from dataclasses import field
from pathlib import Path

from kpn_tf import console
from kpn_tf.cli import kinds
from kpn_tf.cli.commands import FAILED, OK, USAGE
from kpn_tf.cli.networks import is_network, load_network
from kpn_tf.denoiser.artefact import open_artefact, shipped
from kpn_tf.evaluation import simulated_pairs
from kpn_tf.trained import TRAINED

# What a network is given elsewhere -> ending of the file that is written; a SavedModel is a folder.
TARGETS = {"tflite": ".tflite", "saved_model": "", "onnx": ".onnx", "openvino": ".xml"}
PRECISIONS = ("float16", "float32", "int16x8", "int8")

# Slices that integers are fitted to and tested on, at the dose that the networks are made for.
CALIBRATION_SLICES, CALIBRATION_DOSE = 16, 0.25


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Options of `kpn export`."""

    weights: str = field(
        metadata={
            "help": "trained weights: edge, stack, paper; of a baseline, such as redcnn-l1; or a .keras file",
            "former": ("--preset", "--network"),
        }
    )
    output: Path = field(
        metadata={"help": "file to write; for saved_model the folder that holds its versions"}
    )
    to: str = field(
        default="tflite",
        metadata={"help": f"{', '.join(TARGETS)} (default tflite)", "kind": kinds.one_of(*TARGETS)},
    )
    version: str | None = field(default=None, metadata={"help": "version of your weights; a whole number"})
    licence: str | None = field(default=None, metadata={"help": "licence of your weights"})
    training_data: str | None = field(
        default=None, metadata={"help": "one line on what they were trained on"}
    )
    precision: str | None = field(
        default=None,
        metadata={
            "help": f"of a .tflite: {', '.join(PRECISIONS)} (default float16)",
            "kind": kinds.one_of(*PRECISIONS),
        },
    )
    side: int | None = field(
        default=None,
        metadata={
            "help": "side of the slices a .tflite takes, which a GPU needs: 512 (default: any size, for CPUs)",
            "kind": kinds.count,
        },
    )
    calibration: Path | None = field(
        default=None,
        metadata={"help": "folder with normal-dose series of training patients, for int16x8 and int8"},
    )
    alone: Path | None = field(
        default=None,
        metadata={
            "help": "with a network of stacks: .tflite beside OUTPUT that denoises slices without neighbours"
        },
    )
    alone_beyond: float | None = field(
        default=None,
        metadata={
            "help": "distance in mm of the nearest neighbour from which on it does (default: none is too far)",
            "kind": kinds.positive,
        },
    )


def run(config):
    """Loads the network, writes the artefact if it is proved, and tells how far it is from Keras."""
    wrong = _wrong(config)
    if wrong:
        console.say(f"kpn export: {wrong}", sys.stderr)
        return USAGE
    try:
        network, release = _opened(config)
    except (FileNotFoundError, ValueError) as error:
        console.say(f"kpn export: {error}", sys.stderr)
        return USAGE
    calibration = None
    if config.calibration:
        calibration = _low_dose_slices(config.calibration)
    try:
        with console.silenced():
            report = _export(network, release, config, calibration)
    except (FileNotFoundError, ValueError) as error:
        console.say(f"kpn export: {error}", sys.stderr)
        return FAILED
    console.say(
        f"{config.output}: {report['model']} version {report['version']}, {_file_hash(config.output)}weights sha256 "
        f"{report['weights_sha256']}, {report['licence']}",
        sys.stdout,
    )
    for compared in report["parity"]:
        console.say(f"parity with Keras: {_parity_text(compared)}", sys.stdout)
    return OK


def _wrong(config):
    """What is wrong with the call, or `None`."""
    words = (config.version, config.licence, config.training_data)
    if config.weights in _released():
        if words != (None, None, None):
            return f"--version, --licence and --training-data of {config.weights} are known: leave them out"
    elif is_network(config.weights) and not all(words):
        return "expected --version, --licence and --training-data of your network: they are written into the file"
    of_tflite = (config.precision, config.side, config.calibration, config.alone, config.alone_beyond)
    if config.to != "tflite" and any(option is not None for option in of_tflite):
        return "--precision, --side, --calibration, --alone and --alone-beyond belong to --to tflite"
    if (config.precision in ("int16x8", "int8")) != (config.calibration is not None):
        return "expected --calibration FOLDER with --precision int16x8 or int8, and only there"
    if config.calibration is not None and not os.path.exists(config.calibration):
        return f"expected a CT file or a folder, received {config.calibration}, which does not exist"
    ending = TARGETS[config.to]
    if ending and config.output.suffix != ending:
        return f"expected a name that ends in {ending}, received {config.output}"
    beside = [config.output.with_suffix(".bin")] if config.to == "openvino" else []
    for path in [config.output, *beside] if ending else []:
        if os.path.lexists(path):
            return f"expected a file that does not exist yet, received {path}; nothing is overwritten"
    if not ending and os.path.lexists(config.output) and not config.output.is_dir():
        return f"expected a folder for the versions, received {config.output}, which is a file"
    if not os.access(config.output.absolute().parent, os.W_OK):
        return f"expected a file in a folder that can be written, received {config.output}"
    return None


def _released():
    """Networks that are shipped as artefacts, whose version and licence are known."""
    return [artefact.path.stem for artefact in shipped()]


def _opened(config):
    """The network and its `Release`."""
    if is_network(config.weights):
        network, known = load_network(config.weights), config
        if not hasattr(network, "title"):
            raise ValueError(
                f"Expected a network of kpn_tf or its baselines. Received: {config.weights} "
                f"with a {type(network).__name__}"
            )
    else:
        if config.weights not in _released():
            raise FileNotFoundError(
                f"Expected shipped weights ({', '.join(_released())}) or a .keras file. Received: "
                f"{config.weights}; train one with kpn train and export RUN/best.keras"
            )
        known = open_artefact(config.weights)
        network = load_network(TRAINED[config.weights].path)

    from export import Release

    return network, Release(known.version, known.licence, known.training_data)


def _low_dose_slices(folder):
    """Slices `(H, W)` in HU of the normal-dose series of a folder, at the dose the networks are made for."""

    def note(line, failure):
        console.say(f"left out: {line}", sys.stderr)

    def stream(every, note):
        return simulated_pairs(folder, dose=CALIBRATION_DOSE, seed=0, every=every, note=note)

    every = max(1, stream(1, lambda line, failure: None).slices // CALIBRATION_SLICES)
    return [pair.low_hu for pair in itertools.islice(stream(every, note).pairs, CALIBRATION_SLICES)]


def _export(network, release, config, calibration):
    import export

    if config.to != "tflite":
        write = {
            "saved_model": export.to_saved_model,
            "onnx": export.to_onnx,
            "openvino": export.to_openvino,
        }
        return write[config.to](network, config.output, release)
    return export.to_tflite(
        network,
        config.output,
        release,
        precision=config.precision or "float16",
        side=config.side,
        calibration=calibration,
        alone=config.alone,
        alone_beyond_mm=config.alone_beyond,
    )


def _file_hash(path):
    """The hash of the file that was written, which a derived series names; a SavedModel is a folder and has none."""
    if path.is_dir():
        return ""
    with open(path, "rb") as file:
        return f"file sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}, "


def _parity_text(compared):
    signature = f"{compared['signature']}, " if "signature" in compared else ""
    where = f"{signature}{compared['slice']} slice of {compared['rows']}x{compared['columns']}"
    if "rms_soft_tissue_hu" in compared:
        return (
            f"{where}, {compared['rms_soft_tissue_hu']} HU RMS in soft tissue, largest {compared['largest_hu']} HU "
            f"(allowed {compared['tolerance_rms_hu']} HU RMS)"
        )
    return (
        f"{where}, largest {compared['largest_hu']} HU, {compared['rms_hu']} HU RMS "
        f"(allowed {compared['tolerance_hu']} HU)"
    )
