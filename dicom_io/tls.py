"""TLS by BCP 195 (RFC 9325): version 1.2 or later, forward secrecy, authenticated encryption; for DICOM and DICOMweb.

This is what the BCP 195 RFC 8996, 9325 secure connection profiles ask for (PS3.15 section B.12).
"""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_io.errors import CertificateUnusable

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, as RFC 9325 section 4.2 recommends; those of 1.3 are all as good."""


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: whom to believe (`ca_file`; None: whom the system does), and who we are, with the key to it.

    `key_file` is None where the key stands with the certificate.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are named."""
        return tuple(filter(None, (self.ca_file, self.certificate_file, self.key_file)))

    def for_client(self) -> ssl.SSLContext:
        """Return the context of who calls: the peer must have a valid certificate for its name.

        Raises CertificateUnusable where a file cannot be used.
        """
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise CertificateUnusable(f"{self.ca_file}: no certificates that can be read") from error
        return self._completed(context)

    def for_server(self) -> ssl.SSLContext:
        """Return the context of who is called; with `ca_file` every caller must have a certificate by one of these.

        Raises CertificateUnusable where a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise CertificateUnusable(f"{self.ca_file}: no certificates that can be read") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return self._completed(context)

    def _completed(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        if self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise CertificateUnusable(f"{self.certificate_file}: no certificate and key that fit") from error
        return context


class LiveContext:
    """The context of who is called, made anew where a file of it has changed: certificates are renewed while we run.

    Files that cannot be used leave the context as it was; `failed` is told, once for each change.
    """

    def __init__(self, certificates: Certificates, failed: Callable[[CertificateUnusable], object]) -> None:
        """Raises CertificateUnusable."""
        self._certificates, self._failed = certificates, failed
        self._lock = threading.Lock()
        self._seen = self._look()
        self._context = certificates.for_server()

    def __call__(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        with self._lock:
            if (seen := self._look()) != self._seen:
                self._seen = seen
                try:
                    self._context = self._certificates.for_server()
                except CertificateUnusable as error:
                    self._failed(error)
            return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._certificates.files:
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append(None)
        return found
