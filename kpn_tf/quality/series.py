"""Quality of CT series before and after denoisers, with or without the same series at normal dose."""

from kpn_tf.evaluation import DenoiserError, denoise_pair
from kpn_tf.quality.report import BEFORE, Curves, Report
from kpn_tf.quality.slabs import SlabMeasures
from kpn_tf.quality.slices import SliceMeasures


def measure_series(pairs, denoisers, *, referenced, data_name, note):
    """Measures every slice before and after each denoiser.

    Args:
        pairs: `kpn_tf.evaluation.Pair`s; read once, one at a time.
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name.
        referenced: Whether the normal dose of the pairs is another scan: then it is the reference and has a column.
        data_name: Names the data in the table.
        note: Callback `(line, failure)` for every slice that cannot be measured, or that a denoiser fails on.

    Returns:
        `Report`.

    Raises:
        ValueError: If no slice could be measured.
    """
    kinds = (BEFORE, *denoisers, *(("reference",) if referenced else ()))
    measures, slabs = SliceMeasures(kinds, "mm"), SlabMeasures(kinds)
    for pair in pairs:
        slices_hu = before_and_after(pair, denoisers, note)
        if slices_hu:
            if referenced:
                slices_hu["reference"] = pair.normal_hu
            try:
                measures.add(pair.normal_hu, pair.pixel_spacing_mm, slices_hu)
                slabs.add(pair.place, pair.normal_hu, pair.pixel_spacing_mm, slices_hu)
            except ValueError as error:
                note(f"{pair.name}: {error}", True)
    if not measures.count:
        raise ValueError(f"Expected at least one slice in {data_name}. Received: none; check its folder")
    curves = Curves("mm", {None: measures.radial()})
    take_pictures(curves, measures)
    return Report(
        data_name,
        {None: measures.count},
        {**measures.conventions(), **slabs.conventions()},
        (*measures.quantities(), *slabs.quantities()),
        curves,
    )


def before_and_after(pair, denoisers, note):
    """The slice before, and after each denoiser, by name; `None`, after a note, if one of them fails."""
    slices_hu = {BEFORE: pair.low_hu}
    for name, denoiser in denoisers.items():
        try:
            slices_hu[name], _ = denoise_pair(name, denoiser, pair)
        except DenoiserError as error:
            note(str(error), True)
            return None
    return slices_hu


def take_pictures(curves, measures):
    """Puts maps of the slices measured so far into the curves."""
    curves.noise_map = measures.noise_map
    curves.plane = {kind: (axes, total / count) for kind, (axes, total, count) in measures.plane.items()}
    curves.bias = {kind: sum(grids) / len(grids) for kind, grids in measures.bias.items()}
