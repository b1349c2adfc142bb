"""What is wrong with a configuration, in the words of the person who wrote it.

A fault is a key and a sentence. Those within one table come from pydantic, whose jargon is translated here; those
between tables (a rule that names an unknown destination) are looked for in the document itself, so that a fault in
one place does not hide those in another.
"""

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from daemon.configuration.toml_lines import KeyPath

Table = Mapping[str, Any]


NEAR = 0.75
"""How much two names must have in common for one to be taken for the other: "retention" is no "destination"."""


class Fault(NamedTuple):
    """One fault: the key it is about, and a sentence without that key."""

    key: KeyPath
    sentence: str


def key_text(key: KeyPath) -> str:
    """Return `key` as it is shown: `rule[0].model`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The end of a sentence about the unknown `word`: the nearest known one, or else all of them."""
    by_lower = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=NEAR)
    if near:
        return f'; did you mean "{by_lower[near[0]]}"?'
    return f"; known: {', '.join(sorted(known))}" if known else "; there is none"


def shape_fault(error: ErrorDetails, root: type[BaseModel]) -> Fault:
    """The fault that pydantic's `error` means; `root` is the model that was validated."""
    key = _key_of(error["loc"])
    context, value = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "value_error":
            return Fault(key, str(context["error"]))
        case "missing":
            return Fault(key, "missing; add it")
        case "extra_forbidden":
            return Fault(key, f"unknown key{did_you_mean(str(key[-1]), _keys_of(root, key[:-1]))}")
        case "tuple_type" if key[-1] in ("any", "all"):
            return Fault(key, f"must be a list of tables; write {key[-1]} = [{{ … }}, {{ … }}]")
        case "tuple_type" if isinstance(value, dict):
            return Fault(key, f"must be an array of tables; write [[{key_text(key)}]]")
    wanted = _WANTED.get(error["type"])
    if wanted is None:
        return Fault(key, error["msg"][:1].lower() + error["msg"][1:])
    # Only pydantic's list of literals has quotes in it; the file's are double.
    return Fault(key, f"must be {wanted.format(**context)}".replace("'", '"') + f", not {show_value(value)}")


def _key_of(place: KeyPath) -> KeyPath:
    """The key as the file has it: pydantic adds "[key]" for one that is refused, and `Match` sorts what it holds."""
    sorted_in = place.index("match") if "match" in place else len(place)
    return tuple(
        part
        for index, part in enumerate(place)
        if part != "[key]" and not (index > sorted_in and part in ("texts", "numbers"))
    )


_WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list in square brackets",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path in quotes",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:.9g}",
    "greater_than_equal": "at least {ge:.9g}",
    "less_than": "less than {lt:.9g}",
    "less_than_equal": "at most {le:.9g}",
}


