"""The open benchmark for low-dose CT: which patients of the Mayo Clinic's collection it tests on, and its results.

Sources: Eulig, Ommer, Kachelrieß, "Benchmarking deep learning-based low-dose CT image denoising algorithms", Medical
Physics 2024, doi 10.1002/mp.17379; for every number below its repository, https://github.com/eeulig/ldct-benchmark:
patients and slices in `ldctbench/data/info.yml` (`test_set`), windows in `ldctbench/utils/test_utils.py`, results in
`docs/denoising_algorithms.md`, all as of commit 73b4cef2d6ed. The slices of L and C are as many as the index of the
Imaging Data Commons has (version 25).
"""

from dataclasses import dataclass, field

from kpn_tf.datasets.nih import matched_scans, scans_of_patients
from kpn_tf.evaluation.stream import matched_pairs
from kpn_tf.hounsfield import Window


@dataclass(frozen=True)
class Region:
    """A part of the body that the benchmark has results for.

    Args:
        name: `"abdomen"`, `"chest"` or `"head"`.
        centre_hu: Window centre.
        width_hu: Window width.
        slices: How many slices its test patients have, by their numbers.
        published: PSNR in dB and SSIM by method: means over all these slices.
    """

    name: str
    centre_hu: int
    width_hu: int
    slices: dict[str, int] = field(repr=False)
    published: dict[str, tuple[float, float]] = field(repr=False)

    @property
    def window(self):
        """The HU that become 0 and 1; those between do so linearly. It is half a unit off the centre, as in DICOM.

        Source: DICOM PS3.3 C.11.2.1.2.1.

        Example:

        >>> REGIONS["L"].window
        Window(low_hu=-150.0, high_hu=249.0)
        """
        middle_hu, half_hu = self.centre_hu - 0.5, (self.width_hu - 1) / 2
        return Window(middle_hu - half_hu, middle_hu + half_hu)


# The first letter of a patient's number says which.
REGIONS = {
    "L": Region(
        "abdomen",
        50,
        400,
        {"L006": 215, "L107": 202, "L220": 156, "L221": 99, "L241": 155},
        {
            "low dose": (29.117, 0.856),
            "CNN-10": (32.737, 0.907),
            "RED-CNN": (33.685, 0.913),
            "WGAN-VGG": (30.906, 0.893),
            "ResNet": (33.583, 0.912),
            "QAE": (32.304, 0.903),
            "DU-GAN": (32.468, 0.904),
            "TransCT": (30.924, 0.890),
            "bilateral filter": (27.357, 0.871),
        },
    ),
    "C": Region(
        "chest",
        -600,
        1500,
        {"C121": 392, "C135": 355, "C170": 359, "C249": 350, "C280": 369},
        {
            "low dose": (18.066, 0.312),
            "CNN-10": (27.307, 0.559),
            "RED-CNN": (28.002, 0.584),
            "WGAN-VGG": (25.324, 0.505),
            "ResNet": (28.032, 0.581),
            "QAE": (27.115, 0.557),
            "DU-GAN": (26.316, 0.544),
            "TransCT": (26.736, 0.538),
            "bilateral filter": (25.057, 0.529),
        },
    ),
    "N": Region(
        "head",
        40,
        80,
        {"N090": 35, "N138": 35, "N153": 38, "N176": 37, "N284": 39},
        {
            "low dose": (30.923, 0.914),
            "CNN-10": (31.968, 0.928),
            "RED-CNN": (34.132, 0.932),
            "WGAN-VGG": (29.208, 0.920),
            "ResNet": (33.853, 0.932),
            "QAE": (31.923, 0.928),
            "DU-GAN": (32.078, 0.930),
            "TransCT": (27.363, 0.893),
            "bilateral filter": (29.238, 0.905),
        },
    ),
}


def region_of(patient):
    """The `Region` of a patient's number."""
    return REGIONS[patient[0]]


def ldct_benchmark(folder, *, every=1, note, slices=1):
    """Pairs of the benchmark's test patients that are in a folder; other patients are passed over.

    Series are known by their descriptions and PatientIDs, as `kpn_tf.datasets.nih` knows those of the collection,
    whatever their folders are called.

    Args:
        folder: Searched to the bottom.
        every: Takes every n-th pair of a series.
        note: Callback `(line, failure)` for skipped inputs.
        slices: As of `kpn_tf.evaluation.simulated_pairs`.

    Returns:
        A `kpn_tf.evaluation.PairStream`, whose patients go by their public numbers.

    Raises:
        DicomError: If the folder does not exist.
        ValueError: If none of the patients is there, or one in the layout of the challenge of 2016, whose numbers
            were given to other people.
    """
    patients = scans_of_patients(folder, note)
    wanted = [name for region in REGIONS.values() for name in region.slices]
    chosen = [name for name in wanted if name in patients]
    if not chosen:
        raise ValueError(
            f"Expected test patients of the benchmark: {', '.join(wanted)}. Received: none of them among "
            f"{len(patients)} patients; kpn data idc downloads those of abdomen and chest"
        )
    others = [name for name in chosen if "challenge" in patients[name].layouts]
    if others:
        raise ValueError(
            "Expected series of the collection LDCT-and-Projection-data. Received: folders of the challenge of 2016 "
            f"for {', '.join(others)}, who is another person there; name a folder without them"
        )
    matched, names_of = [], {}
    for name in chosen:
        for low, pairs in matched_scans(name, patients[name], note):
            matched.append((low, pairs))
            names_of[low] = name
    return matched_pairs(
        "test patients of the open benchmark for low-dose CT",
        matched,
        every=every,
        note=note,
        label=lambda ct, low: names_of[low],
        slices=slices,
    )
