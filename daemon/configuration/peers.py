"""The peers of the file: who they are, what they may, where they are asked, and how they know us; and our TLS."""

from pydantic import Field, ValidationInfo, field_validator, model_validator

from daemon.configuration.values import AbsolutePath, AETitle, Host, Mbit, Name, Network, Port, Section, Url
from dicom_io.tls import Certificates
from dicom_io.web.service import Secret, WebService


class Tls(Section):
    """The port of DICOM over TLS, beside the plain one; with `ca_file` callers need a certificate by one of these."""

    port: Port = 2762
    certificate_file: AbsolutePath
    key_file: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None

    @property
    def certificates(self) -> Certificates:
        """What it is spoken with."""
        return Certificates(self.ca_file, self.certificate_file, self.key_file)


class Peer(Section):
    """An application entity we talk with. One without a port only sends; one with `accept` may associate with us.

    One with `query` is asked, by C-FIND, how many images a series has that it sends. One with a `url` is a DICOMweb
    service, and needs no AE title.
    """

    name: Name
    ae_title: AETitle = ""
    host: Host | None = None
    port: Port | None = None
    accept: bool = False
    store: bool = True
    networks: tuple[Network, ...] = ()
    maximum_associations: int | None = Field(default=None, ge=1)
    maximum_instance_mb: int | None = Field(default=None, ge=1)
    maximum_mb_a_day: int | None = Field(default=None, ge=1)
    bandwidth_mbit: Mbit = None
    query: bool = False
    url: Url | None = None
    user: str | None = None
    password_file: AbsolutePath | None = None
    password_env: str | None = None
    token_file: AbsolutePath | None = None
    token_env: str | None = None
    proxy: Url | None = None
    tls: bool = False
    stow_token_file: AbsolutePath | None = None
    stow_token_env: str | None = None
    ca_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> "Peer":
        passwords = [self.password_file, self.password_env]
        secrets = [*passwords, self.token_file, self.token_env]
        if not self.ae_title and (self.url is None or self.accept or self.query):
            raise ValueError("needs an ae_title; only a peer that is asked at its url alone has none")
        if self.url is None and any([self.user, self.proxy, *secrets]):
            raise ValueError("user, passwords, tokens and proxy are for a peer with a url")
        if sum(map(bool, secrets)) > 1 or bool(self.user) != any(passwords):
            raise ValueError("give user and one of password_file and password_env, or one of token_file and token_env")
        if self.url and self.url.startswith("http:") and any(secrets):
            raise ValueError("its url must begin with https: a password or token would be read by everyone")
        if self.stow_token_file and self.stow_token_env:
            raise ValueError("give one of stow_token_file and stow_token_env")
        if self.stow_secret and not (self.accept and self.ae_title):
            raise ValueError("who stores by STOW-RS needs accept = true and an ae_title, as who its images come from")
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file needs certificate_file")
        return self

    @property
    def web_service(self) -> WebService:
        """Where and how it is asked by DICOMweb."""
        if self.url is None:
            raise ValueError(f"peer {self.name} has no url")
        password = Secret(self.password_file, self.password_env) if self.user else None
        token = Secret(self.token_file, self.token_env) if self.token_file or self.token_env else None
        return WebService(self.url, self.user, password, token, self.certificates, self.proxy)

    @property
    def stow_secret(self) -> Secret | None:
        """The token by which it is known where it stores by STOW-RS; None: it does not."""
        given = self.stow_token_file or self.stow_token_env
        return Secret(self.stow_token_file, self.stow_token_env) if given else None

    @property
    def certificates(self) -> Certificates:
        """What TLS with it is made with."""
        return Certificates(self.ca_file, self.certificate_file, self.key_file)

    @field_validator("query")
    @classmethod
    def _query_has_port(cls, query: bool, info: ValidationInfo) -> bool:
        if query and info.data.get("port", "malformed") is None:
            raise ValueError("a peer is asked at its host and port; add them, or take query away")
        return query

    @field_validator("port")
    @classmethod
    def _port_has_host(cls, port: int | None, info: ValidationInfo) -> int | None:
        if port is not None and info.data.get("host", "malformed") is None:
            raise ValueError("a port needs a host; add it")
        return port
