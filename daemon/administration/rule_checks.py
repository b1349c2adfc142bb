"""What rules, peers and destinations of a configuration that is valid may still be wrong in. Pure."""

import re
from collections.abc import Iterator, Sequence

from daemon.configuration.config import Config, Rule
from daemon.configuration.match import PHASES, RE, Match, parse_range
from daemon.routing import fits

REGEX = re.compile(r"\.\*|\.\+|\\[dwsDWSb]|^\^|\$$|\(.*\|.*\)|\(\?")
"""Signs of a regular expression in what is a glob."""


def doubts(config: Config) -> Iterator[tuple[str, str]]:
    """What may be meant otherwise: what is said of it, and what to do."""
    rules = config.enabled_rules
    if not config.rules:
        yield "there is no rule: every series ends as NO_RULE", "add a [[rule]]"
    elif not rules:
        yield "every rule has enabled = false: every series ends as NO_RULE", "enable one"
    for place, rule in enumerate(rules):
        earlier = next((other for other in rules[:place] if covers(other.match, rule.match)), None)
        if excludes_itself(rule.match):
            yield f"rule {rule.name} never matches: `not` excludes all that it asks for", "narrow its `not`"
        elif earlier:
            yield (
                f"rule {rule.name} is never reached: all that it matches falls under {earlier.name} before",
                f"put {rule.name} before {earlier.name}, or narrow {earlier.name}",
            )
        for keyword, pattern in _globs(rule.match):
            if REGEX.search(pattern):
                yield (
                    f'rule {rule.name}: {keyword} = "{pattern}" looks like a regular expression, and is a glob',
                    f'write "{RE}{pattern}"; or * for any text, ? for one character, a list for alternatives',
                )
    yield from _doubts_of_peers(config, rules)


def _doubts_of_peers(config: Config, rules: Sequence[Rule]) -> Iterator[tuple[str, str]]:
    named = {name for rule in rules for name in rule.destinations}
    for destination in config.destinations:
        if destination.peer not in named:
            yield (
                f"destination {destination.peer} is in no rule: nothing is sent there",
                "name it in a rule, or remove it",
            )
    for peer in config.peers:
        if peer.ae_title == config.dicom.ae_title:
            yield (
                f"peer {peer.name} has Porta's own AE title {peer.ae_title}",
                "enter the title that the peer has, or change [dicom] ae_title",
            )
    if not config.accepting_peers:
        yield "no peer has accept = true: every association is refused", "set it for each peer that sends"


def covers(wide: Match, narrow: Match) -> bool:
    """True where all that `narrow` matches is matched by `wide` too, as far as what they ask for shows."""
    asked = list(_joined(narrow))
    if any(covers(wide, part) for match in asked for part in match.all_of or ()):
        return True
    if any(match.any_of and all(covers(wide, part) for part in match.any_of) for match in asked):
        return True
    return (
        all(
            any(_all_fit(match.texts.get(keyword, ()), patterns) for match in asked)
            for keyword, patterns in wide.texts.items()
            if "*" not in patterns
        )
        and all(
            any(_all_lie(match.numbers.get(keyword, ()), ranges) for match in asked)
            for keyword, ranges in wide.numbers.items()
        )
        and _is_subset(wide.phase, [match.phase for match in asked], every=PHASES)
        and _is_subset(wide.hours, [match.hours for match in asked])
        and (wide.answered is None or any(match.answered == wide.answered for match in asked))
        and all(covers(part, narrow) for part in wide.all_of or ())
        and (not wide.any_of or any(covers(part, narrow) for part in wide.any_of))
        and all(any(covers(other, part) for other in _excluded(asked)) for part in wide.none_of or ())
    )


def excludes_itself(match: Match) -> bool:
    """True where one of what a rule excludes holds of all that it asks for."""
    asked = match.model_copy(update={"none_of": None})
    return any(covers(part, asked) for part in match.none_of or ())


def _joined(match: Match) -> Iterator[Match]:
    """The match, and all that must hold with it."""
    yield match
    for part in match.all_of or ():
        yield from _joined(part)


def _excluded(asked: Sequence[Match]) -> Iterator[Match]:
    for match in asked:
        yield from match.none_of or ()


def _globs(match: Match) -> Iterator[tuple[str, str]]:
    """Each pattern of a match and of its parts that is a glob, with its keyword."""
    for keyword, patterns in match.texts.items():
        yield from ((keyword, pattern) for pattern in patterns if not pattern.startswith(RE))
    for part in (*(match.any_of or ()), *(match.all_of or ()), *(match.none_of or ())):
        yield from _globs(part)


def _is_subset(
    wide: tuple[str, ...] | None, narrow: Sequence[tuple[str, ...] | None], *, every: tuple[str, ...] | None = None
) -> bool:
    """True where one of the narrow lists holds nothing but what the wide one does; None asks for nothing."""
    return wide is None or set(wide) == set(every or ()) or any(one and set(one) <= set(wide) for one in narrow)


def _all_lie(ranges: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    return bool(ranges) and all(any(parse_range(one).within(parse_range(other)) for other in wide) for one in ranges)


def _all_fit(patterns: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    return bool(patterns) and all(_any_covers(wide, pattern) for pattern in patterns)


def _any_covers(patterns: tuple[str, ...], pattern: str) -> bool:
    if pattern.startswith(RE):
        return pattern in patterns
    is_text = not set(pattern) & set("*?[")
    wanted = pattern.casefold()
    return any(
        wanted == one.casefold() or (is_text and fits(pattern, one)) or _is_within(wanted, one.casefold())
        for one in patterns
    )


def _is_within(pattern: str, other: str) -> bool:
    """True for `*liver*` within `*iver*`: a text between stars, and one that it holds."""
    inner, outer = pattern.strip("*"), other.strip("*")
    return other == f"*{outer}*" and not set(inner + outer) & set("*?[") and outer in inner
