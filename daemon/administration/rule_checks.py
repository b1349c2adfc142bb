"""What rules, peers and destinations of a configuration that is valid may still be wrong in. Pure."""

import re
from collections.abc import Iterator, Sequence

from daemon.administration.rule_logic import WILD, can_match
from daemon.configuration.config import Config, Rule
from daemon.configuration.match import RE, Match

REGEX = re.compile(r"\.[*+]|\\[dwsDWSb.]|^\^|\$$|\(.*\|.*\)|\(\?|\)[?+{]|\][+{]|\{\d+(,\d*)?\}")
"""Signs of a regular expression in what is a glob."""


def doubts(config: Config) -> Iterator[tuple[str, str]]:
    """What may be meant otherwise: what is said of it, and what to do."""
    rules = config.enabled_rules
    if not config.rules:
        yield "there is no rule: every series ends as NO_RULE", "add a [[rule]]"
    elif not rules:
        yield "every rule has enabled = false: every series ends as NO_RULE", "enable one"
    for place, rule in enumerate(rules):
        if not can_match(rule.match):
            why = "`not` excludes all that it asks for"
            if not can_match(rule.match.model_copy(update={"none_of": None})):
                why = "what it asks for excludes itself"
            yield f"rule {rule.name} never matches: {why}", "ask for less, or narrow its `not`"
        elif shadows := shadows_of(rule, rules[:place]):
            names = " and ".join(other.name for other in shadows)
            yield (
                f"rule {rule.name} is never reached: all that it matches falls under {names} before",
                f"put {rule.name} before {shadows[0].name}, or narrow {names}",
            )
        for keyword, pattern in _globs(rule.match):
            if any("[" in text for text in WILD.split(pattern)):
                yield (
                    f'rule {rule.name}: {keyword} = "{pattern}" has a [ without a ], which stands for itself',
                    "close the list of characters; or write [[] where a [ is meant",
                )
            elif REGEX.search(pattern):
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
    """True where all that `narrow` matches is certain to be matched by `wide` too."""
    return not can_match(narrow, [wide])


def shadows_of(rule: Rule, earlier: Sequence[Rule]) -> list[Rule]:
    """The fewest of the rules before one under which all falls that it matches; none where something may be left."""
    alone = next((other for other in earlier if covers(other.match, rule.match)), None)
    if alone or can_match(rule.match, [other.match for other in earlier]):
        return [alone] if alone else []
    needed = list(earlier)
    for other in earlier:
        rest = [one for one in needed if one is not other]
        if not can_match(rule.match, [one.match for one in rest]):
            needed = rest
    return needed


def _globs(match: Match) -> Iterator[tuple[str, str]]:
    """Each pattern of a match and of its parts that is a glob, with its keyword."""
    for keyword, patterns in match.texts.items():
        yield from ((keyword, pattern) for pattern in patterns if not pattern.startswith(RE))
    for part in (*(match.any_of or ()), *(match.all_of or ()), *(match.none_of or ())):
        yield from _globs(part)
