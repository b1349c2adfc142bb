"""Options of the commands that train: made of the keys of a training's configuration, with their bounds and help."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from daemon.workbench.train_settings import TrainSettings, key_field

NAMES = {"data.folders": "--data"}
"""Options that are not called as their key."""
HELD_OUT = ("data.split", "data.fold", "data.leave_out")
MACHINE = ("machine.device", "machine.threads", "machine.workers", "machine.processes")
OVERRIDES = "overrides"

TrainConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A TOML file, as deploy/train.toml; options go over it.")
]

Command = Callable[..., None]


def takes_keys(*keys: str, defaults: TrainSettings | None = None) -> Callable[[Command], Command]:
    """Give a command an option for each of the keys (`table.key`), in place of its parameter `overrides`.

    That one gets what was given, for `load_settings`; and `defaults`, for a command that reads no file.
    """
    options = {key: _option(key, defaults) for key in keys}

    def decorate(command: Command) -> Command:
        def run(**given: Any) -> None:
            overrides = {_place(key): given.pop(option.name) for key, option in options.items()}
            command(**given, overrides={key: _as_set(value) for key, value in overrides.items()})

        own = inspect.signature(command).parameters.values()
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        place = next(place for place, parameter in enumerate(parameters) if parameter.name == OVERRIDES)
        parameters[place : place + 1] = options.values()
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _place(key: str) -> tuple[str, str]:
    table, _, name = key.partition(".")
    return table, name


def _option(key: str, defaults: TrainSettings | None) -> inspect.Parameter:
    """A parameter that Typer makes an option of; what is not given is None, or the default."""
    table, name = _place(key)
    field = key_field(table, name)
    kind = _kind(field.annotation)
    bounds = {
        end: getattr(mark, bound)
        for mark in field.metadata
        for end, bound in (("min", "ge"), ("max", "le"))
        if kind is int and hasattr(mark, bound)
    }
    option = NAMES.get(key, f"--{name.replace('_', '-')}")
    return inspect.Parameter(
        option.strip("-").replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None if defaults is None else getattr(getattr(defaults, table), name) or None,
        annotation=Annotated[kind | None, typer.Option(option, help=field.description, **bounds)],
    )


def _as_set(value: Any) -> Any:
    """The settings hold tuples where Typer gives lists."""
    return tuple(value) if isinstance(value, list) else value


def _kind(annotation: Any) -> Any:
    """The type of an option for values of a type: lists for tuples, text for names that the settings check."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return list[_kind(parts[0])]  # type: ignore[misc]
    if origin is Literal:
        return str
    if origin in (Annotated, Union, UnionType):
        return _kind(parts[0])
    return annotation
