"""What the torso is made of and where: tissues and their HU, lesions, and the drawing of one slice.

A slab between heart and liver after contrast agent. Coordinates are in mm from the middle of the volume:
x to the patient's left (image right), y to the back (image down), z to the head.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kpn_tf.phantom.vessels import AIRWAYS, LIVER_VESSELS, LUNG_VESSELS


class Tissue(IntEnum):
    """What a voxel is made of; lesions are numbered after the tissues, from 64 on."""

    AIR = 0
    TABLE = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    LUNG = 5
    LUNG_VESSEL = 6
    AIRWAY = 7
    HEART = 8
    BLOOD = 9
    AORTA = 10
    VEIN = 11
    LIVER = 12
    LIVER_VESSEL = 13
    SPLEEN = 14
    STOMACH = 15
    CORTICAL_BONE = 16
    MARROW = 17
    SPINAL_CANAL = 18
    OESOPHAGUS = 19


# Usual values in the portal venous phase at 120 kV; the lung is inspired.
TISSUE_HU = {
    Tissue.AIR: -1000.0,
    Tissue.TABLE: -150.0,
    Tissue.SKIN: 10.0,
    Tissue.FAT: -100.0,
    Tissue.MUSCLE: 60.0,
    Tissue.LUNG: -860.0,
    Tissue.LUNG_VESSEL: 60.0,
    Tissue.AIRWAY: -1000.0,
    Tissue.HEART: 105.0,
    Tissue.BLOOD: 150.0,
    Tissue.AORTA: 165.0,
    Tissue.VEIN: 140.0,
    Tissue.LIVER: 105.0,
    Tissue.LIVER_VESSEL: 145.0,
    Tissue.SPLEEN: 120.0,
    Tissue.STOMACH: 15.0,
    Tissue.CORTICAL_BONE: 700.0,
    Tissue.MARROW: 190.0,
    Tissue.SPINAL_CANAL: 30.0,
    Tissue.OESOPHAGUS: 45.0,
}


@dataclass(frozen=True)
class Lesion:
    """A sphere in the liver.

    Args:
        label: Its number among the labels.
        centre_mm: `(x, y, z)`.
        radius_mm: Its radius.
        contrast_hu: Its HU minus those of the liver.
    """

    label: int
    centre_mm: tuple[float, float, float]
    radius_mm: float
    contrast_hu: float


# Five diameters, both signs; the middle slices cut six of them.
LESIONS = tuple(
    Lesion(64 + i, (x, y, z), radius_mm, contrast_hu)
    for i, (x, y, z, radius_mm, contrast_hu) in enumerate(
        [
            (-92.0, -18.0, 0.0, 7.5, -20.0),
            (-70.0, 24.0, -1.5, 7.5, 20.0),
            (-68.0, -32.0, 1.5, 6.0, -15.0),
            (-94.0, 12.0, 0.0, 6.0, 15.0),
            (-71.0, -5.0, 0.0, 5.0, -20.0),
            (-52.0, -20.0, -3.0, 4.0, 20.0),
            (-104.0, 6.0, -24.0, 7.5, -10.0),
            (-76.0, -44.0, -24.0, 7.5, 10.0),
            (-62.0, 34.0, -25.5, 5.0, -20.0),
            (-80.0, 0.0, -25.5, 6.0, 15.0),
        ]
    )
)


def draw(canvas, lesions):
    """Draws the torso's cut into a `Canvas`, from the table and the skin inwards; the lesions into the liver."""
    _draw_wall(canvas)
    _draw_lungs(canvas)
    _draw_mediastinum(canvas)
    _draw_abdomen(canvas, lesions)
    _draw_spine(canvas)
    _draw_ribs(canvas)


def _draw_wall(canvas):
    for top_mm, thickness_mm in ((119.0, 1.5), (140.0, 1.5)):
        canvas.band(Tissue.TABLE, 185.0, top_mm, thickness_mm, curvature_per_mm=0.0007)
    for label, a, b in (
        (Tissue.SKIN, 170.0, 116.0),
        (Tissue.FAT, 168.0, 114.0),
        (Tissue.MUSCLE, 152.0, 101.0),
    ):
        canvas.ellipsoid(label, (0, 0), (a, b), power=2.3)
    for side in (-1, 1):
        # Latissimus, serratus: a fat plane between the outer muscle and the ribs.
        canvas.ellipsoid(Tissue.FAT, (side * 104, 4), (40, 85), power=2.3)
        canvas.ellipsoid(Tissue.MUSCLE, (side * 97, 2), (44, 86), power=2.3)
    canvas.ellipsoid(Tissue.FAT, (0, 106), (12, 12), only=(Tissue.MUSCLE,))
    canvas.ellipsoid(Tissue.FAT, (0, -104), (30, 6))


def _draw_lungs(canvas):
    for side in (-1, 1):
        canvas.ellipsoid(Tissue.LUNG, (side * 74, 4, 30), (62, 84, 240), degrees=side * 8, power=2.3)
    canvas.ellipsoid(Tissue.MUSCLE, (0, 0), (9, 95))
    canvas.tubes(Tissue.LUNG_VESSEL, LUNG_VESSELS, only=(Tissue.LUNG,))
    walls = AIRWAYS.copy()
    walls[:, 6:] += 0.9
    canvas.tubes(Tissue.LUNG_VESSEL, walls, only=(Tissue.LUNG, Tissue.LUNG_VESSEL))
    canvas.tubes(Tissue.AIRWAY, AIRWAYS, only=(Tissue.LUNG_VESSEL,))


