"""The trained weights that come with the package: what they are, what they cost, how long they were trained."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_EQUAL_BUDGET = "240 steps of 4 patches of 64x64, 0.125 % of the paper's; {}"


@dataclass(frozen=True)
class Trained:
    """Trained weights of a network.

    Args:
        model: Title of the network.
        network: Name of its class.
        file: Its `.keras`, from the folder that holds the package.
        parameters: Number of trained values.
        gmac_512: Multiply-accumulates for a slice of 512x512 in units of 1e9.
        training: Budget of the training, and its loss.
    """

    model: str
    network: str
    file: str
    parameters: int
    gmac_512: float
    training: str
    licence: str = "Apache-2.0"

    @property
    def path(self) -> Path:
        """Path of the `.keras`."""
        return _ROOT / self.file

    @property
    def file_sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


_PAPER = ("StructKPN-paper", "StructKPN")
_PAPER_COST = (1_981_763, 518.12)
_REDCNN_COST = (1_848_865, 458.4)

# Name for `from_preset`, for `--weights` and for `--denoiser` -> the weights. Counted by Keras, which `kpn info` does
# without; tests/test_trained.py holds the numbers to the networks.
TRAINED = {
    "edge": Trained(
        "StructKPN-edge",
        "StructKPN",
        "kpn_tf/weights/edge.keras",
        369_664,
        12.0,
        "16000 steps of 8 patches of 96x96; mean absolute error",
    ),
    "paper": Trained(
        *_PAPER,
        "baselines/weights/paper-k21-structure.keras",
        *_PAPER_COST,
        _EQUAL_BUDGET.format("structure-aware loss"),
    ),
    "paper-k21-l1": Trained(
        *_PAPER,
        "baselines/weights/paper-k21-l1.keras",
        *_PAPER_COST,
        _EQUAL_BUDGET.format("mean absolute error"),
    ),
    "redcnn-l1": Trained(
        "RED-CNN",
        "REDCNN",
        "baselines/weights/redcnn-l1.keras",
        *_REDCNN_COST,
        _EQUAL_BUDGET.format("mean absolute error"),
    ),
    "redcnn-structure": Trained(
        "RED-CNN",
        "REDCNN",
        "baselines/weights/redcnn-structure.keras",
        *_REDCNN_COST,
        _EQUAL_BUDGET.format("structure-aware loss"),
    ),
    "wavresnet-l1": Trained(
        "WavResNet",
        "WavResNet",
        "baselines/weights/wavresnet-l1.keras",
        4_169_231,
        1092.83,
        _EQUAL_BUDGET.format("mean absolute error"),
    ),
}
