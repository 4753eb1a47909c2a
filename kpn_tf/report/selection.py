"""Which slices a report shows, and what lies beside them: chosen from headers alone."""

from dataclasses import dataclass, field

from kpn_tf.dicom import DicomError, Series, SliceFile
from kpn_tf.dicom.reading.slice_header import read_header
from kpn_tf.dicom.reading.volume import even_spacing_mm
from kpn_tf.evaluation.matching import matched_series, series_beside, series_name
from kpn_tf.evaluation.stream import chosen_slices, found_series, source_series

# A report of this many slices of 512x512 stays below 25 MB; where a network sees neighbours as well, and the page needs
# them for the kernels, so many before.
USUAL_SLICES, USUAL_SEEN = 30, 50


@dataclass(frozen=True)
class ShownSeries:
    """One series of a report.

    Args:
        name: What the page calls it, without saying whose it is.
        series: `kpn_tf.dicom.Series`.
        chosen: Its slices that are shown.
        partners: For each kind of image that another series holds, `"reference"` or the name of a series given beside,
            the slice of that series for each slice of this one that has one.
    """

    name: str
    series: Series
    chosen: tuple[SliceFile, ...]
    partners: dict[str, dict[SliceFile, SliceFile]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a report will show.

    Args:
        shown: List of `ShownSeries`.
        total: How many slices there are to choose from.
        every: Every n-th was chosen.
        planes: How many coronal planes of each series, and how many sagittal ones; 0 for none.
    """

    shown: list[ShownSeries]
    total: int
    every: int
    planes: int = 0

    @property
    def slices(self):
        """How many slices were chosen."""
        return sum(len(one.chosen) for one in self.shown)

    @property
    def subject(self):
        """What is shown, without saying whose it is."""
        slices = f"{self.slices} slices" if self.slices > 1 else "1 slice"
        if self.slices < self.total:
            slices += f", one in {self.every} of {self.total}"
        # Where there are more, the page says which it shows.
        count = len(self.shown)
        return f"{self.shown[0].name if count == 1 else f'{count} series'}: {slices}"

    def patients(self):
        """Name, ID and study date of everybody shown, as the headers have them."""
        found = {}
        for one in self.shown:
            for file in one.chosen:
                if found.get(one.series.key) is None:
                    found[one.series.key] = _patient(file)
        return "; ".join(dict.fromkeys(filter(None, found.values())))


def plan(folder, reference, every, note, *, beside=(), planes=0, slices=1):
    """Chooses the slices of a report, from headers alone.

    Args:
        folder: CT file, or folder that is searched recursively.
        reference: The same for the normal dose, or `None`.
        every: Takes every n-th slice; `None` for as many as make 30 at most, though one of each series.
        note: Callback `(line, failure)` for skipped inputs.
        beside: Folders of series that are shown as they are.
        planes: How many coronal planes of each series, and how many sagittal ones.
        slices: Slices of a stack that the network sees: the more, the fewer are shown unless `every` says.

    Returns:
        A `Plan`.

    Raises:
        DicomError: If a folder does not exist.
        ValueError: If there is nothing to show.
    """
    usable = source_series(folder, note)
    if reference is None:
        groups = [(series, series.slices, {}) for series in usable]
    else:
        matched = matched_series(usable, found_series(reference, note), note)
        groups = [
            (series, [file for file, _ in pairs], {"reference": dict(pairs)}) for series, pairs in matched
        ]
    total = sum(len(files) for _, files, _ in groups)
    if total == 0:
        raise ValueError(f"expected CT slices to show in {folder}, received none that can be used")
    every = every or _usual_step([len(files) for _, files, _ in groups], slices)
    names = _told_apart(series_name(series) for series, _, _ in groups)
    others = _beside([series for series, _, _ in groups], beside, note)
    shown = [
        ShownSeries(
            name, series, tuple(file for _, file in chosen_slices(files, every)), {**partners, **given}
        )
        for name, (series, files, partners), given in zip(names, groups, others, strict=True)
    ]
    for one in shown:
        if planes and even_spacing_mm(one.series) is None:
            note(f"{one.name}: slices are not evenly spaced, so it has no coronal and sagittal planes", True)
    return Plan(shown, total, every, planes)


def _beside(shown, folders, note):
    """For each series the partners that the folders hold, by name."""
    found = [[] for _ in shown]
    for folder in folders:
        matches = series_beside(shown, found_series(folder, note))
        if not any(matches):
            note(
                f"{folder}: no series of the patient, size, pixel spacing and positions of one that is shown",
                True,
            )
        for given, others in zip(found, matches, strict=True):
            given += others
    names = [_told_apart(series_name(other) for other, _ in given) for given in found]
    return [
        {name: dict(pairs) for name, (_, pairs) in zip(of_one, given, strict=True)}
        for of_one, given in zip(names, found, strict=True)
    ]


def _told_apart(names):
    """The names, each with a number from its second appearance on."""
    count, apart = {}, []
    for name in names:
        count[name] = count.get(name, 0) + 1
        apart.append(name if count[name] == 1 else f"{name}, {count[name]}")
    return apart


def _usual_step(lengths, slices=1):
    """The smallest step that leaves the usual numbers of slices; the longest series' own where one of each is more."""

    def fits(step):
        chosen = [[place for _, place in chosen_slices(range(n), step)] for n in lengths]
        seen = 0
        for places, n in zip(chosen, lengths, strict=True):
            stacks = (range(place - slices // 2, place + slices // 2 + 1) for place in places)
            seen += len({place for stack in stacks for place in stack} & set(range(n)))
        return sum(map(len, chosen)) <= USUAL_SLICES and (slices == 1 or seen <= USUAL_SEEN)

    return next(filter(fits, range(1, max(lengths))), max(lengths))


def _patient(file):
    """Name, ID and study date in a slice's header; `None` if it cannot be read, which is said when its turn comes."""
    keywords = ("PatientName", "PatientID", "StudyDate")
    try:
        dataset = read_header(file, keywords)
    except DicomError:
        return None
    values = (str(dataset.get(name) or "").strip() for name in keywords)
    return ", ".join(value or "not said" for value in values)
