"""A DICOMweb service: where it is, who we are to it, and one request at a time.

Secrets and certificates are read from their files at each request: those that are changed count from then on.
"""

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dicom_io.errors import AssociationLost, PeerUnreachable, WebRefused
from dicom_io.tls import Certificates

MOST_ANSWER = 1 << 22
"""Bytes of an answer that are read."""


@dataclass(frozen=True)
class Secret:
    """A password or token: in a file, or in a variable of the environment."""

    file: Path | None = None
    variable: str | None = None

    def read(self) -> str:
        """Return it. Raises PeerUnreachable where it is not there: the site has to put it there."""
        try:
            found = self.file.read_text().strip() if self.file else os.environ.get(self.variable or "", "")
        except (OSError, UnicodeDecodeError) as error:
            raise PeerUnreachable(f"{self.file}: the secret cannot be read") from error
        if not found or not found.isascii() or not found.isprintable():
            raise PeerUnreachable(f"{self.file or self.variable}: there is no usable secret")
        return found


@dataclass(frozen=True)
class WebService:
    """A DICOMweb service. `user` with `password`, or `token`, say who we are; `proxy` is a URL.

    Without `proxy` the environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY count.
    """

    url: str
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    certificates: Certificates = field(default_factory=Certificates)
    proxy: str | None = None

    def __str__(self) -> str:
        return httpx.URL(self.url).host


@dataclass(frozen=True)
class Answer:
    """The status of a response, and its body where that is JSON (PS3.18 annex F)."""

    status: int
    body: Any


@dataclass(frozen=True)
class Stream:
    """The status of a response, its Content-Type, and its body piece by piece."""

    status: int
    content_type: str
    pieces: Iterator[bytes]


@contextmanager
def streamed(service: WebService, path: str, *, timeout_s: float, headers: Mapping[str, str]) -> Iterator[Stream]:
    """GET below the service's URL. Raises PeerUnreachable as `ask` does; each piece may take `timeout_s`."""
    with (
        _errors(service),
        _client(service, timeout_s) as client,
        client.stream("GET", _address(service, path), headers=_known(service, headers)) as response,
    ):
        yield Stream(response.status_code, response.headers.get("content-type", ""), response.iter_bytes())


def ask(
    service: WebService,
    path: str,
    *,
    timeout_s: float,
    parameters: Mapping[str, str] | None = None,
    content: Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET, or POST where there is `content`, below the service's URL. Redirections are not followed: they would get
    our secrets.

    Raises PeerUnreachable: no connection, no valid certificate, no answer in time, or one that never ends.
    """
    said = _known(service, {"Accept": "application/dicom+json"} | dict(headers or {}))
    method = "GET" if content is None else "POST"
    with (
        _errors(service),
        _client(service, timeout_s) as client,
        client.stream(method, _address(service, path), params=parameters, content=content, headers=said) as response,
    ):
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_ANSWER:
                raise PeerUnreachable(f"{service} answers without end")
        return Answer(response.status_code, _json(bytes(body)))


def _address(service: WebService, path: str) -> str:
    return f"{service.url.rstrip('/')}/{path}"


def _known(service: WebService, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with who we are. Raises PeerUnreachable where the token is not there."""
    token = {"Authorization": f"Bearer {service.token.read()}"} if service.token else {}
    return dict(headers) | token


def refusal(service: WebService, answer: Answer | Stream) -> WebRefused:
    """Return the error of an answer that is none of success."""
    return WebRefused(str(service), answer.status)


def _client(service: WebService, timeout_s: float) -> httpx.Client:
    auth = httpx.BasicAuth(service.user, service.password.read()) if service.user and service.password else None
    context: ssl.SSLContext | bool = True
    if service.url.startswith("https:"):
        context = service.certificates.for_client()
    return httpx.Client(auth=auth, verify=context, proxy=service.proxy, timeout=timeout_s, follow_redirects=False)


@contextmanager
def _errors(service: WebService) -> Iterator[None]:
    try:
        yield
    except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError) as error:
        raise AssociationLost(f"{service} did not answer: {type(error).__name__}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
        raise PeerUnreachable(f"{service}: {type(error).__name__}") from error


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
