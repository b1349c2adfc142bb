"""TLS by BCP 195 (RFC 9325): version 1.2 or later, forward secrecy, authenticated encryption; for DICOM and DICOMweb.

This is what the BCP 195 RFC 8996, 9325 secure connection profiles ask for (PS3.15 section B.12).
"""

import ssl
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
