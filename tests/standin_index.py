"""A small index in the form of idc-index-data's, for series that a stand-in bucket holds."""

import duckdb

from kpn_tf.datasets.idc import COLLECTION, FULL_DOSE, LOW_DOSE

CITATION = "Somebody, S. (2020). <i>Standing in\nfor CT</i>."


def write_index(folder, contents):
    """Writes the three Parquet files.

    Args:
        folder: Where.
        contents: Lists of file contents by `(patient, description)`.

    Returns:
        The paths, and what the bucket `pairs` holds: content by key.
    """
    objects = {}
    rows = []
    for number, ((patient, description), files) in enumerate(sorted(contents.items())):
        prefix = f"0000-{number:04d}/"
        objects |= {f"{prefix}{i:04d}.dcm": content for i, content in enumerate(files)}
        size_mb = sum(map(len, files)) / 1e6
        uid, url = f"1.2.{number}", f"s3://pairs/{prefix}*"
        rows.append((COLLECTION, patient, description, "CHEST", uid, len(files), size_mb, url))
    rows.append(("another", "L999", FULL_DOSE, "CHEST", "1.3", 1, 0.1, "s3://other/uuid/*"))
    paths = [folder / f"{name}.parquet" for name in ("series", "collections", "versions")]
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE series (collection_id VARCHAR, PatientID VARCHAR, SeriesDescription VARCHAR, "
            "BodyPartExamined VARCHAR, SeriesInstanceUID VARCHAR, instanceCount BIGINT, series_size_MB DOUBLE, "
            "series_aws_url VARCHAR)"
        )
        connection.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute(
            "CREATE TABLE collections AS SELECT ? AS collection_id, [{'citation': ?, 'license': "
            "{'license_short_name': 'CC BY 4.0', 'license_url': 'https://by.example'}}] AS sources",
            [COLLECTION, CITATION],
        )
        connection.execute("CREATE TABLE versions AS SELECT 25 AS idc_version UNION ALL SELECT 24")
        for path in paths:
            connection.execute(f"COPY {path.stem} TO '{path}' (FORMAT parquet)")
    return paths, objects


def two_patients(patients=("L001", "L002"), files=3):
    """Contents of both doses of patients, files of unequal sizes."""
    return {
        (patient, description): [
            f"{patient} {description} {i} ".encode() * (11 + 7 * i) for i in range(files)
        ]
        for patient in patients
        for description in (FULL_DOSE, LOW_DOSE)
    }
