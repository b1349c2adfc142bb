"""`porta console`: the pages for people, in a process beside the service; and who may use them."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from daemon.commands.admin_commands import configured, read
from daemon.commands.options import ConfigOption
from daemon.configuration.config import find
from daemon.configuration.values import checked_name
from daemon.errors import BadRequest
from daemon.intake import open_storage
from daemon.ledger.accounts import Accounts, Entry, Role
from daemon.terminal import say

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="Serve the console, in the foreground: pages and a JSON API. `user` says who may use it.",
)
users = typer.Typer(no_args_is_help=True, add_completion=False, help="Who may use the console.")
app.add_typer(users, name="user")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, dashes, underscores.")]


@app.callback()
def console(context: typer.Context, config: ConfigOption = None) -> None:
    """Serve the console, in the foreground, until SIGTERM or Ctrl-C. `porta run` need not run."""
    context.obj = config
    if context.invoked_subcommand is None:
        from daemon.console import server

        server.run(configured(config), find(config), lambda: read(config))


@users.command()
def add(
    context: typer.Context,
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="Each may do what those before it may.")] = Role.VIEWER,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read it from stdin, for scripts.")] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user, or give one another role and password; asks for the password."""
    from daemon.console.passwords import hash_password

    accounts = _accounts(config or context.obj)
    _checked(name)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    accounts.put(name, role, hash_password(password), now=time.time())
    _note(accounts, "USER_ADD", role)
    say(f"{name} may sign in, as {role}")


@users.command()
def remove(context: typer.Context, name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user, and sign them out."""
    accounts = _accounts(config or context.obj)
    accounts.remove(name)
    _note(accounts, "USER_REMOVE", None)
    say(f"{name} may not sign in any more")


@users.command("list")
def list_users(context: typer.Context, config: ConfigOption = None) -> None:
    """List the users and their roles."""
    for user in _accounts(config or context.obj).users():
        say(f"{user.name:<24} {user.role}" + ("" if user.password_hash else "  (signed in by the site)"))


def _accounts(config: Path | None) -> Accounts:
    _, ledger = open_storage(configured(config))
    return Accounts(ledger)


def _checked(name: str) -> None:
    try:
        checked_name(name)
    except ValueError as error:
        raise BadRequest(f"NAME: {error}") from None


def _note(accounts: Accounts, action: str, code: str | None) -> None:
    accounts.note(Entry(time.time(), f"uid-{os.geteuid()}", action, "-", code))
