"""The configuration: one TOML file, read once, checked whole, and passed down as frozen values.

`load` gives a `Config` that needs no further checks, or raises `ConfigurationError` with every fault of the file at
once, each with its key and line. Names are the file's: `[[peer]]` becomes `Config.peers`, `[series] quiet_s` becomes
`Config.series.quiet_s`. Every key and default is shown and explained in `deploy/porta.toml`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from daemon.configuration.faults import Fault, key_text, reference_faults, show_value
from daemon.configuration.match import Match
from daemon.configuration.peers import Peer as Peer
from daemon.configuration.peers import Tls as Tls
from daemon.configuration.toml_document import parse_document
from daemon.configuration.toml_lines import KeyPath, key_lines, line_of
from daemon.configuration.values import (
    AETitle,
    Host,
    Hours,
    Mbit,
    Name,
    ObjectKind,
    Port,
    Seconds,
    Section,
    at_least_one_each_once,
    each_once,
)
from daemon.errors import ConfigurationError
from dicom_io.tls import Certificates
from reports.objects.kinds import KINDS, SegType, SrClass
from reports.objects.profile import Profile

DEFAULT_PLACES = (Path("porta.toml"), Path("/etc/porta/porta.toml"))
"""Where the file is looked for when neither `--config` nor `$PORTA_CONFIG` names it."""

MODELS = "models"
"""The folder, in the storage root, of the models that a site added."""

_RELEASED_QUIET_S = 5.0

Days = Annotated[int | None, Field(ge=1)]

RELOADED = ("peers", "destinations", "rules", "own_models", "series", "retention")
"""The fields of `Config` that a running service takes up anew; of `dicom` it does RELOADED_DICOM."""

RELOADED_DICOM = ("ae_title", "port")

LOOPBACK = ("127.0.0.1", "::1", "localhost")

KnownModels = Collection[str] | Callable[[Path], Collection[str]] | None


class Dicom(Section):
    """Porta's own end of the network."""

    ae_title: AETitle = "PORTA"
    host: Host = "127.0.0.1"
    port: Port = 11112
    maximum_associations: int = Field(default=25, ge=1)
    maximum_pdu: int = Field(default=131072, ge=4096)
    maximum_instance_mb: int = Field(default=2048, ge=1)
    network_timeout_s: Seconds = 60.0
    acse_timeout_s: Seconds = 30.0
    move_ae_title: AETitle | None = None
    move_port: Port = 11114
    tls: Tls | None = None


class Destination(Section):
    """A destination of results; it bears the name of its peer.

    With `priors` it is asked for earlier results, too; with `prior_images` for the images of an earlier study where
    there are none.
    """

    peer: str
    objects: Annotated[tuple[ObjectKind, ...], AfterValidator(at_least_one_each_once)] = ("seg", "sr")
    seg_type: SegType = "binary"
    sr_class: SrClass = "comprehensive_3d"
    priors: bool = False
    prior_images: bool = False
    confirm: Literal["none", "query", "commitment"] = "none"
    commitment_s: Seconds = 3600.0
    attempts: int = Field(default=8, ge=1)
    first_retry_s: Seconds = 5.0
    longest_retry_s: Seconds = Field(default=300.0, validate_default=True)
    give_up_after_s: Seconds = 259200.0
    timeout_s: Seconds = 30.0
    associations: int = Field(default=1, ge=1, le=32)
    bandwidth_mbit: Mbit = None
    hours: tuple[Hours, ...] = ()

    def is_open(self, now: float) -> bool:
        """Whether objects are sent at `now` (seconds since 1970): in its `hours`, by the local time, or always."""
        local = datetime.fromtimestamp(now).strftime("%H:%M")
        windows = [hours.split("-") for hours in self.hours]
        return not windows or any(
            begin <= local < end if begin < end else local >= begin or local < end for begin, end in windows
        )

    @property
    def profile(self) -> Profile:
        """The objects that it takes, apart from where it is and how it is asked."""
        return Profile(self.objects, self.seg_type, self.sr_class)

    @field_validator("objects")
    @classmethod
    def _no_lesion_twice(cls, objects: tuple[str, ...]) -> tuple[str, ...]:
        for kind in objects:
            if also := [other for other in objects if other in KINDS[kind].instead_of]:
                raise ValueError(
                    f'"{kind}" is instead of "{also[0]}"; keep one: with both a viewer shows lesions twice'
                )
        return objects

    @field_validator("prior_images")
    @classmethod
    def _results_are_asked_for_first(cls, prior_images: bool, info: ValidationInfo) -> bool:
        if prior_images and not info.data.get("priors", True):
            raise ValueError("needs priors = true; set it: images are asked for where there are no results")
        return prior_images

    @field_validator("longest_retry_s")
    @classmethod
    def _longest_is_not_before_first(cls, longest_s: float, info: ValidationInfo) -> float:
        if longest_s < info.data.get("first_retry_s", 0.0):
            raise ValueError(f"{longest_s:g} is less than first_retry_s, {info.data['first_retry_s']:g}; raise it")
        return longest_s


