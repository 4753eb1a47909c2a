"""The DOSE protocol on the page: pictures side by side, and the noise before and after by method."""

from dataclasses import replace

import numpy as np

from baselines.benchmark.tables import LOW_DOSE, in_full, titles
from kpn_tf.datasets.dose_noise import FREQUENCIES_PER_MM, NORMAL_DOSE, NoiseTable
from kpn_tf.hounsfield import WINDOWS

# Side of the square that is shown of a slice, in pixels.
_SIDE = 256

_PICTURED = ("soft", "lung")

_MEANING = (
    "Scans of the same patients in two doses, not aligned: no pixel has a counterpart, so there is no PSNR (the "
    "paper's Fig. 4, 7 and 8 are of such scans). Less noise than the normal dose is no merit by itself, since a slice "
    "that was only blurred has that too."
)


def section(rows, output, note, *, drawable):
    """Draws what is finished, and puts it into words.

    Pictures of the twin go to `images/` beside the page. Pictures of patients stay in the folder of the runs.

    Args:
        rows: `baselines.benchmark.dose_rows.DoseRows` that has run.
        output: Path of the page.
        note: Callback `(line, failure)` for every method that cannot be drawn.
        drawable: Whether matplotlib is there.

    Returns:
        Markdown; empty if the doses are not measured.
    """
    tables = rows.benchmark.shown()
    finished = {method: row for method in in_full(tables) if (row := rows.row(method))}
    if LOW_DOSE not in finished:
        return ""
    doses = finished.pop(LOW_DOSE)
    low, normal = doses["rows"]
    after = [replace(row["rows"][0], name=titles(tables)[method]) for method, row in finished.items()]
    name = ("digital torso, twin of " if rows.data.twin else "") + doses["data"]
    table = NoiseTable(name, doses["patients"], (low, *after, normal))
    unread = f" **{doses['failures']} files or slices could not be read and are missing.**"
    parts = ["## Low and normal dose, not aligned", _MEANING + unread * bool(doses["failures"])]
    parts.append(table.to_markdown().rstrip())
    if drawable:
        parts += [_spectra(table, output), _pictures(rows, finished, output, note)]
    return "\n\n".join(parts) + "\n"


def _spectra(table, output):
    # Imported where it is needed, as below: it needs an extra, and the table does not.
    from baselines.benchmark.drawing import spectra_figure
    from kpn_tf.figures import write

    path = output.parent / "images" / f"{output.stem}_dose_noise.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(spectra_figure(FREQUENCIES_PER_MM, {row.name: row.spectrum for row in table.rows}), path)
    caption = "Noise power spectra in flat soft tissue, before and after; means over slices."
    return f"![Noise power over frequency](images/{path.name})\n\n*{caption}*"


def _pictures(rows, methods, output, note):
    opened = _opened(rows.benchmark, methods, note)
    scans = rows.data.middles().unpaired
    if not rows.data.twin:
        folder = rows.benchmark.plan.runs.folder / "pictures"
        for number, scan in enumerate(scans, 1):
            _draw(scan, opened, folder / f"scan{number}")
        return "Pictures side by side, the middle slice of each scan, are in `pictures` in the folder of the runs."
    # Its patients are one drawn anatomy: the first is enough.
    stem = f"{output.stem}_dose"
    names = "; ".join(_draw(next(scans), opened, output.parent / "images" / stem))
    return "\n\n".join(
        f"![{names}](images/{stem}_{window}.png)\n\n*A slice at low dose, by every method that is finished, and about "
        f"the same place in the scan at normal dose; {WINDOWS[window].low_hu:g} to {WINDOWS[window].high_hu:g} HU.*"
        for window in _PICTURED
    )


def _draw(scan, opened, stem):
    """Draws the middle of a slice before and after, beside the normal dose; returns the names above the panels."""
    from baselines.benchmark.drawing import crops_figure
    from kpn_tf.figures import write

    shown = {
        "low dose": scan.low_hu,
        **{name: denoise(np.array(scan.low_hu, np.float32)) for name, denoise in opened.items()},
        NORMAL_DOSE: scan.normal_hu,
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    for window in _PICTURED:
        figure = crops_figure({name: _middle(slice_hu) for name, slice_hu in shown.items()}, WINDOWS[window])
        write(figure, stem.with_name(f"{stem.name}_{window}.png"))
    return list(shown)


def _opened(benchmark, methods, note):
    """Denoisers by title."""
    opened = {}
    for method in methods:
        try:
            if found := benchmark.opened(method):
                opened[titles(benchmark.shown())[method]] = found[0]
        except ImportError as error:
            # Rows may come from a machine that has the extra.
            note(f"{method.name} in the figures: {error}", False)
    return opened


def _middle(slice_hu):
    rows, columns = ((n - min(n, _SIDE)) // 2 for n in slice_hu.shape)
    return slice_hu[rows : rows + _SIDE, columns : columns + _SIDE]
