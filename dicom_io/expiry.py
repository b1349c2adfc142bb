"""When a certificate ends. Apart from TLS itself, for reading certificates takes a library that is slow to load."""

from datetime import UTC, datetime

from cryptography import x509

from dicom_io.errors import CertificateUnusable
from dicom_io.tls import Certificates

WARNED_DAYS = 30
"""How long before its end a certificate is warned of."""


def days_left(certificates: Certificates, now: float) -> int | None:
    """Return for how many whole days after `now` (seconds since 1970) our own certificate, and its chain, are valid.

    Below 0 once one has ended; None where we have none. Raises CertificateUnusable.
    """
    if certificates.certificate_file is None:
        return None
    try:
        chain = x509.load_pem_x509_certificates(certificates.certificate_file.read_bytes())
        ends = min(certificate.not_valid_after_utc for certificate in chain)
    except (OSError, ValueError) as error:
        raise CertificateUnusable(f"{certificates.certificate_file}: no certificate that can be read") from error
    return (ends - datetime.fromtimestamp(now, UTC)).days
