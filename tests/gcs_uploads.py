"""An adapter in front of fake-gcs-server: uploads of the XML API become uploads of the JSON API, which that server supports.

dbctl's library uses the XML API. The server itself checks the generations, and stores, reads, lists and deletes.
"""

from __future__ import annotations

import json
import re
import threading
from itertools import count
from secrets import token_hex
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests.fault_proxy import FaultProxy, Request, Response, error_response


class UploadAdapter:
    """The adapter of one process."""

    def __init__(self, port: int) -> None:
        """Start it in front of the server at a local port; it ends with this process."""
        self._proxy, self._host = FaultProxy(port), f"127.0.0.1:{port}"
        self._proxy.interfere, self._proxy.change = self._upload, _add_error_code
        self._parts, self._number, self._lock = dict[str, dict[int, bytes]](), count(1), threading.Lock()
        self._running = self._proxy.running()
        self.url = self._running.__enter__().url

    def _upload(self, request: Request) -> Response | None:
        """Perform an upload; None for other requests."""
        request.headers["host"] = self._host  # the server ignores requests for other hosts
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        _, bucket, *path = unquote(parts.path).split("/", 2)
        key = path[0] if path else ""
        upload_id = query.get("uploadId", [""])[0]
        if request.method == "POST" and "uploads" in query:
            with self._lock:
                upload_id = f"upload-{next(self._number)}"
            self._parts[upload_id] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
        if request.method == "PUT" and upload_id:
            self._parts[upload_id][int(query["partNumber"][0])] = request.body
            return Response(headers={"ETag": f'"{query["partNumber"][0]}"'})
        if request.method == "DELETE" and upload_id:
            del self._parts[upload_id]
            return Response(status=204)
        if request.method == "POST" and upload_id:
            sent = self._parts.pop(upload_id)
            numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", request.body)]
            stored = self._store(request, bucket, key, b"".join(sent[number] for number in numbers))
            if stored.status != 200:
                return stored
            tag = stored.headers["ETag"].strip('"')
            return _xml(
                f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>",
                stored.headers,
            )
        return self._store(request, bucket, key, request.body) if request.method == "PUT" else None

    def _store(self, request: Request, bucket: str, key: str, content: bytes) -> Response:
        query = {"uploadType": "multipart"}
        if generation := request.headers.get("x-goog-if-generation-match"):
            query["ifGenerationMatch"] = generation
        boundary = token_hex(16).encode()
        body = b"\r\n".join(
            [
                b"--%s\r\nContent-Type: application/json\r\n" % boundary,
                json.dumps({"name": key}).encode(),
                b"--%s\r\nContent-Type: application/octet-stream\r\n" % boundary,
                content,
                b"--%s--\r\n" % boundary,
            ]
        )
        received = self._proxy.forward(
            Request(
                method="POST",
                path=f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}",
                headers={
                    "host": self._host,
                    "content-type": f"multipart/related; boundary={boundary.decode()}",
                },
                body=body,
                number=0,
            )
        )
        if received.status != 200:
            is_conflict = received.status == 412
            return (
                error_response(412, "PreconditionFailed")
                if is_conflict
                else error_response(404, "NoSuchBucket")
            )
        stored = json.loads(received.body)
        return Response(headers={"ETag": f'"{stored["etag"]}"', "x-goog-generation": stored["generation"]})


def _xml(text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(body=text.encode(), headers={**(headers or {}), "Content-Type": "application/xml"})


def _add_error_code(request: Request, response: Response) -> Response:
    """Add the error code that the XML API returns for missing objects and buckets."""
    if response.status == 500 and request.method == "GET":  # the bucket does not exist
        return error_response(404, "NoSuchBucket")
    if response.status != 404:
        return response
    is_object = "/" in urlsplit(request.path).path.strip("/")
    return error_response(404, "NoSuchKey" if is_object else "NoSuchBucket")
