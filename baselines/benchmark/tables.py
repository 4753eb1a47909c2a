"""The tables of the paper as data: which methods, in which order, and what the paper reached with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What denoises, and for a network that is trained here, how.

    Args:
        kind: `"low dose"` (nothing is done), `"ksvd"`, `"bm3d"`, the file of a network that is shipped with its
            weights such as `"edge.tflite"`, or a network that is trained: `"redcnn"`, `"redcnn16"` (16 channels),
            `"wavresnet"`, `"paper"`, `"edge"`.
        loss: `"l1"`, `"published"` (the structure-aware loss as the paper has it) or `"structure"` (as this package
            has it); `None` for what is not trained.
        kernel_size: Of a kernel prediction network.

    Example:

    >>> Method("paper", "structure", 21).name, Method("low dose").name
    ('paper-k21-structure', 'low-dose')
    """

    kind: str
    loss: str | None = None
    kernel_size: int | None = None

    @property
    def name(self):
        """One word for it: what `--row` takes and what the files of a run are called."""
        size = f"k{self.kernel_size}" if self.kernel_size else None
        return "-".join(filter(None, (self.kind.replace(" ", "-"), size, self.loss)))

    @property
    def is_trained(self):
        """Whether it is trained here before it denoises."""
        return self.loss is not None

    @property
    def is_shipped(self):
        """Whether its weights came with the installation."""
        return self.kind.endswith(".tflite")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        title: What the reader sees.
        method: `Method`.
        published: PSNR in dB and SSIM of the paper, on its own data; `None` where it has no such row.
    """

    title: str
    method: Method
    published: tuple[float, float] | None = None


@dataclass(frozen=True)
class Contrast:
    """A difference that a table is about.

    Args:
        title: What the reader sees.
        of: `Method` whose mean is counted positive.
        against: `Method` it is compared with.
    """

    title: str
    of: Method
    against: Method


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        title: Its heading.
        rows: `Row`s.
        contrasts: `Contrast`s, told below it with their interval.
        seeds: Whether its networks are trained with every seed of the plan, or with the first alone.
        in_full: Whether its methods are also timed, drawn, and followed over the tube current.
    """

    title: str
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...] = ()
    seeds: bool = False
    in_full: bool = False


LOW_DOSE = Method("low dose")
WAVRESNET = Method("wavresnet", "l1")
REDCNN_L1, REDCNN_STRUCTURE = Method("redcnn", "l1"), Method("redcnn", "structure")
PAPER_L1, PAPER_STRUCTURE = Method("paper", "l1", 21), Method("paper", "structure", 21)
EQUAL_REDCNN = {loss: Method("redcnn16", loss) for loss in ("l1", "published", "structure")}
EQUAL_STRUCTKPN = {loss: Method("edge", loss, 21) for loss in ("l1", "published", "structure")}
SHIPPED = Method("edge.tflite")

# Source of everything published: Xu et al., ICIP 2021, tables 1 to 3.
TABLES = (
    Table(
        "Table 1: methods",
        (
            Row("low dose", LOW_DOSE, (27.93, 0.829)),
            Row("K-SVD", Method("ksvd"), (31.11, 0.860)),
            Row("BM3D", Method("bm3d"), (31.48, 0.871)),
            Row("WavResNet", WAVRESNET, (32.32, 0.876)),
            Row("RED-CNN, L1", REDCNN_L1, (32.35, 0.887)),
            Row("RED-CNN, L_S of this project", REDCNN_STRUCTURE, (32.42, 0.890)),
            Row("StructKPN, the paper's: k = 21, L1", PAPER_L1, (32.45, 0.888)),
            Row("StructKPN, the paper's: k = 21, L_S of this project", PAPER_STRUCTURE, (32.56, 0.893)),
            Row("StructKPN `edge`, the weights that are shipped", SHIPPED),
        ),
        contrasts=(
            Contrast("StructKPN with L_S of this project minus RED-CNN with L1", PAPER_STRUCTURE, REDCNN_L1),
            Contrast("L1: StructKPN minus RED-CNN", PAPER_L1, REDCNN_L1),
            Contrast("L1: StructKPN minus WavResNet", PAPER_L1, WAVRESNET),
            Contrast("RED-CNN: L_S of this project minus L1", REDCNN_STRUCTURE, REDCNN_L1),
            Contrast("StructKPN: L_S of this project minus L1", PAPER_STRUCTURE, PAPER_L1),
        ),
        in_full=True,
    ),
    Table(
        "Table 2: networks and losses at equal cost",
        (
            Row("low dose", LOW_DOSE),
            Row("RED-CNN, 16 channels, L1", EQUAL_REDCNN["l1"], (32.35, 0.887)),
            Row("RED-CNN, 16 channels, L_S", EQUAL_REDCNN["published"], (32.42, 0.890)),
            Row("RED-CNN, 16 channels, L_S of this project", EQUAL_REDCNN["structure"]),
            Row("StructKPN `edge`, L1", EQUAL_STRUCTKPN["l1"], (32.45, 0.888)),
            Row("StructKPN `edge`, L_S", EQUAL_STRUCTKPN["published"], (32.56, 0.893)),
            Row("StructKPN `edge`, L_S of this project", EQUAL_STRUCTKPN["structure"]),
        ),
        contrasts=(
            Contrast("RED-CNN: L_S minus L1", EQUAL_REDCNN["published"], EQUAL_REDCNN["l1"]),
            Contrast("StructKPN: L_S minus L1", EQUAL_STRUCTKPN["published"], EQUAL_STRUCTKPN["l1"]),
            Contrast("RED-CNN: L_S of this project minus L1", EQUAL_REDCNN["structure"], EQUAL_REDCNN["l1"]),
            Contrast(
                "StructKPN: L_S of this project minus L1", EQUAL_STRUCTKPN["structure"], EQUAL_STRUCTKPN["l1"]
            ),
            Contrast("L1: StructKPN minus RED-CNN", EQUAL_STRUCTKPN["l1"], EQUAL_REDCNN["l1"]),
            Contrast("L_S: StructKPN minus RED-CNN", EQUAL_STRUCTKPN["published"], EQUAL_REDCNN["published"]),
        ),
        seeds=True,
    ),
    Table(
        "Table 3: side of the kernels",
        tuple(
            Row(f"StructKPN `edge`, L_S, k = {side}", Method("edge", "published", side), published)
            for side, published in (
                (15, (32.50, 0.890)),
                (19, (32.55, 0.893)),
                (21, (32.56, 0.893)),
                (23, (32.58, 0.894)),
                (27, (32.53, 0.891)),
            )
        ),
    ),
)


def methods(tables):
    """Every `Method` of the tables, once, in their order."""
    return list(dict.fromkeys(row.method for table in tables for row in table.rows))


def in_full(tables):
    """Those that are timed, drawn, and followed over the tube current."""
    return methods([table for table in tables if table.in_full])


def seeds_of(method, tables, seeds):
    """The seeds a method is trained with: `range(seeds)` if one of its tables asks for them, else the first.

    Example:

    >>> list(seeds_of(EQUAL_REDCNN["l1"], TABLES, 3)), list(seeds_of(LOW_DOSE, TABLES, 3))
    ([0, 1, 2], [0])
    """
    asked = any(table.seeds and any(row.method == method for row in table.rows) for table in tables)
    return range(seeds if asked and method.is_trained else 1)


def titles(tables):
    """What pictures call the methods, which know no Markdown: title by `Method`, that of its first table."""
    rows = [row for table in reversed(tables) for row in table.rows]
    return {row.method: row.title.replace("`", "") for row in rows}
