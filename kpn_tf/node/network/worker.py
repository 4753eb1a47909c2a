"""The process in which networks run. Damaged pixels can end a decoder, and a decoder its process: not the node's.

While it is at it, it sends any number of `{"slice": n}` ahead of its answer.
"""

from pathlib import Path

from kpn_tf import console
from kpn_tf.batch import Progress, denoise
from kpn_tf.batch.denoising import FoundStrength
from kpn_tf.batch.terminal import warnings_of
from kpn_tf.denoiser import Denoiser
from kpn_tf.node.answering import serve
from kpn_tf.node.network.self_test import self_test


class _Heartbeat(Progress):
    """Says after each slice that the network still lives."""

    def __init__(self, answer):
        self._answer = answer
        self._slices = 0

    def slice_done(self):
        self._slices += 1
        self._answer({"slice": self._slices})


class _Networks:
    """Networks that have passed their test, each made once."""

    def __init__(self):
        self._made = {}

    def get(self, weights, device, threads):
        key = weights, device, threads
        if key not in self._made:
            with console.silenced():
                denoiser = Denoiser(weights, device=device, threads=threads)
                self_test(denoiser)
                self._made[key] = denoiser
        return self._made[key]


def _denoise(request, networks, answer):
    denoiser = networks.get(*(request[name] for name in ("weights", "device", "threads")))
    if "input" not in request:
        return {
            "ok": True,
            "model": denoiser.identity.model,
            "file_sha256": denoiser.identity.file_sha256,
            "weights_sha256": denoiser.identity.weights_sha256,
            "device": denoiser.device,
        }
    file_sha256 = denoiser.identity.file_sha256
    found = request["found"]
    # A share of another network's correction is another share.
    found = FoundStrength(*found["strength"]) if found and found["file_sha256"] == file_sha256 else None
    report = denoise(
        Path(request["input"]),
        Path(request["output"]),
        denoiser,
        strengths=None if request["noise_hu"] else request["strengths"],
        noise_hu=request["noise_hu"],
        found=found,
        progress=_Heartbeat(answer),
    )
    made = [series for series in report.series if series.outcome in ("written", "incomplete", "exists")]
    failures = [refusal for refusal in report.refusals if refusal.failure]
    reasons = [refusal.reason for refusal in failures or report.refusals]
    reasons += [series.reason for series in report.series if series.reason]
    for series in made:
        if series.wanted_noise_hu is not None and series.strength is not None:
            found = FoundStrength(series.strength, series.grain_per_mm, series.measured_sha256)
    warnings = dict.fromkeys(warning for series in made for warning in warnings_of(series))
    return {
        "ok": True,
        "derived": [series.derived_uid for series in made],
        "failed": len(failures),
        "reason": reasons[0] if reasons else "",
        "warnings": "; ".join(warnings),
        "found": found and {"strength": found, "file_sha256": file_sha256},
        "stopped": report.stopped or "",
        "seconds": report.seconds,
    }


if __name__ == "__main__":
    networks = _Networks()
    serve(lambda request, send: _denoise(request, networks, send))
