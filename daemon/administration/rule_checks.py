"""What rules, peers and destinations of a configuration that is valid may still be wrong in. Pure."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from daemon.configuration.config import Config, Rule

REGEX = re.compile(r"\.\*|\.\+|\\[dwsDWSb]|^\^|\$$|\(.*\|.*\)|\(\?")
"""Signs of a regular expression in what is a glob."""


def doubts(config: Config) -> Iterator[tuple[str, str]]:
    """What may be meant otherwise: what is said of it, and what to do."""
    if not config.rules:
        yield "there is no rule: every series ends as NO_RULE", "add a [[rule]]"
    for place, rule in enumerate(config.rules):
        earlier = next((other for other in config.rules[:place] if covers(other, rule)), None)
        if earlier:
            yield (
                f"rule {rule.name} is never reached: all that it matches falls under {earlier.name} before",
                f"put {rule.name} before {earlier.name}, or narrow {earlier.name}",
            )
        for keyword, patterns in rule.match.items():
            for pattern in patterns:
                if REGEX.search(pattern):
                    yield (
                        f'rule {rule.name}: {keyword} = "{pattern}" looks like a regular expression, and is a glob',
                        "write * for any text, ? for one character, a list for alternatives",
                    )
    named = {name for rule in config.rules for name in rule.destinations}
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


def covers(earlier: Rule, later: Rule) -> bool:
    """True where all that the later rule matches falls under the earlier one, as far as patterns show."""
    return all(
        keyword in later.match and all(_any_covers(patterns, pattern) for pattern in later.match[keyword])
        for keyword, patterns in earlier.match.items()
        if "*" not in patterns
    )


def _any_covers(patterns: tuple[str, ...], pattern: str) -> bool:
    wanted = pattern.casefold()
    is_text = not set(wanted) & set("*?[")
    return any(
        wanted == one.casefold()
        or (is_text and fnmatchcase(wanted, one.casefold()))
        or _is_within(wanted, one.casefold())
        for one in patterns
    )


def _is_within(pattern: str, other: str) -> bool:
    """True for `*liver*` within `*iver*`: a text between stars, and one that it holds."""
    inner, outer = pattern.strip("*"), other.strip("*")
    return other == f"*{outer}*" and not set(inner + outer) & set("*?[") and outer in inner
