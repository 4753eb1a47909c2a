"""A trained network as a file: a .tflite that carries its own metadata.json as an appended zip member."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"

# Smallest side every network of this package accepts: reflection at the border needs a whole kernel of 21.
MINIMUM_SIDE = 21

_REQUIRED = ("model", "version", "licence", "halo", "multiple")


@dataclass(frozen=True)
class Artefact:
    """A deployable network and what it says about itself.

    Args:
        path: The .tflite.
        sha256: Hash of the whole file, metadata included.
        model: Name of the network.
        version: Version of its weights.
        licence: Licence of its weights.
        halo: How far an output pixel looks, in pixels.
        multiple: Grid, in pixels, that the network's inner resolution groups pixels by.
        parameters: Number of trained values, or `None` if the file does not say.
        gmac_512: Multiply-accumulates per 512x512 slice in units of 1e9, or `None` if the file does not say.
        training_data: What it was trained on, or `None` if the file does not say.
    """

    path: Path
    sha256: str
    model: str
    version: str
    licence: str
    halo: int
    multiple: int
    parameters: int | None = None
    gmac_512: float | None = None
    training_data: object = None


def open_artefact(weights):
    """Reads what a network says about itself, without running it.

    Args:
        weights: Name of a shipped network, such as `"edge"`, or path of a .tflite.

    Returns:
        An `Artefact`.

    Raises:
        FileNotFoundError: If there is no such network.
        ValueError: If the file carries no usable metadata: its output could not be labelled.
    """
    path = Path(weights)
    if path.suffix != ".tflite":
        path = WEIGHTS_FOLDER / f"{weights}.tflite"
    if not path.is_file():
        shipped = ", ".join(sorted(known.stem for known in WEIGHTS_FOLDER.glob("*.tflite"))) or "none"
        raise FileNotFoundError(
            f"Expected the name of a shipped network ({shipped}) or a .tflite. Received: {weights}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected a .tflite with metadata.json appended. Received: {path} ({error}); export it again"
        ) from error
    missing = [field for field in _REQUIRED if field not in metadata]
    if missing:
        raise ValueError(
            f"Expected metadata.json to hold {', '.join(_REQUIRED)}. "
            f"Received: {path} without {', '.join(missing)}; export the network again"
        )
    return Artefact(
        path=path,
        sha256=_sha256(path),
        model=str(metadata["model"]),
        version=str(metadata["version"]),
        licence=str(metadata["licence"]),
        halo=int(metadata["halo"]),
        multiple=int(metadata["multiple"]),
        parameters=metadata.get("parameters"),
        gmac_512=metadata.get("gmac_512"),
        training_data=metadata.get("training_data"),
    )


def shipped():
    """Returns the networks this installation carries, sorted by name."""
    return [open_artefact(path) for path in sorted(WEIGHTS_FOLDER.glob("*.tflite"))]


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
