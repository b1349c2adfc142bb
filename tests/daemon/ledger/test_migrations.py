"""The migrations lead to the tables that the code speaks of, and back, on both databases."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import daemon.ledger.migrations
from daemon.errors import LedgerUnavailable
from daemon.ledger.schema import metadata
from daemon.ledger.store import Ledger
from reports.objects.kinds import FORMS

FOLDER = str(Path(daemon.ledger.migrations.__file__).parent)


@contextmanager
def alembic_on(database: str) -> Iterator[tuple[AlembicConfig, sa.Connection]]:
    engine = sa.create_engine(database)
    settings = AlembicConfig()
    settings.set_main_option("script_location", FOLDER)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        yield settings, connection
    engine.dispose()


def tables(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


def constraints(connection: sa.Connection) -> dict[str, list[str]]:
    """What compare_metadata does not look at: checks, uniqueness, references, by table."""
    inspector = sa.inspect(connection)
    return {
        table: sorted(
            str(item["name"])
            for found in (
                inspector.get_check_constraints(table),
                inspector.get_unique_constraints(table),
                inspector.get_foreign_keys(table),
                [inspector.get_pk_constraint(table)],
            )
            for item in found
        )
        for table in sorted(metadata.tables)
    }


def test_from_nothing_to_the_tables_of_the_code(database: str):
    """Types, nullability, indexes and defaults are those of the schema."""
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    with alembic_on(database) as (_, connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_constraints_are_those_of_the_schema(database: str, tmp_path: Path):
    """Checks, uniqueness and references too, which the comparison above does not see."""
    ledger = Ledger(database)
    ledger.migrate()
    ledger.close()
    with alembic_on(database) as (_, connection):
        migrated = constraints(connection)
        for table in ("alembic_version", *[table.name for table in reversed(metadata.sorted_tables)]):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        metadata.create_all(connection)
        assert migrated == constraints(connection)
    assert sum(map(len, migrated.values())) >= 5 + 4 + 3 + 2  # primary keys, references, checks, uniqueness


def test_migrating_again_changes_nothing(database: str):
    """Every start does it."""
    for _ in range(2):
        ledger = Ledger(database)
        ledger.migrate()
        ledger.close()
    with alembic_on(database) as (settings, connection):
        heads = ScriptDirectory.from_config(settings).get_heads()
        assert len(heads) == 1
        assert MigrationContext.configure(connection).get_current_heads() == tuple(heads)


def test_there_and_back(database: str):
    """The way down leaves nothing, and the way up works again from there."""
    for _ in range(2):
        with alembic_on(database) as (settings, connection):
            command.upgrade(settings, "head")
            assert tables(connection) == set(metadata.tables) | {"alembic_version"}
        with alembic_on(database) as (settings, connection):
            command.downgrade(settings, "base")
            assert tables(connection) == {"alembic_version"}


STATES = ("RECEIVING", "RECEIVED", "SEGMENTED", "REPORTED", "DELIVERED", "COMMITTED", "REJECTED", "CANCELLED")
JOB = """INSERT INTO jobs (id, series_instance_uid, study_instance_uid, revision, calling_ae_title, rule, priority,
    state, reject_reason, attempts, instances, warnings, created_at)
    VALUES ({number}, '1.2.3', '1.2', {number}, 'MODALITY', 'liver-ct', 0, '{state}', {reason}, 0, 12, '[]', 1)"""
DELIVERY = """INSERT INTO deliveries (id, job_id, destination, object, sop_instance_uid, series_instance_uid, path,
    confirm, state, attempts, not_before, last_status)
    VALUES ({number}, {job}, '{to}', '{name}', '{uid}', '9.1', 'outbox/4/a.dcm', 'query', '{state}', 2, 5.5, '0x0')"""


def delivery(number: int, name: str, uid: str, *, to: str = "archive", job: int = 4, state: str = "STORED") -> str:
    return DELIVERY.format(number=number, job=job, to=to, name=name, uid=uid, state=state)


def of_today(statement: str) -> str:
    """The same for the tables as they are now."""
    return statement.replace(" object,", " kind,")


FIRST_ROWS = [
    "INSERT INTO series VALUES ('1.2.3', '1.2', 'MODALITY', 12, 1000.5, NULL)",
    "INSERT INTO instances VALUES ('1.2.3.4', '1', '1', '1.2.3', 'spool/1.dcm', 5000000000, 'abc', 1000.5)",
    *(
        JOB.format(number=number, state=state, reason="'NOT_CT'" if state == "REJECTED" else "NULL")
        for number, state in enumerate(STATES, start=1)
    ),
    "INSERT INTO events (id, job_id, at, event) VALUES (1, 4, 1000.5, 'OPENED')",
    delivery(1, "seg", "9.1.1"),
    delivery(2, "sr", "9.1.2"),
    delivery(3, "sr", "9.1.2", to="ris"),
    delivery(9, "sr", "9.1.9", job=6, state="CONFIRMED"),
]
"""A ledger as version 0001 leaves it: a job in every state, and deliveries."""


def columns_of(connection: sa.Connection) -> dict[str, list[str]]:
    inspector = sa.inspect(connection)
    there = sorted(set(metadata.tables) & tables(connection))
    return {table: [str(column["name"]) for column in inspector.get_columns(table)] for table in there}


def rows_of(
    connection: sa.Connection, columns: dict[str, list[str]] | None = None
) -> dict[str, list[tuple[object, ...]]]:
    """Every row of these columns, or of all that there are."""
    return {
        table: sorted(map(tuple, connection.execute(sa.text(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1"))))
        for table, names in (columns or columns_of(connection)).items()
    }


def test_a_ledger_of_the_first_version_is_brought_up_and_back(database: str):
    """No row is lost, what was worked on goes on, what only waited is chosen from, and a series may have volumes."""
    with alembic_on(database) as (settings, connection):
        command.upgrade(settings, "0001")
        for statement in FIRST_ROWS:
            connection.execute(sa.text(statement))
        before, columns = rows_of(connection), columns_of(connection)
        at_first = dict(before)
    ledger = Ledger(database)
    ledger.migrate()
    jobs = {str(job.state): job for job in ledger.all_jobs()}
    assert {state for state, job in jobs.items() if job.chosen} == {"SEGMENTED", "REPORTED", "DELIVERED", "CONFIRMED"}
    assert jobs["REJECTED"].reject_reason == "NOT_CT"
    assert {item.volume_index for item in ledger.deliveries_of(4)} == {0}
    ledger.close()
    with foreign_keys_on(database) as connection:
        columns["deliveries"][columns["deliveries"].index("object")] = "kind"
        renamed = {"COMMITTED": "CONFIRMED"}
        before["jobs"] = [tuple(renamed.get(str(value), value) for value in row) for row in before["jobs"]]
        assert rows_of(connection, columns) == before
        there = {"audit", "commitments", "corrections", "refusals", "root", "sessions", "shadows", "users"}
        assert set(columns_of(connection)) - set(before) == there
        connection.execute(sa.text(of_today(delivery(4, "seg", "9.1.3"))))  # of another volume
    for fault in (
        delivery(5, "seg", "9.1.3"),
        delivery(5, "seg", "9.1.4", job=99),
        delivery(5, "seg", "9.1.4", state="SENT"),
    ):
        with pytest.raises(sa.exc.IntegrityError), foreign_keys_on(database) as connection:
            connection.execute(sa.text(of_today(fault)))
    with alembic_on(database) as (settings, connection):
        connection.execute(sa.text("DELETE FROM deliveries WHERE id = 4"))
        command.downgrade(settings, "0001")
        assert rows_of(connection) == at_first


REFUSED = {
    # state and refusal as version 0004 has them; state and reason afterwards
    1: ("RECEIVED", "TOO_SHORT", "REFUSED", "TOO_SHORT"),
    2: ("RECEIVED", None, "RECEIVED", None),
    3: ("REPORTED", "TOO_SHORT", "REPORTED", "TOO_SHORT"),
    4: ("REPORTED", None, "REPORTED", None),
    5: ("COMMITTED", "NO_MODEL", "CONFIRMED", "NO_MODEL"),
    6: ("CANCELLED", "TOO_SHORT", "CANCELLED", "TOO_SHORT"),
    7: ("SEGMENTED", None, "SEGMENTED", None),
    8: ("REJECTED", None, "REJECTED", "'NOT_CT'"),
}


def test_a_refused_job_of_an_older_ledger_gets_its_state(database: str):
    """Its reason is where every job has it, what refers to it stays, and the way down restores each row."""
    with alembic_on(database) as (settings, connection):
        command.upgrade(settings, "0001")
        for statement in FIRST_ROWS[:2]:
            connection.execute(sa.text(statement))
        command.upgrade(settings, "0004")
        for number, (state, refusal, _, reason) in REFUSED.items():
            rejected = reason if state == "REJECTED" else "NULL"
            connection.execute(sa.text(JOB.format(number=number, state=state, reason=rejected)))
            connection.execute(sa.text("UPDATE jobs SET refusal = :it WHERE id = :id"), {"it": refusal, "id": number})
            sent = "CONFIRMED" if state == "COMMITTED" else "STORED"
            connection.execute(sa.text(delivery(number, "verdict", f"9.{number}", job=number, state=sent)))
        before = rows_of(connection)
    ledger = Ledger(database)
    ledger.migrate()
    assert {job.id: (str(job.state), job.reject_reason) for job in ledger.all_jobs()} == {
        number: (state, reason and reason.strip("'")) for number, (_, _, state, reason) in REFUSED.items()
    }
    assert [len(ledger.deliveries_of(number)) for number in REFUSED] == [1] * len(REFUSED)
    ledger.close()
    for fault in ("SET state = 'REFUSED' WHERE id = 2", "SET reject_reason = 'TOO_SHORT' WHERE id = 7"):
        with pytest.raises(sa.exc.IntegrityError), foreign_keys_on(database) as connection:
            connection.execute(sa.text(f"UPDATE jobs {fault}"))
    with pytest.raises(sa.exc.IntegrityError), foreign_keys_on(database) as connection:
        connection.execute(sa.text("DELETE FROM jobs WHERE id = 1"))
    with alembic_on(database) as (settings, connection):
        command.downgrade(settings, "0004")
        assert rows_of(connection) == before


def test_the_names_of_objects_of_an_older_ledger_become_forms(database: str):
    """Of every name that there is; the way down gives each row its name back."""
    with alembic_on(database) as (settings, connection):
        command.upgrade(settings, "0001")
        for statement in FIRST_ROWS[:6]:
            connection.execute(sa.text(statement))
        command.upgrade(settings, "0007")
        for number, name in enumerate(FORMS, start=1):
            connection.execute(sa.text(delivery(number, name, f"9.{number}")))
        before = rows_of(connection)
    ledger = Ledger(database)
    ledger.migrate()
    assert [item.form for item in ledger.deliveries_of(4)] == list(FORMS.values())
    assert [item.object for item in ledger.deliveries_of(4)] == list(FORMS)
    ledger.close()
    with alembic_on(database) as (settings, connection):
        command.downgrade(settings, "0007")
        assert rows_of(connection) == before


def test_instances_of_an_older_ledger_get_a_study_and_a_version(database: str):
    """In the order in which they came; the way down keeps the first version of each, and one where series share it."""
    with alembic_on(database) as (settings, connection):
        command.upgrade(settings, "0001")
        for statement in FIRST_ROWS[:2]:
            connection.execute(sa.text(statement))
        connection.execute(sa.text(FIRST_ROWS[1].replace("1.2.3.4", "1.2.3.1").replace("1000.5", "1001.5")))
        command.upgrade(settings, "0008")
        before = rows_of(connection)
    ledger = Ledger(database)
    ledger.migrate()
    (first,) = ledger.versions("1.2.3", "1.2.3.4")
    assert (first.version, first.study_instance_uid, first.bytes) == (1, "1.2", 5_000_000_000)
    assert ledger.instance_paths("1.2.3", before_instance=2) == ["spool/1.dcm"]
    later = replace(first, version=2, sha256="def", path="spool/2.dcm", study_instance_uid="1.9")
    assert ledger.record_instance(later, now=2000, difference="STUDY", is_elsewhere=True)
    assert not ledger.record_instance(later, now=2000)
    assert ledger.record_instance(replace(first, series_instance_uid="1.2.4"), now=2001)
    assert ledger.versions("1.2.3", "1.2.3.4") == [first, later]
    assert sorted(ledger.instance_paths("1.2.3")) == ["spool/1.dcm", "spool/2.dcm"]
    assert ledger.instance_paths("1.2.3", before_instance=3) == ["spool/1.dcm"] * 2
    ledger.close()
    with alembic_on(database) as (settings, connection):
        command.downgrade(settings, "0008")
        assert rows_of(connection)["instances"] == before["instances"]


def test_what_was_only_acknowledged_is_no_longer_called_confirmed(database: str):
    """COMMITTED said both; what an archive was asked for is CONFIRMED. The way down names it back."""
    with alembic_on(database) as (settings, connection):
        command.upgrade(settings, "0014")
        connection.execute(sa.text("INSERT INTO series VALUES ('1.2.3', '1.2', 'M', 1, 1, NULL, NULL, NULL, 0)"))
        for number, state in ((4, "CONFIRMED"), (5, "STORED")):
            connection.execute(sa.text(JOB.format(number=number, state="COMMITTED", reason="NULL")))
            sent = of_today(delivery(number, "pdf", f"9.{number}", job=number, state=state)).replace("'0x0'", "'HELD'")
            connection.execute(sa.text(sent))
            event = "INSERT INTO events (job_id, at, event, from_state, to_state) VALUES ({}, 1, {}, 'DELIVERED', {})"
            connection.execute(sa.text(event.format(number, *["'COMMITTED'"] * 2)))
        before = rows_of(connection)
    ledger = Ledger(database)
    ledger.migrate()
    assert [str(job.state) for job in ledger.all_jobs()] == ["CONFIRMED", "DELIVERED"]
    assert ledger.deliveries_of(4)[0].last_status == "FOUND"
    assert [(item["event"], item["to_state"]) for item in ledger.history(4)] == [("CONFIRMED", "CONFIRMED")]
    ledger.close()
    with alembic_on(database) as (settings, connection):
        connection.execute(sa.text("UPDATE deliveries SET state = 'KEPT' WHERE id = 5"))
        command.downgrade(settings, "0014")
        rows = rows_of(connection)
        assert rows["events"] == before["events"]
        assert [row[-1] for row in rows["deliveries"]] == [row[-1] for row in before["deliveries"]]
        states = connection.execute(sa.text("SELECT state FROM jobs ORDER BY id")).scalars().all()
        assert states == ["COMMITTED", "DELIVERED"]
        assert connection.execute(sa.text("SELECT state FROM deliveries WHERE id = 5")).scalar_one() == "FAILED"


def test_references_are_looked_at_after_a_migration(tmp_path: Path):
    """SQLite makes tables anew with its eye on references closed, and opens it again."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    with pytest.raises(sa.exc.IntegrityError), ledger._transaction() as connection:
        connection.execute(sa.text("INSERT INTO events (job_id, at, event) VALUES (99, 0, 'OPENED')"))
    ledger.close()


@contextmanager
def foreign_keys_on(database: str) -> Iterator[sa.Connection]:
    """A transaction that looks at references, as the ledger's do."""
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        yield connection
    engine.dispose()


def test_several_processes_start_on_an_empty_database(database: str):
    """A service and a `porta submit` at the same moment: both find the tables, neither an error."""
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def migrate() -> None:
        ledger = Ledger(database)
        start.wait()
        try:
            ledger.migrate()
            ledger.all_jobs()
        except BaseException as error:
            errors.append(error)
        ledger.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_database_of_a_later_version_is_refused(database: str):
    """Whoever goes back to an older Porta must not have it write into tables that it does not know."""
    ledger = Ledger(database)
    ledger.migrate()
    with ledger._transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerUnavailable):
        ledger.migrate()
    ledger.close()
