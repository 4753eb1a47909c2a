"""What stands beside PSNR on the page: differences of methods, noise and structure of slices, faint lesions."""

from baselines.benchmark import quality
from baselines.benchmark.resampling import difference_interval, mean_interval
from kpn_tf.metrics.structure import CLASSES

# Key of what is kept, heading, factor, digits.
_LESIONS = (
    ("noise_left", "noise left (%)", 100, 0),
    ("kept_8", "contrast kept, 8 mm (%)", 100, 0),
    ("kept_10_15", "contrast kept, 10 to 15 mm (%)", 100, 0),
    ("d_prime_8", "d', 8 mm", 1, 1),
    ("d_prime_10_15", "d', 10 to 15 mm", 1, 1),
)
_SLICES = (
    ("noise_hu", "noise SD, flat tissue (HU)", 1, 1),
    *((f"{of}_strength", f"gradient strength, {of} (HU/pixel)", 1, 2) for of in CLASSES),
    *((f"{of}_coherence", f"coherence, {of}", 1, 3) for of in CLASSES),
)


def line(cells):
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def lines_of(headings):
    """The head of a table in Markdown, whose columns after the first are numbers."""
    return [line(headings), "|---|" + "---:|" * (len(headings) - 1)]


def mean_cell(values, digits, factor=1):
    """The mean of `(seeds, samples)` and its interval, if there is more than one sample."""
    interval = mean_interval(values)
    value, low, high = (f"{factor * number:.{digits}f}" for number in interval)
    return value if interval.low == interval.high else f"{value} [{low}, {high}]"


def difference_lines(table, benchmark, convention):
    """The differences that a table is about.

    Args:
        table: `baselines.benchmark.tables.Table`.
        benchmark: `baselines.benchmark.rows.Benchmark`.
        convention: Of PSNR and SSIM.

    Returns:
        Lines of Markdown; none without `contrasts`.
    """
    if not table.contrasts:
        return []
    of_records = (
        (f"psnr_{convention}_db", f"PSNR {convention} (dB)", 2),
        (f"ssim_{convention}", f"SSIM {convention}", 4),
    )
    of_torso = _LESIONS[1:]
    headings = [heading for _, heading, _ in of_records] + [heading for _, heading, _, _ in of_torso]
    lines = ["", *lines_of(["difference, slice by slice and scan by scan", *headings])]
    for contrast in table.contrasts:
        rows = [benchmark.finished(method) for method in (contrast.of, contrast.against)]
        kept = [benchmark.quality(method) for method in (contrast.of, contrast.against)]
        seeds = f" ({len(rows[0])} and {len(rows[1])} trainings)" if all(rows) else ""
        cells = [
            _difference_cell(
                [[[record[metric] for record in row["records"]] for row in of] for of in rows], digits
            )
            for metric, _, digits in of_records
        ]
        cells += [
            _difference_cell([[one["torso"][key] for one in of] for of in kept], digits, factor)
            for key, _, factor, digits in of_torso
        ]
        lines.append(line([contrast.title + seeds, *cells]))
    return lines


def _difference_cell(pair, digits, factor=1):
    if not all(pair):
        return "not run"
    value, low, high = (f"{factor * number:+.{digits}f}" for number in difference_interval(*pair))
    return f"{value} [{low}, {high}]"


def quality_lines(table, benchmark):
    """Noise and structure of the test slices, and faint lesions of the torso, by every method of a table.

    Args:
        table: `baselines.benchmark.tables.Table`.
        benchmark: `baselines.benchmark.rows.Benchmark`.

    Returns:
        Lines of Markdown; none before something was measured.
    """
    rows = [(row.title, kept) for row in table.rows if (kept := benchmark.quality(row.method))]
    if not rows:
        return []
    lines = [
        "",
        f"Faint lesions, on the digital torso: {quality.REALISATIONS} scans with and as many without six lesions of "
        f"±15 and ±20 HU in its liver, {quality.NOISE_HU:g} HU of noise, one slice of {quality.SLICE_MM:g} mm. "
        "Contrast kept is that of a blend of the slice before and after which leaves half of the noise, so that no "
        "method is better for doing less; d' of a channelised Hotelling observer on the slice after, its bias removed. "
        "In brackets 95 % bootstrap intervals over seeds and scans, of d' by jackknife values of the scans:",
        "",
        *lines_of(["", *(heading for _, heading, _, _ in _LESIONS)]),
    ]
    for title, kept in rows:
        cells = [
            mean_cell([one["torso"][key] for one in kept], digits, factor)
            for key, _, factor, digits in _LESIONS
        ]
        lines.append(line([title, *cells]))
    lines += [
        "",
        "Noise and structure of the slices of this table, as `kpn quality` measures them: flat regions and classes are "
        "found at normal dose, by the structure-aware loss's largest weight, in [-160, 240] HU; what is nearest to the "
        "normal dose has changed least. Its own noise counts as structure in flat tissue:",
        "",
        *lines_of(["", *(heading for _, heading, _, _ in _SLICES)]),
    ]
    measured = [(title, [one["slices"] for one in kept]) for title, kept in rows]
    for title, of in [*measured, ("normal dose", [rows[0][1][0]["normal"]])]:
        cells = [mean_cell([one[key] for one in of], digits, factor) for key, _, factor, digits in _SLICES]
        lines.append(line([title, *cells]))
    return lines
