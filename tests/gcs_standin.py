"""A stand-in for Google Cloud Storage on loopback: the part of its JSON API that clients use on an emulator.

Objects are kept in memory. Uploads are single or resumable, and may require that the name is new.
"""

import base64
import hashlib
import itertools
import json
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Store(ThreadingHTTPServer):
    """A server with one bucket, whose ``objects`` are kept by name. Other buckets do not exist."""

    daemon_threads = True

    def __init__(self, bucket):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bucket, self.objects, self.uploads = bucket, {}, {}
        self.described, self.numbers, self.lock = {}, itertools.count(1), threading.Lock()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        if not isinstance(
            sys.exc_info()[1], ConnectionError
        ):  # a client may close the connection early
            super().handle_error(request, client_address)

    def put(self, name, data):
        with self.lock:
            self.objects[name] = data
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            number = str(next(self.numbers))
            self.described[name] = {
                **{"kind": "storage#object", "name": name, "bucket": self.bucket},
                **{"size": str(len(data)), "updated": now, "timeCreated": now},
                **{"generation": number, "etag": f"tag-{number}"},
                "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            }
            return self.described[name]


@contextmanager
def serve(bucket):
    with Store(bucket) as store:
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        try:
            yield store
        finally:
            store.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self._object()
        if name is None:
            return
        if name == "":
            self._list()
        elif name not in self.server.objects:
            self._fail(404, f"No such object: {self.server.bucket}/{name}")
        elif self.query.get("alt") == "media":
            self._send_media(self.server.objects[name])
        else:
            self._answer(self.server.described[name])

    def do_DELETE(self):
        name = self._object()
        if name is None:
            return
        with self.server.lock:
            found = self.server.objects.pop(name, None)
        if found is None:
            self._fail(404, "No such object")
        else:
            self._send(204, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._object() is None:
            return
        kind = self.query.get("uploadType")
        if "upload_id" in self.query:
            self._take_part(self.query["upload_id"], body)
        elif kind == "multipart":
            boundary = self.headers["Content-Type"].split("boundary=")[1].strip("\"'")
            _, described, data, _ = body.split(f"--{boundary}".encode(), 3)
            name = json.loads(described.split(b"\n\n", 1)[1])["name"]
            self._create(name, data.split(b"\n\n", 1)[1][:-1])
        else:
            number = str(next(self.server.numbers))
            self.server.uploads[number] = (json.loads(body)["name"], b"")
            place = f"{self.server.address}{urlsplit(self.path).path}?upload_id={number}"
            self._send(200, b"", Location=place)

    def _take_part(self, number, body):
        name, data = self.server.uploads[number]
        self.server.uploads[number] = (name, data + body)
        last, total = self.headers["Content-Range"].split("-")[1].split("/")
        if int(last) + 1 < int(total):
            self._send(308, b"", Range=f"bytes=0-{last}")
        else:
            self._create(*self.server.uploads.pop(number))

    def _create(self, name, data):
        if self.query.get("ifGenerationMatch") == "0" and name in self.server.objects:
            self._fail(412, "At least one of the pre-conditions you specified did not hold.")
        else:
            self._answer(self.server.put(name, data))

    def _object(self):
        """Returns the name of the requested object: "" for a listing, None if an answer was sent."""
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        _, _, place = parts.path.partition("/b/")
        bucket, _, name = place.partition("/o")
        if bucket != self.server.bucket:
            self._fail(404, "The specified bucket does not exist.")
            return None
        if "/o" not in place:
            self._answer({"kind": "storage#bucket", "name": bucket})
            return None
        return unquote(name.lstrip("/"))

    def _list(self):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        items, prefixes = [], set()
        for name in sorted(self.server.objects):
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    items.append(self.server.described[name])
        self._answer({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _send_media(self, data):
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, data)
            return
        first, last = asked.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1 if last else None]
        if not part:
            self._fail(416, "The requested range cannot be satisfied.")
            return
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(206, part, **{"Content-Range": span})

    def _answer(self, fields):
        self._send(200, json.dumps(fields).encode(), **{"Content-Type": "application/json"})

    def _fail(self, code, message):
        error = {"error": {"code": code, "message": message}}
        self._send(code, json.dumps(error).encode(), **{"Content-Type": "application/json"})

    def _send(self, code, body, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
