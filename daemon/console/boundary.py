"""What every request passes before any page: the host it calls, the size of what it brings, headers of the answer."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024
"""Of a form. Uploads have their own bound."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

TOO_LARGE = "more than may be sent here"

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with "no-referrer" browsers send `Origin: null` from our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Boundary:
    """An ASGI middleware. Other names than ours are refused: a name that another site points at us would read all."""

    def __init__(self, app: FastAPI, *, origin: str, upload_bytes: int, uploads: Iterable[str]) -> None:
        self._app = app
        self._host = urlsplit(origin).netloc.lower()
        self._secure = origin.startswith("https://")
        self.state: State = app.state
        self._upload_bytes, self._uploads = upload_bytes, tuple(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message.get("headers", [])}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                if self._secure:
                    extra.append((b"strict-transport-security", b"max-age=31536000"))
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if headers.get("host", "").lower() != self._host and scope["path"] not in ("/health", "/ready", "/metrics"):
            await _refuse(answer, 421, "this console has another name: see [web] url")
            return
        most = self._upload_bytes if scope["path"].startswith(self._uploads) else MOST_BYTES
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            await _refuse(answer, 413, TOO_LARGE)
            return
        brought = 0

        async def bounded() -> Message:
            nonlocal brought
            message = await receive()
            brought += len(message.get("body", b""))
            if brought > most:
                raise HTTPException(413, TOO_LARGE)
            return message

        await self._app(scope, bounded, answer)


async def _refuse(send: Send, status: int, why: str) -> None:
    body = f'{{"detail":"{why}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
