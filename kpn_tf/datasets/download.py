"""Series of a public bucket -> folders on disk: resumed where they were left, whole or not there at all.

Plain HTTPS from the standard library. Slices are half a megabyte, so a download resumes at the slice; nothing of a
slice is kept that has not the size and the checksum that the bucket states.
"""

import hashlib
import http.client
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from kpn_tf.datasets.idc import UNFINISHED
from kpn_tf.files import move, remove_parts, replacing
from kpn_tf.locks import HeldError, hold

# Amazon's address of a public bucket.
BUCKET_URL = "https://{bucket}.s3.amazonaws.com"

_CONNECTIONS = 8
_TIMEOUT_S = 30
# Between the tries of one request.
_WAITS_S = (1, 4, 16)

_FILE_NAME = re.compile(r"[\w-][\w.-]*")
_MD5 = re.compile(r"[0-9a-f]{32}")


class DownloadError(OSError):
    """A series that was not downloaded; one sentence that says why and what to do."""


@dataclass(frozen=True)
class _RemoteFile:
    name: str
    url: str
    size: int
    md5: str | None


def series_folder(series, output):
    """Where a series goes: `OUTPUT/L004/Full_Dose_Images`."""
    return Path(output) / series.patient / series.description.replace(" ", "_")


def present_size(series, output):
    """How many bytes of a series are on disk already."""
    folder = series_folder(series, output)
    folders = [folder, folder.with_name(folder.name + UNFINISHED)]
    return sum(file.stat().st_size for one in folders if one.is_dir() for file in one.iterdir())


def download(series, output, *, progress):
    """Downloads one series.

    The slices gather in a folder that ends in `.part`, which gets its name when all are there, have the sizes and
    checksums of the bucket, and are as many and as large as the index says. What an earlier run left in it is
    checked and used. A finished folder is only looked at.

    Args:
        series: A `RemoteSeries`.
        output: The folder that patients' folders go to; made if missing.
        progress: Called with a number of bytes as they arrive.

    Returns:
        The series' folder.

    Raises:
        DownloadError: If the series is not complete; calling again goes on where this call ended.
    """
    folder = series_folder(series, output)
    if os.path.lexists(folder):
        _check_finished(series, folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which Windows would not rename with an open file in it.
        lock = hold(folder.with_name(f".{folder.name}.lock"))
        try:
            _download(series, folder, progress)
        finally:
            lock.remove()
    except DownloadError:
        raise
    except HeldError:
        raise DownloadError(f"another download of {folder} is under way; wait for it") from None
    except OSError as error:
        raise DownloadError(
            f"{folder} cannot be written ({error.strerror or type(error).__name__})"
        ) from error
    return folder


def _download(series, folder, progress):
    if os.path.lexists(folder):
        # Another process was faster.
        return _check_finished(series, folder)
    part = folder.with_name(folder.name + UNFINISHED)
    part.mkdir(exist_ok=True)
    remove_parts(part)
    files = _listed(series)
    missing = [file for file in files if not _is_whole(part / file.name, file)]
    _fetch(missing, part, progress)
    _check_names(files, part)
    move(part, folder)


def _check_finished(series, folder):
    sizes = [file.stat().st_size for file in _visible(folder)] if folder.is_dir() else []
    if (len(sizes), sum(sizes)) != (series.files, series.size):
        raise DownloadError(
            f"Expected {series.files} files with {series.size} bytes in {folder}. "
            f"Received: {len(sizes)} with {sum(sizes)}; nothing is overwritten: move it away and call again"
        )


def _visible(folder):
    """Its files, but for what a system left there, such as `.DS_Store`."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _check_names(files, part):
    foreign = {path.name for path in _visible(part)} - {file.name for file in files}
    if foreign:
        raise DownloadError(
            f"Expected only the {len(files)} files of the series in {part}. "
            f"Received: {len(foreign)} others as well; move them away and call again"
        )


def _listed(series):
    """`_RemoteFile`s of a series; they must be what the index counted."""
    base = BUCKET_URL.format(bucket=series.bucket)
    query, files, more = {"list-type": "2", "prefix": series.prefix}, [], True
    while more:
        url = f"{base}/?{urllib.parse.urlencode(query)}"
        try:
            # Amazon S3 API, ListObjectsV2: at most a thousand entries, and a token to ask on with.
            answer = ElementTree.fromstring(_get(url))
            files += [_remote_file(series, base, entry) for entry in answer.iterfind("{*}Contents")]
            query["continuation-token"] = answer.findtext("{*}NextContinuationToken")
            more = answer.findtext("{*}IsTruncated") == "true"
        except (ElementTree.ParseError, TypeError, ValueError) as error:
            raise DownloadError(
                f"Expected the list of a bucket from {base}. Received something else"
            ) from error
    size = sum(file.size for file in files)
    if (len(files), size) != (series.files, series.size):
        raise DownloadError(
            f"Expected {series.files} files with {series.size} bytes in the bucket, as the index says. "
            f"Received: {len(files)} with {size}; install a newer idc-index-data"
        )
    return files


def _remote_file(series, base, entry):
    key, size, tag = (entry.findtext(f"{{*}}{name}") for name in ("Key", "Size", "ETag"))
    name = key.removeprefix(series.prefix)
    if not key.startswith(series.prefix) or not _FILE_NAME.fullmatch(name):
        raise ValueError(f"Expected the name of a file below {series.prefix}. Received: {key}")
    # Amazon S3 API, Object: of what was uploaded in one piece and is not encrypted with a key of one's own (so that
    # it could not be public), the ETag is the MD5; otherwise it holds a hyphen, and the size must do.
    tag = (tag or "").strip('"')
    md5 = tag if _MD5.fullmatch(tag) else None
    return _RemoteFile(name, f"{base}/{urllib.parse.quote(key)}", int(size), md5)


def _is_whole(path, file):
    return path.is_file() and path.stat().st_size == file.size and _matches(path.read_bytes(), file)


def _matches(content, file):
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return len(content) == file.size and file.md5 in (None, md5)


def _fetch(files, folder, progress):
    stopped = threading.Event()

    def fetch(file):
        content = _get(file.url, file, stopped)
        with replacing(folder / file.name) as part:
            part.write_bytes(content)
        return file.size

    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        for size in pool.map(fetch, files):
            progress(size)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _get(url, file=None, stopped=None):
    """What a server answers; tried again where that may help."""
    stopped = stopped or threading.Event()
    for wait_s in (*_WAITS_S, None):
        if stopped.is_set():
            raise DownloadError("stopped")
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                content = response.read()
            if file is None or _matches(content, file):
                return content
            reason = f"{len(content)} bytes with another checksum than the bucket states"
        except urllib.error.HTTPError as error:
            reason = f"HTTP status {error.code}"
            error.close()
            if error.code < 500 and error.code != http.HTTPStatus.TOO_MANY_REQUESTS:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        if wait_s is not None:
            stopped.wait(wait_s)
    raise DownloadError(f"Expected an answer from {url}. Received: {reason}; call again to go on") from None
