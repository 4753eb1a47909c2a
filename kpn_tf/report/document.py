"""The report as one HTML file that asks for nothing outside itself."""

import contextlib
import html
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kpn_tf import __version__
from kpn_tf.denoiser import NoKernelsError
from kpn_tf.denoiser.tiling import MINIMUM_SIDE
from kpn_tf.files import replacing
from kpn_tf.hounsfield import AIR_HU, WINDOWS, Window
from kpn_tf.metrics import window_side
from kpn_tf.metrics.structure import NEIGHBOURHOOD, SIGMA_L1, SIGMA_L2
from kpn_tf.report import numbers
from kpn_tf.report.codec import OTHERS, OWN, UNIT, encode, text_of
from kpn_tf.report.proof import proved_network

_PAGE = Path(__file__).parent / "page"

# How a report is known again, near its beginning.
_TITLE = b"<title>kpn_tf report</title>"

# Display windows of the page: the metrics' soft and lung, and a usual one for bone.
_PRESETS = {"Soft": WINDOWS["soft"], "Lung": WINDOWS["lung"], "Bone": Window(-450.0, 1050.0)}


def write_report(path, subject, slices, denoiser, strengths=(1.0,), planned=None):
    """Writes a report, atomically, two slices in memory at a time.

    Args:
        path: The .html file; an older one is replaced. It is readable by its owner alone (mode 0600): it holds
            patient data.
        subject: What is shown, as its first lines say it.
        slices: Iterable of `kpn_tf.report.content.ReportSlice`.
        denoiser: `kpn_tf.Denoiser` of strength 1 that made them.
        strengths: Shares of the correction that are measured and, if there are several, shown side by side. The page
            begins with the first.
        planned: How many slices `subject` speaks of: the page says where some are missing. `None` if it is silent.

    Returns:
        How many slices it shows, planes not counted; nothing is written if it is none.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    head, tail = _template(subject, denoiser)
    series, shown = {}, 0
    networks = _Networks(denoiser)
    with (
        contextlib.suppress(_NothingShownError),
        replacing(path, private=True) as part,
        open(part, "w", encoding="utf-8") as file,
    ):
        file.write(head)
        images = _Images(file)
        for piece in _ahead(slices):
            of_series = series.setdefault(piece.series, {"planes": {}, "records": []})
            if piece.plane == "axial":
                shown += 1
                of_series["records"].append(numbers.measured(piece, strengths))
            about = _slice(images, piece)
            if piece.plane == "axial":
                about["network"] = networks.number(piece)
            of_series["planes"].setdefault(piece.plane, []).append(about)
        if not shown:
            raise _NothingShownError
        _write_about(file, series, strengths, networks.write(file), networks.reason, _missing(shown, planned))
        file.write(tail)
    return shown


def _ahead(slices):
    """The slices in their order, each read and denoised while the one before it is encoded."""
    slices, end = iter(slices), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, slices, end)
        while (piece := coming.result()) is not end:
            coming = thread.submit(next, slices, end)
            yield piece


class _NothingShownError(Exception):
    """None of the slices could be used."""


def is_report(path):
    """True if a file is a report already, which a new one may replace."""
    with open(path, "rb") as file:
        return _TITLE in file.read(4096)


def _template(subject, denoiser):
    """The page before its data and after it."""
    identity = denoiser.identity
    hashes = (("file", identity.file_sha256), ("weights", identity.weights_sha256))
    known = ", ".join(f"{what} SHA-256 {sha256[:12]}..." for what, sha256 in hashes if sha256)
    origin = f"{identity.model} {identity.version} ({known})"
    words = {
        "version": __version__,
        "subject": subject,
        "origin": f"Denoised with {origin}, kpn_tf {__version__}.",
    }
    texts = {name: html.escape(text) for name, text in words.items()}
    texts["style"] = (_PAGE / "style.css").read_text(encoding="utf-8")
    texts |= {script.name: script.read_text(encoding="utf-8") for script in _PAGE.glob("*.js")}
    page = (_PAGE / "report.html").read_text(encoding="utf-8")
    # Half by half and in one go: names of strangers may look like places of the page.
    return [re.sub(r"{{(.+?)}}", lambda place: texts[place[1]], half) for half in page.split("{{data}}")]


class _Images:
    """Images of the page: what several slices see is written once.

    Args:
        file: Text file that is being written.
    """

    # Stacks overlap by less.
    _RECENT = 8

    def __init__(self, file):
        self._file, self._count = file, 0
        self._abouts, self._coded = {}, {}

    def write(self, slice_hu, step_hu, known=(), key=None):
        """Writes an image, unless one of this key was.

        Args:
            slice_hu: `(H, W)` in HU, NaN outside the field of view.
            step_hu: HU between neighbouring values.
            known: As of `encode`.
            key: Of an image that is asked for again.

        Returns:
            `Encoded`, and what the page must know.
        """
        coded = self._coded.get(key) or encode(slice_hu, step_hu, known)
        if key is None or key not in self._abouts:
            name = f"image-{self._count}"
            self._count += 1
            _write_text(self._file, name, coded.text)
            about = {"id": name, "weights": coded.weights, "origin": coded.origin_hu, "step": coded.step_hu}
            if key is None:
                return coded, about
            self._abouts[key] = about
        self._coded[key] = coded
        for oldest in list(self._coded)[: -self._RECENT]:
            del self._coded[oldest]
        return coded, self._abouts[key]


def _slice(images, piece):
    """Writes the images of a slice; returns what the page must know about them."""
    abouts, known = [], []
    for kind, slice_hu in piece.images_hu.items():
        # Where a network sees stacks, the slice before is a neighbour too.
        key = piece.file if kind == "before" and piece.beside else None
        coded, about = images.write(slice_hu, piece.steps_hu[kind], known, key)
        known.append(coded)
        abouts.append({"kind": kind, **about})
    around = [
        one and {"distance": one.distance_mm, **images.write(one.slice_hu, one.step_hu, key=one.file)[1]}
        for one in piece.beside
    ]
    rows, columns = piece.images_hu["before"].shape
    return {
        "name": piece.name,
        "rows": rows,
        "columns": columns,
        "spacing": list(piece.pixel_spacing_mm),
        "sides": piece.sides,
        "noiseSide": window_side(piece.pixel_spacing_mm),
        "images": abouts,
        "around": around,
    }


class _Networks:
    """What the page computes kernels from: the network, and the one for slices without neighbours if there is one.

    `reason` says why there are no kernels, for the slices of the network that has none; `None` if all have.

    Args:
        denoiser: `kpn_tf.Denoiser`.
    """

    def __init__(self, denoiser):
        self._denoiser, self._found = denoiser, {}
        self.reason = None

    def number(self, piece):
        """Which network denoised an axial slice, read and proved with its first slice."""
        neighbours = piece.neighbours()
        used = self._denoiser.used_with(neighbours).artefact
        if used.path not in self._found:
            network = None
            try:
                network = proved_network(self._denoiser, piece.filled_hu("before"), neighbours)
            except NoKernelsError as error:
                self.reason = f"No kernels are shown: {error}."
            self._found[used.path] = used, network
        return list(self._found).index(used.path)

    def write(self, file):
        """Writes their numbers; returns for each what else the page must know, `None` for one without kernels."""
        networks = list(self._found.values())
        if any(network for _, network in networks):
            _write_text(file, "wasm", text_of((_PAGE / "cell.wasm").read_bytes()))
        return [
            network and _network(file, number, network, used.multiple)
            for number, (used, network) in enumerate(networks)
        ]


def _network(file, number, network, multiple):
    for i, (filters, bias) in enumerate(network.weights):
        _write_text(file, f"filters-{number}-{i}", text_of(filters.astype("<f4")))
        _write_text(file, f"bias-{number}-{i}", text_of(bias.astype("<f4")))
    for z, bank in enumerate(network.banks):
        # Filters without wide ones are the same in every phase.
        phases = bank[:1] if (bank == bank[:1]).all() else bank
        # (phases, C, k, k): what a filter adds to the taps lies side by side.
        _write_text(file, f"bank-{number}-{z}", text_of(np.moveaxis(phases, -1, 1).astype("<f4")))
    return {
        "layers": network.layers,
        "scores": network.scores,
        "filters": [bank.shape[-1] for bank in network.banks],
        "side": network.banks[0].shape[1],
        # How the network grows a slice (`kpn_tf.denoiser.tiling.grown`).
        "least": MINIMUM_SIDE,
        "multiple": multiple,
    }


def _write_text(file, name, text):
    file.write(f'<script type="text/plain" id="{name}">{text}</script>\n')


def _missing(shown, planned):
    """What to say of slices that could not be used: a list of one sentence or none."""
    return (
        [f"{planned - shown} of {planned} slices could not be used."] if planned and shown < planned else []
    )


def _write_about(file, series, strengths, networks, reason, notes):
    soft = WINDOWS["soft"]
    with_reference = any("psnr" in record for of_series in series.values() for record in of_series["records"])
    about = {
        "series": [
            {"name": name, "planes": of_series["planes"], **numbers.summary(of_series["records"])}
            for name, of_series in series.items()
            if of_series["records"]
        ],
        "strengths": strengths,
        "codec": {"own": OWN, "others": OTHERS, "unit": UNIT},
        "hasReference": with_reference,
        "presets": [{"name": name, "low": w.low_hu, "high": w.high_hu} for name, w in _PRESETS.items()],
        "airHu": AIR_HU,
        "structure": {
            "size": NEIGHBOURHOOD,
            "softHu": [soft.low_hu, soft.high_hu],
            "sigmaL2": SIGMA_L2,
            "sigmaL1": SIGMA_L1,
        },
        "notes": [*notes, numbers.NOISE_NOTE, *([numbers.REFERENCE_NOTE] if with_reference else [])],
        "networks": networks,
        "noKernels": reason,
    }
    # No name may end the element.
    text = json.dumps(about, allow_nan=False).replace("<", "\\u003c")
    file.write(f"<script>const REPORT = {text};</script>\n")
