"""Who may use the console, as `porta console user` says it; names and passwords that are none are refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from daemon.commands.cli import app
from daemon.errors import BadRequest
from daemon.ledger.accounts import Accounts, Role
from daemon.ledger.store import Ledger

PASSWORD = "correct horse battery"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "porta.toml"
    path.write_text(f'[storage]\nroot = "{tmp_path / "root"}"\nmin_free_mb = 0\n')
    return path


def porta(config: Path, *words: str, typed: str = "") -> Result:
    """The command `porta console user …`."""
    return CliRunner().invoke(app, ["console", "user", *words, "-c", str(config)], input=typed)


def test_users_come_and_go(config: Path, tmp_path: Path) -> None:
    """Asked for twice, or read from stdin; the ledger has a hash alone, and the audit who did it."""
    added = porta(config, "add", "anna", "--role", "operator", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert added.exit_code == 0 and "anna may sign in, as operator" in added.output and PASSWORD not in added.output
    assert porta(config, "add", "ben", "--password-stdin", typed=f"{PASSWORD}\n").exit_code == 0
    assert porta(config, "list").output.split() == ["anna", "operator", "ben", "viewer"]
    assert porta(config, "remove", "ben").exit_code == 0
    ledger = Ledger(f"sqlite:///{tmp_path / 'root' / 'ledger.sqlite'}")
    accounts = Accounts(ledger)
    (anna,) = accounts.users()
    assert anna.role == Role.OPERATOR and str(anna.password_hash).startswith("$argon2id$")
    assert [entry.action for entry in accounts.entries(most=5)] == ["USER_REMOVE", "USER_ADD", "USER_ADD"]
    ledger.close()
    assert all(PASSWORD.encode() not in path.read_bytes() for path in (tmp_path / "root").glob("ledger*"))


@pytest.mark.parametrize(
    ("words", "typed", "sentence"),
    [
        (("add", "anna b"), PASSWORD, "NAME: a name is 1 to 64 letters"),
        (("add", "../anna"), PASSWORD, "NAME: a name is 1 to 64 letters"),
        (("add", "anna"), "short", "a password has 12 to 256 characters"),
        (("remove", "nobody"), "", "there is no user nobody"),
    ],
)
def test_what_is_no_user_is_refused(config: Path, words: tuple[str, ...], typed: str, sentence: str) -> None:
    """Nobody is added."""
    options = ("--password-stdin",) if words[0] == "add" else ()
    refused = porta(config, *words, *options, typed=f"{typed}\n").exception
    assert isinstance(refused, BadRequest) and str(refused).startswith(sentence)
    assert porta(config, "list").output == ""
