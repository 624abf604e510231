# SPDX-License-Identifier: BSD-2-Clause
"""What gunicorn (WSGI) and uvicorn (ASGI) serve: /N is N bytes; what is posted comes back reversed, after its SHA-256."""
import hashlib


def page(path):
    return b"x" * int(path.strip("/") or 5)


def wsgi(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        answer = hashlib.sha256(body).digest() + body[::-1]
    else:
        answer = page(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["method"] == "POST":
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        answer = hashlib.sha256(body).digest() + body[::-1]
    else:
        answer = page(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})
