"""What is wrong with a file that is no TOML, in words for the person who wrote it; tomllib speaks of characters.

A value is never quoted: `[ledger] url` may hold a password.
"""

import re
import tomllib

KEY = re.compile(r"\s*(?:([\w-]+)|\"([^\"]*)\"|'([^']*)')\s*=")
HEADER = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]+")
WORDS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
"""What people write for true and false, in lower case."""
EMPTY = ("null", "none", "nil")


def syntax_fault(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """The line of an error of tomllib, and what to do about it."""
    # tomllib says the place at the end of its sentence, or that it is the end of the document
    sentence, _, place = str(error).partition(" (at ")
    found = re.match(r"line (\d+)", place)
    lines = text.split("\n")
    number = int(found[1]) if found else text.rstrip().count("\n") + 1
    line = lines[number - 1]
    for quote in OPENED.get(sentence, ()):  # it was looked for to the end of the file: no other one follows
        number = max((at for at, each in enumerate(lines, start=1) if quote in each), default=number)
        return number, NO_QUOTE
    if sentence == "Cannot overwrite a value":
        return _twice(lines, number)
    if twice := re.match(r"Cannot declare \((.+?),?\) twice", sentence):
        name = ".".join(part.strip(" '") for part in twice[1].split(","))
        return number, _declared_twice(lines, number, name)
    if sentence.startswith("Cannot mutate immutable namespace") and (header := HEADER.match(line)):
        return number, f"{line.strip()} stands after {header[1]} = …; keep one of them"
    for start, told in TOLD:
        if sentence.startswith(start):
            return number, told
    if sentence == "Invalid value":
        return number, _invalid_value(line)
    if sentence.startswith("Expected newline"):
        return number, _more_than_one(line)
    if sentence.startswith("Invalid initial character") and re.search(r",\s*}", line):
        return number, "the last key of { … } has a comma behind it; take it away"
    if sentence.startswith("Invalid initial character") and re.search(r"[{,]\s*(#.*)?$", line):
        return number, ONE_LINE
    return (
        number,
        f"not valid TOML: {sentence[:1].lower()}{sentence[1:]}; deploy/porta.toml shows how each key is written",
    )


NO_QUOTE = "the text that begins here has no closing quote"
ONE_LINE = "the { … } that begins here has no closing } on its line; write all of it on one line"
NOT_A_VALUE = 'not a value; a text stands in double quotes: "…"'
OPENED = {'Expected "\'"': ("'",), "Expected \"'''\"": ("'''",), "Unterminated string": ('"""', '"')}
"""The quote that was not closed, by what tomllib says."""

TOLD = (
    ("Illegal character '\\n'", NO_QUOTE),
    ("Expected '=' after a key", "between a key and its value stands ="),
    ("Unescaped '\\' in a string", "in double quotes \\ is written \\\\; or put the text in single quotes"),
    ("Unclosed array", "the list has no closing ]"),
    ("Unclosed inline table", ONE_LINE),
    ("Illegal character", "holds a character that is not seen; write the line anew"),
    ("Invalid statement", "a line holds key = value, a [header], or behind # a remark; write it so"),
    ("Expected ']' at the end of a table declaration", "the header has no closing ]"),
    ("Expected ']]' at the end of an array declaration", "the header has no closing ]]"),
)
"""What tomllib says, and what is said here."""


def _twice(lines: list[str], number: int) -> tuple[int, str]:
    """A key that its table has already. tomllib stops behind it, which may be on the next line."""
    named = key_of_line(lines[number - 1])
    if named is None and number > 1:
        number -= 1
        named = key_of_line(lines[number - 1])
    for earlier in range(number - 1, 0, -1):
        if HEADER.match(lines[earlier - 1]):
            break
        if named is not None and key_of_line(lines[earlier - 1]) == named:
            return number, f"is on line {earlier} already; keep one of them"
    return number, "a key of this table is there already; keep one of them"


def key_of_line(line: str) -> str | None:
    """Return the key that a line gives a value to; None where it does not."""
    found = KEY.match(line)
    return next(filter(None, found.groups()), None) if found else None


def _declared_twice(lines: list[str], number: int, name: str) -> str:
    for earlier, line in enumerate(lines[: number - 1], start=1):
        found = HEADER.match(line)
        if found and found[1] == name:
            if line.strip().startswith("[["):
                return f"[{name}] stands after [[{name}]]; write [[{name}]] for one more"
            return f"[{name}] is on line {earlier} already; put its keys there"
    return f"[{name}] is there already; put its keys there"


def _invalid_value(line: str) -> str:
    _, _, value = line.partition("=")
    value = value.strip()
    if any(quote in value for quote in "“”„‘’«»"):
        return 'a text stands in straight quotes: "…"'
    if not value or value.startswith("#"):
        return "the value is missing"
    word = re.match(r"[^\s,#\]}]+", value)
    meant = WORDS.get(word[0].lower()) if word else None
    if meant:
        return f"write {meant}"
    return (
        "leave the key out where there is no value; put # before it"
        if word and word[0].lower() in EMPTY
        else NOT_A_VALUE
    )


def _more_than_one(line: str) -> str:
    """A line that goes on behind its header or value, or whose value begins as a number and is none."""
    if HEADER.match(line):
        return "nothing stands behind a header; put it on the next line"
    _, _, value = line.partition("=")
    value = value.strip()
    if re.match(r"0\d+\b(?![.:-])", value):
        return "a number begins with no 0; take the 0 away"
    if re.match(r"\d+,\d+\s*(#.*)?$", value):
        return "a number holds no comma; write 1.5, or 11112"
    if value[:1] in ('"', "'", "[", "{") or re.match(r"\S+\s+\w+\s*=", value):
        return "nothing stands behind a value; put the next key on the next line"
    return NOT_A_VALUE
