"""A public bucket on this machine: lists and serves files like Amazon S3, and fails when told to."""

import hashlib
import http.server
import threading
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

# Entries per answer: small, so that every list is asked for in several parts.
PAGE = 2


@dataclass
class Bucket:
    """What the server holds, and how it misbehaves.

    Args:
        objects: Content by key.
        failures: HTTP statuses to answer with, by key, one request after the other, before it goes well.
        served: Content by key where another than listed is served.
        cut: Keys whose answers end in the middle.
        requests: Keys asked for, in order, and "list" for a list.
        tags: ETag by key where it is not the MD5.
        list_text: What is served as the list of anything.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    list_text: str | None = None

    def listing(self, query):
        """The answer to ListObjectsV2."""
        if self.list_text is not None:
            return self.list_text
        keys = sorted(key for key in self.objects if key.startswith(query["prefix"]))
        start = int(query.get("continuation-token", 0))
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{self.tag(key)}&quot;</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in keys[start : start + PAGE]
        )
        more = start + PAGE < len(keys)
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        )

    def tag(self, key):
        """MD5, as of what was uploaded in one piece."""
        return self.tags.get(key) or hashlib.md5(self.objects[key]).hexdigest()


@contextmanager
def serve(bucket):
    """Serves a `Bucket` and yields its address, with a place for the bucket's name."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urllib.parse.urlsplit(self.path)
            key = urllib.parse.unquote(parts.path.split("/", 2)[2])
            bucket.requests.append(key or "list")
            if key == "":
                query = dict(urllib.parse.parse_qsl(parts.query))
                self.answer(200, bucket.listing(query).encode())
            elif bucket.failures.get(key):
                self.answer(bucket.failures[key].pop(0), b"")
            elif key in bucket.objects:
                content = bucket.served.get(key, bucket.objects[key])
                self.answer(200, content, cut=key in bucket.cut)
            else:
                self.answer(404, b"")

        def answer(self, status, content, cut=False):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{{bucket}}"
        finally:
            server.shutdown()
            thread.join()