class Rule(Section):
    """Which series a model is for, and where its results go; the first rule that matches is used.

    Of the series of one study that fall under the rule, the `per_study` best for `prefer` are reported. The `shadow`
    models segment the same volumes afterwards: how far they disagree is kept, and nothing of theirs is sent. One that
    is not `enabled` matches no series, and what fell under it before goes on. `oncology` names the tumours whose
    criteria are computed. Without `send` results are written and kept, as a trial. Of what waits, that of the highest
    `priority` is worked on, and sent, first.
    """

    name: Name
    enabled: bool = True
    match: Match
    model: str
    shadow: Annotated[tuple[str, ...], AfterValidator(each_once)] = ()
    destinations: Annotated[tuple[str, ...], AfterValidator(at_least_one_each_once)]
    send: bool = True
    priority: int = 0
    per_study: int = Field(default=1, ge=1)
    prefer: Literal["portal", "arterial", "native", "delayed", "all"] = "portal"
    oncology: Annotated[tuple[Literal["hcc"], ...], AfterValidator(each_once)] = ()

    @field_validator("shadow")
    @classmethod
    def _shadow_is_another(cls, shadow: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("model") in shadow:
            raise ValueError("names the rule's own model; take it away")
        return shadow


class OwnModel(Section):
    """A name that the site gives to a model by its card; the weights lie beside it under the same stem."""

    name: Name
    card: Annotated[Path, Strict(False)]

    @field_validator("card")
    @classmethod
    def _absolute(cls, card: Path) -> Path:
        if not card.is_absolute() or card.suffix != ".json":
            raise ValueError(f"must be the absolute path of a .json, not {show_value(str(card))}")
        return card


class Storage(Section):
    """The folder that holds spool, outbox, quarantine and, unless `[ledger] url` says otherwise, the ledger."""

    root: Annotated[Path, Strict(False)] = Path("/var/lib/porta")
    min_free_mb: int = Field(default=1024, ge=0)
    resume_free_mb: int | None = Field(default=None, ge=0)
    quarantine_mb: int = Field(default=2048, ge=1)
    quarantine_days: int = Field(default=90, ge=1)

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: Path) -> Path:
        if not root.is_absolute():
            raise ValueError(f"must be an absolute path, not {show_value(str(root))}")
        return root

    @field_validator("resume_free_mb")
    @classmethod
    def _resume_is_above(cls, resume_mb: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_free_mb", 0)
        if resume_mb is not None and resume_mb < least:
            raise ValueError(f"{resume_mb} is less than min_free_mb, {least}; raise it")
        return resume_mb

    @property
    def watermarks_mb(self) -> tuple[int, int]:
        """Return the free space below which nothing is taken in, and that from which on it is again."""
        return self.min_free_mb, self.resume_free_mb or self.min_free_mb + self.min_free_mb // 4

    @property
    def models(self) -> Path:
        """The folder of the models that `porta models add` brought."""
        return self.root / MODELS


class Ledger(Section):
    """The database. The URL may hold a password, so it is in no `repr` and no fault."""

    url: str | None = Field(default=None, repr=False)

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return url


class Series(Section):
    """The times after which a series counts as complete, where its sender cannot say how many images it has."""

    quiet_s: Seconds = 20.0
    released_quiet_s: Seconds = _RELEASED_QUIET_S

    @model_validator(mode="before")
    @classmethod
    def _default_follows_quiet_s(cls, data: Any) -> Any:
        """A short `quiet_s` alone is no contradiction: it shortens the default of `released_quiet_s` with it."""
        quiet_s = data.get("quiet_s") if isinstance(data, dict) else None
        if isinstance(quiet_s, int | float) and 0 < quiet_s < _RELEASED_QUIET_S:
            return {"released_quiet_s": quiet_s, **data}
        return data

    @field_validator("released_quiet_s")
    @classmethod
    def _never_more_than_quiet_s(cls, released_quiet_s: float, info: ValidationInfo) -> float:
        if released_quiet_s > info.data.get("quiet_s", released_quiet_s):
            raise ValueError(f"{released_quiet_s:g} is more than quiet_s, {info.data['quiet_s']:g}; lower it")
        return released_quiet_s


class Retention(Section):
    """When the files of what is done are removed. An absent key removes nothing."""

    delivered_days: Days = None
    kept_days: Days = None
    rejected_days: Days = None
    cancelled_days: Days = None
    total_mb: int | None = Field(default=None, ge=1)
    free_mb: int | None = Field(default=None, ge=1)
    history_days: Days = None


class Engine(Section):
    """The worker processes that run the models: one job each at a time."""

    kind: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1, le=64)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: tuple[str, ...] = ()
    threads: int | None = Field(default=None, ge=1)
    memory_mb: int | None = Field(default=None, ge=512)
    compile: bool = False
    deadline_s: Seconds = 1800.0
    attempts: int = Field(default=3, ge=1)

    @field_validator("kind", mode="before")
    @classmethod
    def _no_dask_yet(cls, kind: object) -> object:
        if kind == "dask":
            raise ValueError('"dask" is not available yet; use "local"')
        return kind

    @field_validator("devices")
    @classmethod
    def _one_for_each_worker(cls, devices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for device in devices:
            if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", device):
                raise ValueError(f'must be "cpu", "cuda" or "cuda:1", not {show_value(device)}')
        if devices and info.data.get("device", "auto") != "auto":
            raise ValueError("device says already where the workers run: leave it out")
        if devices and len(devices) != info.data.get("workers", len(devices)):
            raise ValueError(f"must name one for each worker: {len(devices)} for workers = {info.data['workers']}")
        return devices

    @property
    def worker_devices(self) -> tuple[str, ...]:
        """The device of each worker."""
        return self.devices or (self.device,) * self.workers


class Web(Section):
    """The console (`porta console`): where it listens, how browsers reach it, and who stays signed in for how long.

    Passwords and patients' names are shown over TLS alone, or on this machine: without a loopback `host` it needs an
    https `url`, whose end is either here (`certificate`, a PEM that holds the key too) or at a proxy before it.
    """

    host: Host = "127.0.0.1"
    port: Port = 8043
    certificate: Annotated[Path, Strict(False)] | None = None
    url: str | None = Field(default=None, validate_default=True)
    session_hours: float = Field(default=12.0, gt=0, le=168)
    idle_minutes: float = Field(default=30.0, gt=0)
    attempts: int = Field(default=5, ge=1)
    locked_minutes: float = Field(default=15.0, gt=0)
    upload_mb: int = Field(default=4096, ge=1)
    stow: bool = False
    ohif_url: str | None = None
    archive_url: str | None = None

    @field_validator("url")
    @classmethod
    def _url_is_safe(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/\s?#]+", url):
            raise ValueError(f"must be https://NAME or https://NAME:PORT, not {show_value(url)}")
        if info.data.get("host", "127.0.0.1") not in LOOPBACK and not (url or "").startswith("https://"):
            raise ValueError("must be the https:// address that browsers use, where host is not this machine alone")
        return url

    @field_validator("ohif_url", "archive_url")
    @classmethod
    def _has_study(cls, url: str | None) -> str | None:
        if url is not None and not (url.startswith(("https://", "http://")) and url.count("{study}") == 1):
            raise ValueError("must begin with https:// or http://, and have {study} where the StudyInstanceUID goes")
        return url

    @property
    def origin(self) -> str:
        """The address that browsers use, without a path."""
        scheme = "https" if self.certificate else "http"
        return self.url or f"{scheme}://{self.host}:{self.port}"


class Alerts(Section):
    """Whom the console tells that something needs a person. Without an address it tells nobody."""

    webhook: str | None = None
    secret: Annotated[Path, Strict(False)] | None = None
    mail_to: tuple[str, ...] = ()
    mail_from: str = "porta@localhost"
    smtp_host: Host = "127.0.0.1"
    smtp_port: Port = 25
    repeat_minutes: float = Field(default=240.0, gt=0)

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, webhook: str | None) -> str | None:
        if webhook is not None and not re.fullmatch(r"https?://\S+", webhook):
            raise ValueError("must begin with https:// or http://")
        return webhook


class Log(Section):
    """The log on stderr; `auto` means text on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Config(Section):
    """The whole file. Built by hand, as tests do, it takes the file's words: `Config(peer=(Peer(…),), rule=(…))`."""

    dicom: Dicom = Dicom()
    peers: tuple[Peer, ...] = Field(default=(), alias="peer")
    destinations: tuple[Destination, ...] = Field(default=(), alias="destination")
    rules: tuple[Rule, ...] = Field(default=(), alias="rule")
    own_models: tuple[OwnModel, ...] = Field(default=(), alias="model")
    storage: Storage = Storage()
    ledger: Ledger = Ledger()
    series: Series = Series()
    retention: Retention = Retention()
    engine: Engine = Engine()
    web: Web = Web()
    alerts: Alerts = Alerts()
    log: Log = Log()
    _cards: Mapping[str, Path] = PrivateAttr(default_factory=dict)
    _file: tuple[str, str] | None = PrivateAttr(default=None)
    """The name of the file and its text, for `fault`."""

    def with_cards(self, cards: Mapping[str, Path]) -> "Config":
        """Return the same with the cards that the rules' names of models meant when the service started."""
        copy = self.model_copy()
        copy._cards = dict(cards)
        return copy

    def card(self, name: str) -> str:
        """Return the path of the card for a rule's name of a model, or the name: `models.cards.find` takes both."""
        return str(self._cards.get(name, name))

    def fault(self, key: KeyPath, sentence: str) -> str:
        """Return the line of a fault that only the machine knows of: file, line, key and what is wrong."""
        if self._file is None:
            return f"{key_text(key)}: {sentence}"
        source, text = self._file
        return f"{source}:{line_of(key, key_lines(text))}: {key_text(key)}: {sentence}"

    @property
    def file(self) -> str | None:
        """The absolute path of the file that it was read from; None where it was built by hand."""
        return str(Path(self._file[0]).absolute()) if self._file else None

    @property
    def routing_digest(self) -> str:
        """Return a hash of what a running service can take up anew (see RELOADED)."""
        dicom = self.dicom.model_dump_json(include=set(RELOADED_DICOM))
        return _digest(self.model_dump_json(include=set(RELOADED)) + dicom)

    @property
    def fixed_digest(self) -> str:
        """Return a hash of all that a service has until it ends."""
        return _digest(self._as_fixed.model_dump_json(exclude=set(RELOADED)))

    @property
    def _as_fixed(self) -> "Config":
        """The same with the defaults of what can be taken up of `dicom`."""
        defaults = {name: getattr(Dicom(), name) for name in RELOADED_DICOM}
        return self.model_copy(update={"dicom": self.dicom.model_copy(update=defaults)})

    def fixed_changes(self, other: "Config") -> list[KeyPath]:
        """Return the keys in which another configuration differs and that a running service cannot take up."""
        ours, theirs = (one._as_fixed.model_dump(exclude=set(RELOADED)) for one in (self, other))
        return list(_differing(ours, theirs))

    @property
    def enabled_rules(self) -> tuple[Rule, ...]:
        """The rules that a new series may fall under."""
        return tuple(rule for rule in self.rules if rule.enabled)

    @property
    def accepting_peers(self) -> tuple[Peer, ...]:
        """The peers that may associate with us. With none of them every association is refused."""
        return tuple(peer for peer in self.peers if peer.accept)

    @property
    def ledger_url(self) -> str:
        """The ledger's SQLAlchemy URL: as configured, with the driver that is installed, or SQLite in the root."""
        url = self.ledger.url or f"sqlite:///{self.storage.root / 'ledger.sqlite'}"
        return re.sub(r"^postgresql://", "postgresql+psycopg://", url)

    def peer(self, name: str) -> Peer:
        """Return the peer called `name`; KeyError without one (the ledger may remember older names)."""
        return {peer.name: peer for peer in self.peers}[name]

    def tls_with(self, peer: Peer) -> Certificates | None:
        """What a peer is spoken to over TLS with, its own files before those of [dicom.tls]; None: it is not."""
        if not peer.tls:
            return None
        own, ours = peer.certificates, self.dicom.tls.certificates if self.dicom.tls else Certificates()
        if own.certificate_file is None:
            own = replace(own, certificate_file=ours.certificate_file, key_file=ours.key_file)
        return replace(own, ca_file=own.ca_file or ours.ca_file)

    @property
    def certificates(self) -> dict[str, Certificates]:
        """What TLS is spoken with: by the name of the peer, and "dicom.tls" for our own port."""
        ours = {"dicom.tls": self.dicom.tls.certificates} if self.dicom.tls else {}
        return ours | {peer.name: peer.certificates for peer in self.peers if peer.certificates.files}

    def destination(self, peer_name: str) -> Destination:
        """Return the destination at the peer called `peer_name`; KeyError without one."""
        return {destination.peer: destination for destination in self.destinations}[peer_name]


def load(
    path: Path | None,
    *,
    known_models: KnownModels,
    environ: Mapping[str, str] = os.environ,
    places: Sequence[Path] = DEFAULT_PLACES,
) -> Config:
    """Read and check the configuration at `path`, else at `$PORTA_CONFIG`, else at the first of `places` there is.

    `known_models`: see `parse`. Raises ConfigurationError with all faults.
    """
    found = find(path, environ=environ, places=places)
    try:
        return parse(found.read_bytes(), known_models=known_models, source=str(found))
    except OSError as error:
        raise ConfigurationError([f"{found}: cannot be read: {error.strerror}"]) from error


def find(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, places: Sequence[Path] = DEFAULT_PLACES
) -> Path:
    """Return the file that `load` reads; raises ConfigurationError where there is none."""
    if path is not None:
        if not path.exists():
            raise ConfigurationError([f"{path}: there is no such file; `porta init` writes one"])
        return path
    if named := environ.get("PORTA_CONFIG"):
        if not Path(named).exists():
            raise ConfigurationError(
                [f"{named}: there is no such file; $PORTA_CONFIG names it: set it right, or unset it"]
            )
        return Path(named)
    for place in places:
        if place.exists():
            return place
    looked = ", ".join(["--config", "$PORTA_CONFIG", *map(str, places)])
    raise ConfigurationError([f"no configuration found; `porta init` writes one; looked for: {looked}"])


def parse(content: bytes, *, known_models: KnownModels, source: str = "porta.toml") -> Config:
    """Parse `content`, the bytes of a TOML file that faults call `source`.

    `known_models` are the names that a rule's `model` and `shadow` may have besides those of `[[model]]`: all of them,
    or what tells them of the folder where the site's own lie; None: the names are not looked at.
    Raises ConfigurationError with all faults, in the order of their lines.
    """

    def faults(document: Mapping[str, Any]) -> Iterator[Fault]:
        known = known_models(_models_folder(document)) if callable(known_models) else known_models
        return reference_faults(document, known)

    config = parse_document(content, Config, source, faults)
    config._file = source, content.decode("utf-8-sig")
    return config


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _differing(ours: dict[str, Any], theirs: dict[str, Any], table: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the keys whose values differ, as deep as both have a table."""
    for name, value in ours.items():
        other = theirs[name]
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differing(value, other, (*table, name))
        elif value != other:
            yield (*table, name)


def _models_folder(document: Mapping[str, Any]) -> Path:
    """Return the folder of added models that a document names, whatever else is wrong with it."""
    storage = document.get("storage")
    root = storage.get("root") if isinstance(storage, dict) else None
    return (Path(root) if isinstance(root, str) else Storage().root) / MODELS
