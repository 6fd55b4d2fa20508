"""A dataset hub on loopback: one dataset at one commit, by the paths that `datasets` asks for."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "a" * 40
API = "/api/datasets/owner/name"
FILES_AT = f"/datasets/owner/name/resolve/{COMMIT}/"


@contextmanager
def serving(files):
    """The address of a hub with these files (name to bytes)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.partition("?")[0]
            listed = [
                {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                for k, v in files.items()
            ]
            if path == f"{API}/revision/{COMMIT}":
                plain = {
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }
                siblings = [{"rfilename": k} for k in files]
                return self.answer(
                    200, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings, **plain})
                )
            if path == f"{API}/tree/{COMMIT}":
                return self.answer(200, json.dumps(listed))
            name = path.removeprefix(FILES_AT)
            if path.startswith(FILES_AT) and name in files:
                tag = {"etag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "x-repo-commit": COMMIT}
                return self.answer(200, files[name], tag)
            missing = "EntryNotFound" if path.startswith((FILES_AT, f"{API}/tree")) else "RepoNotFound"
            return self.answer(404, "{}", {"x-error-code": missing})

        do_HEAD = do_GET

        def answer(self, status, body, headers=None):
            data = body if isinstance(body, bytes) else body.encode()
            self.send_response(status)
            for key, value in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub():
    """What serves files as a dataset at a commit, and the commit."""
    return serving, COMMIT
