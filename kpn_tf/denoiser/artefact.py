"""A trained network as a file: a .tflite that carries its own metadata.json as an appended zip member."""

import hashlib
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kpn_tf.denoiser.tiling import least_side

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"

# Rows and columns of the fixed form that a shipped network has beside it for GPUs.
FIXED_SIDE = 512

# Longest side that goes through a network in one piece, unless its file names a shorter one: what the activations
# cost grows with the area.
WHOLE_SIDE = 768

# A thousand times what there is to say.
_LARGEST_METADATA = 1_000_000

# The largest matrix of a CT slice is 4096; what a network wants to see around a pixel is less.
_LARGEST_SIDE = 4096

_REQUIRED = ("model", "version", "licence", "halo", "multiple")


@dataclass(frozen=True)
class Artefact:
    """A deployable network and what it says about itself.

    Args:
        path: The .tflite.
        file_sha256: Hash of the whole file, metadata included: what `sha256sum` says of it.
        model: Name of the network.
        version: Version of its weights.
        licence: Licence of its weights.
        halo: How far an output pixel looks, in pixels.
        multiple: Grid, in pixels, that the network's inner resolution groups pixels by.
        side: Rows and columns of the only size it takes, or `None` if it takes any.
        whole_side: Longest side that goes through it in one piece, in pixels; what is longer is cut into tiles.
        slices: Neighbouring slices that it sees; the middle one is denoised.
        alone: The `Artefact` of the network for slices without neighbours, or `None` where this one takes them too.
        alone_beyond_mm: How far the nearest neighbour may lie; a slice whose neighbours lie further has none.
        weights_sha256: Hash of the trained values, equal in all forms of a network; `None` if the file does not say.
        parameters: Number of trained values, or `None` if the file does not say.
        gmac_512: Multiply-accumulates per 512x512 slice in units of 1e9, or `None` if the file does not say.
        training_data: What it was trained on, or `None` if the file does not say.
    """

    path: Path
    file_sha256: str
    model: str
    version: str
    licence: str
    halo: int
    multiple: int
    side: int | None = None
    whole_side: int = WHOLE_SIDE
    slices: int = 1
    alone: "Artefact | None" = None
    alone_beyond_mm: float = math.inf
    weights_sha256: str | None = None
    parameters: int | None = None
    gmac_512: float | None = None
    training_data: object = None


def open_artefact(weights):
    """Reads what a network says about itself, without running it.

    Args:
        weights: Name of shipped weights, such as `"edge"`, or path of a .tflite.

    Returns:
        An `Artefact`.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If the file carries no usable metadata: its output could not be labelled.
    """
    path = Path(weights)
    if path.suffix != ".tflite":
        path = WEIGHTS_FOLDER / f"{weights}.tflite"
    if not path.is_file():
        names = ", ".join(network.path.stem for network in shipped()) or "none"
        raise FileNotFoundError(
            f"Expected the name of shipped weights ({names}) or a .tflite. Received: {weights}"
        )
    try:
        metadata = _metadata(path)
    except OSError:
        raise
    except Exception as error:
        # Anything can come out of a damaged archive: zlib.error, RuntimeError, NotImplementedError, RecursionError ...
        raise ValueError(
            f"Expected a .tflite with metadata.json appended. Received: {path} ({error}); export it again"
        ) from error
    missing = [field for field in _REQUIRED if field not in metadata]
    if missing:
        raise ValueError(
            f"Expected metadata.json to hold {', '.join(_REQUIRED)}. "
            f"Received: {path} without {', '.join(missing)}; export the network again"
        )
    halo, multiple, side = metadata["halo"], metadata["multiple"], metadata.get("side")
    whole_side, slices = metadata.get("whole_side") or WHOLE_SIDE, metadata.get("slices", 1)
    sizes = {"halo": (halo, 0), "multiple": (multiple, 1), "side": (side, 1), "whole_side": (whole_side, 1)}
    sizes["slices"] = (slices, 1)
    for field, (value, smallest) in sizes.items():
        fits = type(value) is int and smallest <= value <= _LARGEST_SIDE
        if (field, value) != ("side", None) and not fits:
            raise ValueError(
                f"Expected {field} in metadata.json to be a whole number from {smallest} to {_LARGEST_SIDE}. "
                f"Received: {path} with {value!r}; export the network again"
            )
    least = least_side(halo, multiple)
    if side is not None and (side % multiple or side < least):
        raise ValueError(
            f"Expected a fixed side that divides by {multiple} and is {least} or more, so that tiles can overlap by "
            f"what an output pixel sees. Received: {path} with {side}; export it with another side"
        )
    return Artefact(
        path=path,
        file_sha256=_sha256(path),
        model=str(metadata["model"]),
        version=str(metadata["version"]),
        licence=str(metadata["licence"]),
        halo=halo,
        multiple=multiple,
        side=side,
        whole_side=whole_side,
        slices=slices,
        alone=_alone(path, metadata) if slices > 1 else None,
        alone_beyond_mm=float(metadata.get("alone_beyond_mm") or math.inf),
        weights_sha256=metadata.get("weights_sha256"),
        parameters=metadata.get("parameters"),
        gmac_512=metadata.get("gmac_512"),
        training_data=metadata.get("training_data"),
    )


def _alone(path, metadata):
    """The network for slices without neighbours, which lies beside the one of stacks; `None` if it names none."""
    name, file_sha256 = metadata.get("alone"), metadata.get("alone_sha256")
    if name is None:
        return None
    # Its name alone: a network's file must not point into other folders.
    beside = path.with_name(Path(str(name)).name)
    if not beside.is_file():
        raise ValueError(
            f"Expected {beside.name} beside {path}, for slices without neighbours. Received: no such file; copy it "
            "there"
        )
    alone = open_artefact(beside)
    if alone.slices > 1 or alone.file_sha256 != file_sha256:
        raise ValueError(
            f"Expected {beside} to be the network of single slices that {path.name} was exported with, file sha256 "
            f"{str(file_sha256)[:12]}... Received: {alone.file_sha256[:12]}...; install both anew"
        )
    return alone


def _metadata(path):
    with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as member:
        # Not `archive.read`: a megabyte can inflate to a gigabyte.
        text = member.read(_LARGEST_METADATA + 1)
    if len(text) > _LARGEST_METADATA:
        raise ValueError(f"it is larger than {_LARGEST_METADATA:,} bytes")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError("metadata.json holds no object")
    return metadata


def shipped():
    """Returns the networks of any size that this installation carries, sorted by name."""
    artefacts = [open_artefact(path) for path in sorted(WEIGHTS_FOLDER.glob("*.tflite"))]
    return [artefact for artefact in artefacts if artefact.side is None]


def fixed_form(artefact):
    """Finds the form of a network that a GPU can run: there every size must be known beforehand.

    Args:
        artefact: An `Artefact`.

    Returns:
        The artefact itself if its size is fixed, else what is shipped beside it, `edge_512` for `edge`; `None` if
        nothing is.
    """
    if artefact.side is not None:
        return artefact
    path = artefact.path.with_name(f"{artefact.path.stem}_{FIXED_SIDE}.tflite")
    if path.parent != WEIGHTS_FOLDER or not path.is_file():
        return None
    fixed = open_artefact(path)
    # An installation that was updated by half must not change the weights with the device.
    return fixed if _trained_values(fixed) == _trained_values(artefact) else None


def _trained_values(artefact):
    """What tells the weights of a network and of the one for slices without neighbours, and who has none."""
    return artefact.weights_sha256, artefact.alone_beyond_mm, artefact.alone and artefact.alone.weights_sha256


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
