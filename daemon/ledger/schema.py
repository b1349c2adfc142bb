"""The tables of the ledger. UIDs, AE titles, counts, codes and paths below the storage root: no patient attribute.

Of what was found the figures of shadows and corrections alone: how far two segmentations are apart, no volume, no size.
Times are seconds since 1970, UTC.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from daemon.jobs import CorrectionState, DeliveryState, ShadowState, State

UID = String(64)
AE_TITLE = String(16)
CODE = String(64)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

series = Table(
    "series",
    metadata,
    Column("series_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False, index=True),
    Column("calling_ae_title", AE_TITLE, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("last_received_at", Double, nullable=False),
    Column("released_at", Double),
    Column("expected", Integer),
    Column("expected_at", Double),
    Column("longest_pause_s", Double, nullable=False, server_default="0"),
    Column("broken_off", Boolean, nullable=False, server_default=false()),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, ForeignKey("series.series_instance_uid"), nullable=False),
    Column("sop_instance_uid", UID, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("replaced_by", Integer, ForeignKey("instances.id")),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received_at", Double, nullable=False),
    Column("removed_at", Double),
    UniqueConstraint("series_instance_uid", "sop_instance_uid", "version"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_instance_uid", UID, ForeignKey("series.series_instance_uid"), nullable=False),
    Column("study_instance_uid", UID, nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("calling_ae_title", AE_TITLE, nullable=False),
    Column("rule", CODE),
    Column("priority", Integer, nullable=False),
    Column("state", CODE, nullable=False),
    Column("reject_reason", CODE),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),
    Column("lease", String(128)),
    Column("lease_until", Double),
    Column("halt", CODE),
    Column("instances", Integer, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("chosen", Boolean, nullable=False, server_default=false()),
    Column("replaces_series_instance_uid", UID),
    Column("replaces_revision", Integer),
    Column("before_instance", Integer),
    Column("removed_at", Double),
    UniqueConstraint("series_instance_uid", "revision"),
    CheckConstraint("state IN ({})".format(", ".join(f"'{state}'" for state in State)), name="state"),
    CheckConstraint("state NOT IN ('REFUSED', 'REJECTED') OR reject_reason IS NOT NULL", name="reason"),
    CheckConstraint("state NOT IN ('RECEIVING', 'RECEIVED', 'SEGMENTED') OR reject_reason IS NULL", name="no_reason"),
    Index("ix_jobs_state_not_before", "state", "not_before"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("event", CODE, nullable=False),
    Column("from_state", CODE),
    Column("to_state", CODE),
    Column("code", CODE),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("destination", CODE, nullable=False),
    Column("kind", CODE, nullable=False),
    Column("seg_type", CODE),
    Column("sr_class", CODE),
    Column("sop_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("confirm", CODE, nullable=False),
    Column("state", CODE, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),
    Column("last_status", CODE),
    Column("volume_index", Integer, nullable=False, server_default="0"),
    Column("waited_s", Double, nullable=False, server_default="0"),
    Column("halt", CODE),
    Column("sha256", String(64)),
    Column("study_instance_uid", UID),
    Column("not_committed", Integer, nullable=False, server_default="0"),
    UniqueConstraint("job_id", "destination", "sop_instance_uid"),
    CheckConstraint("state IN ({})".format(", ".join(f"'{state}'" for state in DeliveryState)), name="state"),
    Index("ix_deliveries_state_not_before", "state", "not_before"),
)

commitments = Table(
    "commitments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transaction_uid", UID, nullable=False),
    Column("delivery_id", Integer, ForeignKey("deliveries.id"), nullable=False, index=True),
    Column("requested_at", Double, nullable=False),
    Column("reported_at", Double),
    Column("failure", CODE),
    UniqueConstraint("transaction_uid", "delivery_id"),
)

shadows = Table(
    "shadows",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("model", String(160), nullable=False),
    Column("state", CODE, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),
    Column("code", CODE),
    Column("version", String(160)),
    Column("sha256", String(64)),
    Column("volumes", Text),
    UniqueConstraint("job_id", "model"),
    CheckConstraint("state IN ({})".format(", ".join(f"'{state}'" for state in ShadowState)), name="state"),
    Index("ix_shadows_state_not_before", "state", "not_before"),
)

corrections = Table(
    "corrections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", UID, nullable=False, unique=True),
    Column("series_instance_uid", UID, ForeignKey("series.series_instance_uid"), nullable=False, index=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("calling_ae_title", AE_TITLE, nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received_at", Double, nullable=False),
    Column("state", CODE, nullable=False, index=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double),
    Column("code", CODE),
    Column("job_id", Integer, ForeignKey("jobs.id")),
    Column("model", String(160)),
    Column("version", String(160)),
    Column("model_sha256", String(64)),
    Column("volumes", Text),
    CheckConstraint("state IN ({})".format(", ".join(f"'{state}'" for state in CorrectionState)), name="state"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", CODE, nullable=False),
    Column("reason", CODE, nullable=False),
    Column("calling_ae_title", AE_TITLE, nullable=False),
    Column("called_ae_title", AE_TITLE, nullable=False),
    Column("host", CODE, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    UniqueConstraint("kind", "reason", "calling_ae_title", "called_ae_title", "host"),
)

users = Table(
    "users",
    metadata,
    Column("name", CODE, primary_key=True),
    Column("role", CODE, nullable=False),
    Column("password_hash", String(255)),
    Column("created_at", Double, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("locked_until", Double),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user", CODE, ForeignKey("users.name"), nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("user", CODE, nullable=False),
    Column("action", CODE, nullable=False),
    Column("host", CODE, nullable=False),
    Column("code", CODE),
    Column("job_id", Integer),
    Column("study_instance_uid", UID),
)
"""Without references: what was done stays, whatever becomes of user and job."""

root = Table(
    "root",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", CODE, nullable=False),
    Column("place", Text, nullable=False),
)
"""The storage root whose files the rows name: one row at most, with the id 1."""