def show_value(value: object) -> str:
    """A value of the file as its writer would recognise it; lists and tables only by their kind."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return str(value)
    return "a list" if isinstance(value, list | tuple) else "a table" if isinstance(value, dict) else "a date or time"


PLACES_OF_ROOM = ("storage", "retention")


def reference_faults(document: Table, known_models: Collection[str] | None) -> Iterator[Fault]:
    """Yield faults between the tables of `document`; malformed values are passed over.

    `known_models`: those that `document` does not name itself; None: names of models are not looked at.
    """
    peers, destinations, rules = (_tables(document, name) for name in ("peer", "destination", "rule"))
    yield from _repeated("peer", "name", peers)
    yield from _repeated("destination", "peer", destinations)
    yield from _repeated("rule", "name", rules)
    yield from _indistinct_peers(peers)
    yield from _retention_faults(document)
    peer_by_name = {peer["name"]: peer for _, peer in peers if isinstance(peer.get("name"), str)}
    for index, destination in destinations:
        name = destination.get("peer")
        if not isinstance(name, str):
            continue
        if name not in peer_by_name:
            yield Fault(("destination", index, "peer"), f'unknown peer "{name}"{did_you_mean(name, peer_by_name)}')
        elif "url" in peer_by_name[name]:
            yield from _not_by_web(index, destination)
        elif absent := [key for key in ("host", "port") if key not in peer_by_name[name]]:
            yield Fault(
                ("destination", index, "peer"),
                f'peer "{name}" has no {" and no ".join(absent)} to send to; add them there',
            )
    receivers = {name for _, destination in destinations if isinstance(name := destination.get("peer"), str)}
    if known_models is not None:
        yield from _model_faults(rules, _tables(document, "model"), known_models)
    for index, rule in rules:
        names = rule.get("destinations")
        for place, name in enumerate(names if isinstance(names, list | tuple) else ()):
            if isinstance(name, str) and name not in receivers:
                sentence = f'unknown destination "{name}"{did_you_mean(name, receivers)}'
                yield Fault(("rule", index, "destinations", place), sentence)


def _retention_faults(document: Table) -> Iterator[Fault]:
    """Yield a fault where senders would be refused before anything is removed to make room."""
    storage, retention = (table if isinstance(table := document.get(name), dict) else {} for name in PLACES_OF_ROOM)
    least, wanted = storage.get("resume_free_mb", storage.get("min_free_mb", 1024)), retention.get("free_mb")
    if isinstance(least, int) and isinstance(wanted, int) and wanted <= least:
        sentence = f"{wanted} is not more than the {least} of [storage]: images would be refused first; raise it"
        yield Fault(("retention", "free_mb"), sentence)


def _not_by_web(index: int, destination: Table) -> Iterator[Fault]:
    """What a destination that is reached by DICOMweb cannot do."""
    if destination.get("confirm") == "commitment":
        yield Fault(("destination", index, "confirm"), 'DICOMweb has no storage commitment; use "query"')


def _model_faults(
    rules: list[tuple[int, Table]], own: list[tuple[int, Table]], known: Collection[str]
) -> Iterator[Fault]:
    yield from _repeated("model", "name", own)
    for index, model in own:
        if isinstance(model.get("name"), str) and model["name"] in known:
            yield Fault(("model", index, "name"), f'there is a model "{model["name"]}" already; choose another name')
    names = {*known, *(name for _, model in own if isinstance(name := model.get("name"), str))}
    for index, rule in rules:
        shadow = rule.get("shadow")
        meant: list[tuple[KeyPath, object]] = [(("rule", index, "model"), rule.get("model"))]
        if isinstance(shadow, list | tuple):
            meant += [(("rule", index, "shadow", place), name) for place, name in enumerate(shadow)]
        for key, name in meant:
            if isinstance(name, str) and name not in names:
                yield Fault(key, f'unknown model "{name}"{did_you_mean(name, names)}')


def _tables(document: Table, name: str) -> list[tuple[int, Table]]:
    listed = document.get(name)
    if not isinstance(listed, list | tuple):
        return []
    return [(index, table) for index, table in enumerate(listed) if isinstance(table, dict)]


def _repeated(kind: str, key: str, tables: list[tuple[int, Table]]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, table in tables:
        name = table.get(key)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield Fault((kind, index, key), f'"{name}" is already {kind}[{first[name]}]; choose another, or remove one')


def _indistinct_peers(peers: list[tuple[int, Table]]) -> Iterator[Fault]:
    """Peers that may associate with us and that a request's AE title and host cannot tell apart."""
    first: dict[tuple[str, str], int] = {}
    for index, peer in peers:
        ae_title, host = peer.get("ae_title"), peer.get("host", "")
        if peer.get("accept") is True and isinstance(ae_title, str) and isinstance(host, str):
            other = first.setdefault((ae_title, host), index)
            if other != index:
                where = f"host {host}" if host else "no host"
                sentence = f'peer[{other}] is accepted too, with the same AE title "{ae_title}" and {where}; remove one'
                yield Fault(("peer", index, "ae_title"), sentence)


def _keys_of(root: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at `path` may have, as the file spells them."""
    model = root
    for part in path:
        if isinstance(part, str):
            field = next(field for name, field in model.model_fields.items() if part in (name, field.alias))
            annotation = field.annotation
            models = [annotation, *get_args(annotation), *(getattr(mark, "section", None) for mark in field.metadata)]
            model = next(kind for kind in models if isinstance(kind, type) and issubclass(kind, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]
