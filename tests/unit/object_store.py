"""A server that speaks as much of S3's protocol as it takes to upload objects, for Arrow's real client to talk to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import BinaryIO
from urllib.parse import urlparse

_BEGUN = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
_ENDED = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
_REFUSED = b"<Error><Code>AccessDenied</Code><Message>no right to write here</Message></Error>"


@dataclass
class ObjectStore:
    """The objects by `/bucket/key`; `parts` are uploads that were not completed. One that is `closed` takes no part."""

    port: int = 0
    closed: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)

    def address(self, path: str) -> str:
        """The address of a folder as a sink names it."""
        return f"s3://{path}?endpoint_override=localhost:{self.port}&scheme=http&region=nowhere"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Runs one on a free port of the loopback."""
    store = ObjectStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            path, query = _asked(self)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "uploads" in query:
                _answer(self, 200, _BEGUN)
            else:
                store.objects[path] = store.parts.pop(path)
                _answer(self, 200, _ENDED)

        def do_PUT(self) -> None:
            path, _ = _asked(self)
            content = _content(self)
            if store.closed:
                _answer(self, 403, _REFUSED)
                return
            store.parts[path] = store.parts.get(path, b"") + content
            _answer(self, 200, b"")

        def do_DELETE(self) -> None:
            store.parts.pop(_asked(self)[0], None)
            _answer(self, 204, b"")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        store.port = server.server_port
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()


def _asked(request: BaseHTTPRequestHandler) -> tuple[str, str]:
    url = urlparse(request.path)
    return url.path, url.query


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("ETag", '"1"')
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _content(request: BaseHTTPRequestHandler) -> bytes:
    """The body; without the chunks of HTTP, and then of AWS, in which it may come."""
    if request.headers.get("Transfer-Encoding") == "chunked":
        body = b"".join(_chunks(request.rfile))
        while request.rfile.readline().strip():  # a trailer
            pass
    else:
        body = request.rfile.read(int(request.headers["Content-Length"]))
    if "aws-chunked" in request.headers.get("Content-Encoding", ""):
        return b"".join(_chunks(BytesIO(body)))
    return body


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while size := int(stream.readline().partition(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
