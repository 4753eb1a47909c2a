"""The Mayo Clinic's pairs in the Imaging Data Commons: what there is, told offline by the index that a package carries.

The package is `idc-index-data`, the data of `idc-index`. The latter itself is not used: it loads the million series
of the index into 1.7 GB of memory, sets up the logging of the process, wants a cloud client beside it, and asks a
server for citations that lie in the index.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

COLLECTION = "ldct_and_projection_data"

# SeriesDescription in the collection. Older downloads of it write "Full dose images": compare without case.
FULL_DOSE, LOW_DOSE = "Full Dose Images", "Low Dose Images"

# A folder of this ending holds a series of which not all is downloaded yet.
UNFINISHED = ".part"


@dataclass(frozen=True)
class RemoteSeries:
    """A series of the collection.

    Args:
        patient: Its PatientID, a public number of the collection: `L004`.
        description: `FULL_DOSE` or `LOW_DOSE`.
        body_part: `ABDOMEN` (the low dose is a quarter) or `CHEST` (it is a tenth).
        uid: Series Instance UID.
        files: How many files, one per slice.
        size: Of all files, in bytes.
        bucket: Public bucket that holds them.
        prefix: What their names in the bucket begin with.
    """

    patient: str
    description: str
    body_part: str
    uid: str
    files: int
    size: int
    bucket: str
    prefix: str


@dataclass(frozen=True)
class Collection:
    """What the index says of the collection.

    Args:
        version: Of the Imaging Data Commons.
        licence: Short name and address.
        citation: To cite with any use.
        series: Of the patients that have both doses, by patient, full dose first.
        full_dose_only: How many other patients there are.
    """

    version: int
    licence: str
    citation: str
    series: tuple[RemoteSeries, ...]
    full_dose_only: int

    @property
    def patients(self):
        """The patients that have both doses, sorted."""
        return tuple(dict.fromkeys(series.patient for series in self.series))


def collection():
    """Reads the index; nothing is asked of any server.

    Returns:
        A `Collection`.

    Raises:
        ImportError: If the extra `data` is not installed.
        ValueError: If the index does not hold the collection, or names a place that is no bucket.
    """
    import duckdb

    series_index, collections_index, versions_index = (str(path) for path in _index_files())
    # What DuckDB lacks it would otherwise download.
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config=offline) as connection:
        rows = connection.execute(
            "SELECT PatientID, SeriesDescription, coalesce(BodyPartExamined, ''), SeriesInstanceUID, instanceCount, "
            "series_size_MB, series_aws_url FROM read_parquet(?) "
            "WHERE collection_id = ? AND lower(SeriesDescription) IN (?, ?)",
            [series_index, COLLECTION, FULL_DOSE.lower(), LOW_DOSE.lower()],
        ).fetchall()
        about = connection.execute(
            "SELECT sources FROM read_parquet(?) WHERE collection_id = ?", [collections_index, COLLECTION]
        ).fetchone()
        (version,) = connection.execute(
            "SELECT max(idc_version) FROM read_parquet(?)", [versions_index]
        ).fetchone()
    if not rows or about is None:
        raise ValueError(
            f"Expected the collection {COLLECTION} in the index. Received: version {version} without it; "
            "install a newer idc-index-data"
        )
    by_patient = defaultdict(list)
    for row in rows:
        by_patient[row[0]].append(_series(*row))
    pairs = {
        patient: sorted(series, key=lambda one: one.description)
        for patient, series in sorted(by_patient.items())
        if {one.description for one in series} == {FULL_DOSE, LOW_DOSE}
    }
    source = about[0][0]
    return Collection(
        version=version,
        licence=f"{source['license']['license_short_name']}, {source['license']['license_url']}",
        citation=_plain(source["citation"]),
        series=tuple(one for series in pairs.values() for one in series),
        full_dose_only=len(by_patient) - len(pairs),
    )


def _index_files():
    """The Parquet files of the index: of series, of collections, of versions."""
    from idc_index_data import INDEX_METADATA

    names = ("idc_index", "collections_index", "version_metadata_index")
    return [INDEX_METADATA[name]["parquet_filepath"] for name in names]


def _series(patient, description, body_part, uid, files, size_mb, url):
    place = re.fullmatch(r"s3://([^/]+)/([^/*]+/)\*", url)
    if place is None:
        raise ValueError(f"Expected s3://BUCKET/SERIES/* in the index. Received: {url}")
    bucket, prefix = place.groups()
    (description,) = (one for one in (FULL_DOSE, LOW_DOSE) if one.lower() == description.lower())
    # The index divides the sum of the file sizes by a million and does not round it.
    return RemoteSeries(patient, description, body_part, uid, files, round(size_mb * 1e6), bucket, prefix)


def _plain(html):
    return " ".join(re.sub(r"<[^>]+>", "", html).split())
