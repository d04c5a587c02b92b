"""A relay in front of MLflow that spoils downloads, as a server does that is restarted, or whose store is too busy."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

_OF_A_CONNECTION = {"host", "connection", "content-length", "accept-encoding"}


@contextmanager
def relay(target: str, status: int) -> Iterator[str]:
    """Its address. Each file of a model is answered with this status, and with half of the file where that is 200; all
    else is as MLflow says.
    """

    class Relay(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
            got = httpx.request(self.command, target + self.path, headers=headers, content=sent, trust_env=False)
            is_file = self.command == "GET" and "/mlflow-artifacts/artifacts/" in self.path
            self.send_response(status if is_file else got.status_code)
            self.send_header("Content-Type", got.headers.get("Content-Type", "application/octet-stream"))
            self.send_header("Content-Length", str(len(got.content)))
            self.end_headers()
            self.wfile.write(got.content[: len(got.content) // 2] if is_file and status == 200 else got.content)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one

    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