def _draw_mediastinum(canvas):
    canvas.ellipsoid(Tissue.FAT, (4, 18), (28, 66), power=2.5)
    canvas.ellipsoid(Tissue.FAT, (18, -44, 40), (66, 50, 84), degrees=18)
    canvas.ellipsoid(Tissue.HEART, (20, -42, 40), (58, 42, 76), degrees=22)
    canvas.ellipsoid(Tissue.BLOOD, (42, -30, 40), (26, 20, 64), degrees=28)
    canvas.ellipsoid(Tissue.BLOOD, (0, -55, 40), (38, 17, 66), degrees=14)
    canvas.ellipsoid(Tissue.BLOOD, (-14, -22, 46), (22, 17, 50), degrees=-10)
    canvas.ellipsoid(Tissue.HEART, (46, -27, 40), (5, 4, 50), degrees=40)
    canvas.ellipsoid(Tissue.OESOPHAGUS, (6, 27), (9, 6), degrees=-12)
    canvas.ellipsoid(Tissue.AIRWAY, (6, 26), (2.2, 1.2))
    canvas.ellipsoid(Tissue.MUSCLE, (24, 40), (13.4, 13.4))
    canvas.ellipsoid(Tissue.AORTA, (24, 40), (12, 12))
    canvas.ellipsoid(Tissue.VEIN, (-8, 37), (3.5, 3.5))


def _draw_abdomen(canvas, lesions):
    lung = (Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.AIRWAY)
    chest = (*lung, Tissue.FAT, Tissue.HEART, Tissue.BLOOD)
    lobes = (((-76, 2, -62), (58, 72, 102), 6), ((-22, -46, -68), (72, 34, 80), -8))
    # The diaphragm is the rim of muscle that the organ painted into it leaves.
    for label, rim_mm, covered in (
        (Tissue.MUSCLE, 2.0, chest),
        (Tissue.LIVER, 0.0, (*chest, Tissue.MUSCLE)),
    ):
        for centre, (a, b, c), degrees in lobes:
            axes_mm = (a + rim_mm, b + rim_mm, c + rim_mm)
            canvas.ellipsoid(label, centre, axes_mm, degrees, power=2.2, only=covered)
    canvas.ellipsoid(Tissue.VEIN, (-26, 16), (13, 11), degrees=-25)
    canvas.tubes(Tissue.LIVER_VESSEL, LIVER_VESSELS, only=(Tissue.LIVER,))
    for lesion in lesions:
        # Only liver around a lesion, so that its contrast has a background to be measured against.
        reach_mm = (1.8 * lesion.radius_mm,) * 3
        canvas.ellipsoid(Tissue.LIVER, lesion.centre_mm, reach_mm, only=(Tissue.LIVER_VESSEL,))
        canvas.ellipsoid(lesion.label, lesion.centre_mm, (lesion.radius_mm,) * 3, only=(Tissue.LIVER,))
    canvas.ellipsoid(Tissue.MUSCLE, (80, 6, -72), (56, 76, 86), -6, power=2.2, only=lung)
    canvas.ellipsoid(Tissue.FAT, (80, 6, -72), (54, 74, 84), -6, power=2.2, only=(Tissue.MUSCLE,))
    canvas.ellipsoid(
        Tissue.SPLEEN, (104, 34, -62), (24, 44, 62), degrees=14, only=(Tissue.FAT, Tissue.MUSCLE)
    )
    canvas.ellipsoid(Tissue.MUSCLE, (66, -14, -58), (38, 42, 56), degrees=30, only=(Tissue.FAT,))
    canvas.ellipsoid(Tissue.STOMACH, (66, -14, -58), (35, 39, 53), degrees=30, only=(Tissue.MUSCLE,))
    canvas.ellipsoid(Tissue.AIRWAY, (66, -30, -58), (28, 14, 48), degrees=4, only=(Tissue.STOMACH,))


def _bone(canvas, centre_mm, axes_mm, degrees=0.0, shell_mm=1.8):
    canvas.ellipsoid(Tissue.CORTICAL_BONE, centre_mm, axes_mm, degrees)
    canvas.ellipsoid(Tissue.MARROW, centre_mm, [n - shell_mm for n in axes_mm], degrees)


def _draw_spine(canvas):
    for side in (-1, 1):
        canvas.ellipsoid(Tissue.FAT, (side * 30, 85), (28, 19), degrees=side * 14)
        canvas.ellipsoid(Tissue.MUSCLE, (side * 28, 86), (24, 15), degrees=side * 14)
        _bone(canvas, (side * 25, 72), (20, 5), degrees=side * 22)
    _bone(canvas, (0, 94), (3.5, 15))
    canvas.ellipsoid(Tissue.CORTICAL_BONE, (0, 73), (17, 13))
    # A disc every 24 mm: no marrow, the shell of its neighbours.
    disc = (canvas.z_mm + 9.0) % 24.0 < 4.5
    _bone(canvas, (0, 54), (20, 16))
    if disc:
        canvas.ellipsoid(Tissue.MUSCLE, (0, 54), (19, 15))
    canvas.ellipsoid(Tissue.FAT, (0, 73), (11.5, 9))
    canvas.ellipsoid(Tissue.SPINAL_CANAL, (0, 73), (9.5, 7.5))


def _draw_ribs(canvas):
    _bone(canvas, (0, -93), (15, 5), shell_mm=1.2)
    for side in (-1, 1):
        for angle in np.arange(-60.0, 75.0, 24.0) + 0.35 * canvas.z_mm:
            # Ribs run down and forward: going up, each is met further back on the oval of the chest wall.
            cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
            centre = (side * (42 + 97.5 * cosine), 3 + 88 * sine)
            tangent = np.rad2deg(np.arctan2(88 * cosine, -side * 97.5 * sine))
            _bone(canvas, centre, (11.0, 4.4), tangent, shell_mm=1.4)
