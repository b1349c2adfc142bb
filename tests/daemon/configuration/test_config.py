"""The configuration: what loads, what every fault says, and where the file is looked for."""

import re
from pathlib import Path

import pytest

from daemon.configuration.config import Config, Destination, Peer, find, load, parse
from daemon.configuration.match import RULE_TAGS
from daemon.errors import ConfigurationError
from reports.objects.profile import Profile

MODELS = ("resnet50", "fcn_vgg16")

ISSUE = """\
[dicom]
ae_title = "PORTA"
host = "127.0.0.1"
port = 11112
[[peer]]                       # who we talk with
name = "orthanc"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = 4242
accept = true                  # may associate with us; host and port may be left out for a peer that only sends
[[peer]]
name = "modality"
ae_title = "MODALITY"
accept = true
[[destination]]
peer = "orthanc"
objects = ["seg", "sr"]
confirm = "query"              # "none" | "query" | "commitment"
[[rule]]                       # first match wins; a series no rule matches is kept REJECTED(NO_RULE) and not processed
name = "liver-ct"
match = { Modality = "CT" }
model = "resnet50"
destinations = ["orthanc"]
[storage]
root = "/var/lib/porta"
[series]
quiet_s = 20
[web]
host = "127.0.0.1"
port = 8043
"""

PEER = '[[peer]]\nname = "pacs"\nae_title = "PACS"\nhost = "10.0.0.1"\nport = 104\n'
DESTINATION = '[[destination]]\npeer = "pacs"\n'
RULE = '[[rule]]\nname = "r"\nmatch = { Modality = "CT" }\nmodel = "resnet50"\ndestinations = ["pacs"]\n'


def loaded(text: str) -> Config:
    return parse(text.encode(), known_models=MODELS)


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text)
    return caught.value.faults


def test_the_configuration_of_the_contract_loads_as_it_is():
    """The file that sites were shown runs, and its words arrive as values."""
    config = loaded(ISSUE)
    assert config.dicom.ae_title == "PORTA"
    assert config.peer("modality") == Peer(name="modality", ae_title="MODALITY", accept=True)
    assert [peer.name for peer in config.accepting_peers] == ["orthanc", "modality"]
    assert config.destination("orthanc") == Destination(peer="orthanc", objects=("seg", "sr"), confirm="query")
    assert config.rules[0].match.texts == {"Modality": ("CT",)}
    assert config.series.quiet_s == 20
    assert config.series.released_quiet_s == 5


def test_one_series_of_a_study_is_reported_the_portal_venous_one_unless_the_rule_says_otherwise():
    """The defaults, and other values."""
    text = PEER + "query = true\n" + DESTINATION + RULE
    config = loaded(text)
    assert config.peers[0].query
    assert (config.rules[0].per_study, config.rules[0].prefer) == (1, "portal")
    for prefer in ("portal", "arterial", "native", "delayed", "all"):
        (rule,) = loaded(f'{text}per_study = 3\nprefer = "{prefer}"').rules
        assert (rule.per_study, rule.prefer) == (3, prefer)


def test_what_a_rule_may_ask_for():
    """Text, numbers, phase, hours, an answer, and parts of these, in any of TOML's spellings."""
    text = (
        PEER
        + DESTINATION
        + RULE.replace('{ Modality = "CT" }', '{ SliceThickness = ["<= 3", 5] }')
        + (
            'enabled = false\n[[rule.match.any]]\nphase = "portal"\n[[rule.match.any]]\nModality = ["CT", "re:^M"]\n'
            '[rule.match.not]\nhours = "22:00-06:00"\nanswered = true\n'
        )
    )
    config = loaded(text.replace("match = {", "match.all = [{").replace("5] }", "5] }]"))
    (rule,) = config.rules
    assert config.enabled_rules == ()
    assert str(rule.match) == (
        'any of (phase = "portal"; Modality = "CT" or "re:^M") and all of (SliceThickness = "<= 3" or "5") and '
        'not (hours = "22:00-06:00" and answered = true)'
    )
    assert str(loaded(ruled("{}")).rules[0].match) == "everything"


def test_an_empty_file_is_a_node_that_refuses_everyone():
    """Every table has defaults; nobody is accepted by default."""
    config = loaded("")
    assert config.model_dump() == Config().model_dump()
    assert config.accepting_peers == ()
    assert config.dicom.host == "127.0.0.1"


def test_a_name_that_is_no_longer_configured_is_a_key_error():
    """The ledger may remember a peer that the file has lost."""
    with pytest.raises(KeyError):
        Config().peer("gone")
    with pytest.raises(KeyError):
        Config().destination("gone")


def test_values_are_frozen():
    """Nothing changes the configuration once it is read."""
    with pytest.raises(ValueError, match="frozen"):
        loaded("").dicom.port = 104  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("", "sqlite:////srv/porta/ledger.sqlite"),
        ('[ledger]\nurl = "postgresql://porta@db/porta"', "postgresql+psycopg://porta@db/porta"),
        ('[ledger]\nurl = "postgresql+psycopg://db/porta"', "postgresql+psycopg://db/porta"),
        ('[ledger]\nurl = "sqlite:////tmp/x"', "sqlite:////tmp/x"),
    ],
)
def test_the_ledger_is_in_the_root_unless_a_url_says_otherwise(url: str, used: str):
    """SQLAlchemy's plain postgresql:// would look for a driver that is not installed."""
    assert loaded(f'storage.root = "/srv/porta"\n{url}').ledger_url == used


def test_a_rule_may_name_what_the_file_and_the_folder_have():
    """Names of `[[model]]`, those of the folder in the storage root, and none at all where nobody asks."""
    text = (PEER + DESTINATION + RULE + OWN).replace("resnet50", "ours")
    assert loaded(text).rules[0].model == "ours"
    seen: list[Path] = []

    def added(folder: Path) -> set[str]:
        seen.append(folder)
        return {"added@1"}

    text = PEER + DESTINATION + RULE.replace("resnet50", "added@1") + '[storage]\nroot = "/data"\n'
    assert parse(text.encode(), known_models=added).storage.models == Path("/data/models")
    assert seen == [Path("/data/models")]
    assert parse((PEER + DESTINATION + RULE).encode(), known_models=None).rules[0].model == "resnet50"


def test_what_a_name_of_a_model_means_is_set_once():
    """Until then it is the name itself; the file cannot say it."""
    config = loaded(PEER + DESTINATION + RULE)
    assert config.card("resnet50") == "resnet50"
    assert config.with_cards({"resnet50": Path("/x.json")}).card("resnet50") == "/x.json"
    assert config.card("resnet50") == "resnet50"


def test_a_password_in_the_ledgers_url_is_not_shown():
    """Neither in a repr, which a traceback may print, nor in a fault."""
    assert "s3cret" not in repr(loaded('[ledger]\nurl = "postgresql://porta:s3cret@db/porta"'))
    assert "s3cret" not in "".join(faults('[ledger]\nurl = "mysql://porta:s3cret@db/porta"'))


@pytest.mark.parametrize(("quiet_s", "released_quiet_s"), [(60, 5), (5, 5), (2, 2)])
def test_a_short_quiet_s_shortens_the_default_of_released_quiet_s(quiet_s: float, released_quiet_s: float):
    """released_quiet_s is 5, and never more than quiet_s."""
    assert loaded(f"[series]\nquiet_s = {quiet_s}").series.released_quiet_s == released_quiet_s


OWN = '[[model]]\nname = "ours"\ncard = "/srv/ours.json"\n'


def ruled(match: str) -> str:
    """A file whose rule has this `match`."""
    return PEER + DESTINATION + RULE.replace('{ Modality = "CT" }', match)


ONE_FAULT = [
    (OWN.replace("/srv/", "srv/"), '3: model[0].card: must be the absolute path of a .json, not "srv/ours.json"'),
    (OWN.replace("ours.json", "ours"), '3: model[0].card: must be the absolute path of a .json, not "/srv/ours"'),
    (OWN.replace('"ours"', '"resnet50"'), '2: model[0].name: there is a model "resnet50" already; choose another name'),
    (OWN + OWN, '5: model[1].name: "ours" is already model[0]; choose another, or remove one'),
    (
        PEER + DESTINATION + RULE + 'shadow = ["resnet50"]',
        "13: rule[0].shadow: names the rule's own model; take it away",
    ),
    (
        PEER + DESTINATION + RULE + 'shadow = ["fcn_vgg16", "fcn_vgg16"]',
        "13: rule[0].shadow: names one twice; take one away",
    ),
    (
        PEER + DESTINATION + RULE + 'shadow = ["fcn_vgg61"]',
        '13: rule[0].shadow[0]: unknown model "fcn_vgg61"; did you mean "fcn_vgg16"?',
    ),
    (
        '[dicom]\nae_title = "A_TITLE_TOO_LONG_"',
        "2: dicom.ae_title: an AE title has at most 16 characters, this one has 17",
    ),
    ('[dicom]\nae_title = "   "', "2: dicom.ae_title: an AE title must not be empty; enter it"),
    ('[dicom]\nae_title = "A\\\\B"', "2: dicom.ae_title: an AE title must not hold a backslash"),
    ('[dicom]\nae_title = "A\\u0007B"', "2: dicom.ae_title: an AE title holds printable ASCII characters only"),
    ('[dicom]\nae_title = "PÖRTA"', "2: dicom.ae_title: an AE title holds printable ASCII characters only"),
    ('[dicom]\nae_title = " PORTA"', "2: dicom.ae_title: an AE title must not begin or end with a space"),
    ('[dicom]\nae_title = "PORTA "', "2: dicom.ae_title: an AE title must not begin or end with a space"),
    ("[dicom]\n\nport = 0", "3: dicom.port: must be a port from 1 to 65535, not 0"),
    ("dicom.port = 65536", "1: dicom.port: must be a port from 1 to 65535, not 65536"),
    ('dicom = { host = "h",  port = "104" }', '1: dicom.port: must be a whole number, not "104"'),
    ("[dicom]\nport = true", "2: dicom.port: must be a whole number, not true"),
    ("[dicom]\nport = 11112.0", "2: dicom.port: must be a whole number, not 11112.0"),
    ("[dicom]\nmaximum_pdu = 5", "2: dicom.maximum_pdu: must be at least 4096, not 5"),
    ('[dicom]\nhost = "not a host"', '2: dicom.host: must be a host name or an IP address, not "not a host"'),
    ("[dicom]\nhost = 127", "2: dicom.host: must be text in quotes, not 127"),
    ("[dicom]\nprot = 104", '2: dicom.prot: unknown key; did you mean "port"?'),
    ("[dcom]\n", '1: dcom: unknown key; did you mean "dicom"?'),
    ("[[peers]]\n", '1: peers: unknown key; did you mean "peer"?'),
    ('[peer]\nname = "a"', "1: peer: must be an array of tables; write [[peer]]"),
    ("peer = 5", "1: peer: must be a list in square brackets, not 5"),
    ("[[log]]", "1: log: must be a table, not a list"),
    ('[[peer]]\nae_title = "A"', "1: peer[0].name: missing; add it"),
    (
        PEER + 'networks = ["10.1.0.1/16"]',
        '6: peer[0].networks[0]: must be a network, as "10.1.0.0/16", not "10.1.0.1/16"',
    ),
    (
        PEER + DESTINATION + 'hours = ["7-18"]',
        '8: destination[0].hours[0]: must be two times of the day, as "18:00-07:00", not "7-18"',
    ),
    (
        '[[peer]]\nname = "a b"\nae_title = "A"',
        '2: peer[0].name: a name is 1 to 64 letters, digits, dots, dashes or underscores, not "a b"',
    ),
    ('[[peer]]\nname = "a"\nae_title = "A"\nport = 104', "4: peer[0].port: a port needs a host; add it"),
    (
        '[[peer]]\nname = "a"\nae_title = "A"\nquery = true',
        "4: peer[0].query: a peer is asked at its host and port; add them, or take query away",
    ),
    (
        '[[peer]]\nname = "a"\nae_title = "A"\nhost = "h"\nquery = true',
        "5: peer[0].query: a peer is asked at its host and port; add them, or take query away",
    ),
    ('[[peer]]\nname = "a"\nae_title = "A"\naccept = "yes"', '4: peer[0].accept: must be true or false, not "yes"'),
    (PEER + PEER.replace("104", "105"), '7: peer[1].name: "pacs" is already peer[0]; choose another, or remove one'),
    (
        (PEER + "accept = true\n") + (PEER + "accept = true\n").replace('"pacs"', '"other"'),
        '9: peer[1].ae_title: peer[0] is accepted too, with the same AE title "PACS" and host 10.0.0.1; remove one',
    ),
    (
        '[[peer]]\nname = "a"\nae_title = "A"\naccept = true\n[[peer]]\nname = "b"\nae_title = "A"\naccept = true',
        '7: peer[1].ae_title: peer[0] is accepted too, with the same AE title "A" and no host; remove one',
    ),
    (PEER + '[[destination]]\npeer = "pasc"', '7: destination[0].peer: unknown peer "pasc"; did you mean "pacs"?'),
    ('[[destination]]\npeer = "pacs"', '2: destination[0].peer: unknown peer "pacs"; there is none'),
    (
        '[[peer]]\nname = "a"\nae_title = "A"\n[[destination]]\npeer = "a"',
        '5: destination[0].peer: peer "a" has no host and no port to send to; add them there',
    ),
    (
        PEER + DESTINATION + DESTINATION,
        '9: destination[1].peer: "pacs" is already destination[0]; choose another, or remove one',
    ),
    (PEER + DESTINATION + 'objects = "seg"', '8: destination[0].objects: must be a list in square brackets, not "seg"'),
    (PEER + DESTINATION + "objects = []", "8: destination[0].objects: must name at least one; add it"),
    (PEER + DESTINATION + 'objects = ["sr", "sr"]', "8: destination[0].objects: names one twice; take one away"),
    (
        PEER + DESTINATION + 'objects = ["seg", "sr", "sr_combined"]',
        '8: destination[0].objects: "sr_combined" is instead of "sr"; keep one: with both a viewer shows lesions twice',
    ),
    (
        PEER + DESTINATION + "prior_images = true",
        "8: destination[0].prior_images: needs priors = true; set it: images are asked for where there are no results",
    ),
    (
        PEER + DESTINATION + 'objects = ["sr_combined", "sr_bidirectional"]',
        '8: destination[0].objects: "sr_combined" is instead of "sr_bidirectional"; keep one: with both a viewer shows '
        "lesions twice",
    ),
    (
        PEER + DESTINATION + 'objects = [\n  "seg",\n  "png",\n]',
        '10: destination[0].objects[1]: must be "seg", "sr", "sr_bidirectional", "sr_combined", "key_images", '
        '"pdf", "probability" or "explain", not "png"',
    ),
    (
        PEER + DESTINATION + 'confirm = "maybe"',
        '8: destination[0].confirm: must be "none", "query" or "commitment", not "maybe"',
    ),
    (
        PEER.replace("host", "url = 'https://pacs.example/web'\nhost") + DESTINATION + 'confirm = "commitment"',
        '9: destination[0].confirm: DICOMweb has no storage commitment; use "query"',
    ),
    (
        PEER.replace("host", "url = 'https://porta:secret@pacs.example'\nhost"),
        "4: peer[0].url: must be a URL that begins with https:// or http://, without user and password",
    ),
    (
        PEER + 'token_env = "T"',
        "1: peer[0]: user, passwords, tokens and proxy are for a peer with a url",
    ),
    (
        PEER + "url = 'http://pacs.example'\ntoken_env = 'T'",
        "1: peer[0]: its url must begin with https: a password or token would be read by everyone",
    ),
    (
        PEER + "url = 'https://pacs.example'\nuser = 'porta'",
        "1: peer[0]: give user and one of password_file and password_env, or one of token_file and token_env",
    ),
    ("[[peer]]\nname = 'pacs'", "1: peer[0]: needs an ae_title; only a peer that is asked at its url alone has none"),
    (
        PEER + DESTINATION + "first_retry_s = 60\nlongest_retry_s = 30",
        "9: destination[0].longest_retry_s: 30 is less than first_retry_s, 60; raise it",
    ),
    (
        PEER + DESTINATION + RULE.replace("resnet50", "resnet05"),
        '11: rule[0].model: unknown model "resnet05"; did you mean "resnet50"?',
    ),
    (
        PEER + DESTINATION + RULE.replace("resnet50", "unet"),
        '11: rule[0].model: unknown model "unet"; known: fcn_vgg16, resnet50',
    ),
    (
        PEER + DESTINATION + RULE.replace('["pacs"]', '["pacs", "orthanc"]'),
        '12: rule[0].destinations[1]: unknown destination "orthanc"; known: pacs',
    ),
    (PEER + DESTINATION + RULE.replace('["pacs"]', "[]"), "12: rule[0].destinations: must name at least one; add it"),
    (PEER + DESTINATION + RULE + RULE, '14: rule[1].name: "r" is already rule[0]; choose another, or remove one'),
    (
        PEER + DESTINATION + RULE.replace("Modality", "modality"),
        '10: rule[0].match.modality: a rule cannot match on this; did you mean "Modality"?',
    ),
    (
        PEER + DESTINATION + RULE.replace('"CT"', '["CT", 5]'),
        "10: rule[0].match.Modality[1]: must be text in quotes, not 5",
    ),
    (
        PEER + DESTINATION + RULE.replace('"CT"', '""'),
        '10: rule[0].match.Modality: must not be empty; "*" matches everything',
    ),
    (PEER + DESTINATION + RULE.replace('{ Modality = "CT" }', '"CT"'), '10: rule[0].match: must be a table, not "CT"'),
    (
        ruled('{ SeriesDescription = "re:(liver" }'),
        "10: rule[0].match.SeriesDescription: not a regular expression: "
        "missing ); mend it, or take re: away for a glob",
    ),
    (
        ruled('{ SliceThickness = "thin" }'),
        '10: rule[0].match.SliceThickness: must be a number or a range, as "<= 3", "> 1" or "1.5..3", not "thin"',
    ),
    (
        ruled('{ SliceThickness = [1, "5..3"] }'),
        "10: rule[0].match.SliceThickness[1]: nothing lies from 5 to 3; write the smaller number first",
    ),
    (
        ruled('{ hours = "7-18" }'),
        '10: rule[0].match.hours: must be hours of a day, as "07:00-18:30" or "22:00-06:00", not "7-18"',
    ),
    (
        ruled('{ hours = "24:00-25:00" }'),
        '10: rule[0].match.hours: must be hours of a day, as "07:00-18:30" or "22:00-06:00", not "24:00-25:00"',
    ),
    (
        ruled('{ phase = "venous" }'),
        '10: rule[0].match.phase: must be "native", "arterial", "portal", "delayed" or "unknown", not "venous"',
    ),
    (ruled('{ answered = "no" }'), '10: rule[0].match.answered: must be true or false, not "no"'),
    (
        ruled('{ any = { Modality = "CT" } }'),
        "10: rule[0].match.any: must be a list of tables; write any = [{ … }, { … }]",
    ),
    (ruled("{ any = [] }"), "10: rule[0].match.any: must hold at least one { … }"),
    (ruled('{ all = ["CT"] }'), '10: rule[0].match.all[0]: must be a table, not "CT"'),
    (
        ruled('{ not = { modality = "CT" } }'),
        '10: rule[0].match.not.modality: a rule cannot match on this; did you mean "Modality"?',
    ),
    (
        ruled('{ any = [{ Modality = "CT" }, { hour = "07:00-18:00" }] }'),
        '10: rule[0].match.any[1].hour: a rule cannot match on this; did you mean "hours"?',
    ),
    (PEER + DESTINATION + RULE + 'enabled = "no"', '13: rule[0].enabled: must be true or false, not "no"'),
    (PEER + DESTINATION + RULE + "per_study = 0", "13: rule[0].per_study: must be at least 1, not 0"),
    (PEER + DESTINATION + RULE + "per_study = 1.0", "13: rule[0].per_study: must be a whole number, not 1.0"),
    (
        PEER + DESTINATION + RULE + 'prefer = "venous"',
        '13: rule[0].prefer: must be "portal", "arterial", "native", "delayed" or "all", not "venous"',
    ),
    ('[storage]\nroot = "var/porta"', '2: storage.root: must be an absolute path, not "var/porta"'),
    ("[storage]\nroot = 5", "2: storage.root: must be a path in quotes, not 5"),
    ("[storage]\nresume_free_mb = 1000", "2: storage.resume_free_mb: 1000 is less than min_free_mb, 1024; raise it"),
    ("[retention]\ndelivered_days = 0", "2: retention.delivered_days: must be at least 1, not 0"),
    (
        "[storage]\nmin_free_mb = 2000\n[retention]\nfree_mb = 2000",
        "4: retention.free_mb: 2000 is not more than the 2000 of [storage]: images would be refused first; raise it",
    ),
    ("[storage]\nmin_free_mb = -1", "2: storage.min_free_mb: must be at least 0, not -1"),
    ('[ledger]\nurl = "oracle://x"', "2: ledger.url: must begin with sqlite:/// or postgresql://"),
    ("[series]\nquiet_s = 0", "2: series.quiet_s: must be more than 0, not 0"),
    ("[series]\nquiet_s = inf", "2: series.quiet_s: must be a finite number, not inf"),
    (
        "[series]\nquiet_s = 20\nreleased_quiet_s = 30",
        "3: series.released_quiet_s: 30 is more than quiet_s, 20; lower it",
    ),
    ("[series]\nquiet_s = 12:00:00", "2: series.quiet_s: must be a number, not a date or time"),
    ("[engine]\nworkers = 0", "2: engine.workers: must be at least 1, not 0"),
    (
        '[engine]\nworkers = 2\ndevices = ["cuda:0"]',
        "3: engine.devices: must name one for each worker: 1 for workers = 2",
    ),
    ('[engine]\ndevices = ["gpu0"]', '2: engine.devices: must be "cpu", "cuda" or "cuda:1", not "gpu0"'),
    (
        '[engine]\ndevice = "cpu"\ndevices = ["cpu"]',
        "3: engine.devices: device says already where the workers run: leave it out",
    ),
    ('[engine]\nkind = "dask"', '2: engine.kind: "dask" is not available yet; use "local"'),
    ('[engine]\ndevice = "gpu"', '2: engine.device: must be "auto", "cpu" or "cuda", not "gpu"'),
    ("[engine]\nthreads = 0", "2: engine.threads: must be at least 1, not 0"),
    ("[web]\nport = 99999", "2: web.port: must be a port from 1 to 65535, not 99999"),
    ('[log]\nlevel = "warn"', '2: log.level: must be "debug", "info", "warning" or "error", not "warn"'),
    ("[dicom]\nport = \n", "2: port: the value is missing"),
    ("[dicom]\nport = # to be said\n", "2: port: the value is missing"),
    ("[dicom]\nport = 1\nhost = 'x'\nport = 2\n", "4: port: is on line 2 already; keep one of them"),
    ("[dicom]\nport = 1\n[web]\nport = 1\nport = 2\n", "5: port: is on line 4 already; keep one of them"),
    ("\n\n[dicom\n", "3: the header has no closing ]"),
    ("\n\n[[peer]\n", "3: the header has no closing ]]"),
    ('[dicom]\nhost = """x\n\n', "2: host: the text that begins here has no closing quote"),
    ('[dicom]\nhost = "x\nport = 1\n', "2: host: the text that begins here has no closing quote"),
    ("[dicom]\nhost = 'x\nport = 1\n", "2: host: the text that begins here has no closing quote"),
    ('[storage]\nroot = "C:\\porta"', "2: root: in double quotes \\ is written \\\\; or put the text in single quotes"),
    ("[dicom]\nport: 104", "2: between a key and its value stands ="),
    ("[dicom]\nhost = localhost", '2: host: not a value; a text stands in double quotes: "…"'),
    ("[dicom]\nhost = “localhost”", '2: host: a text stands in straight quotes: "…"'),
    ("[[peer]]\naccept = True", "2: accept: write true"),
    ("[[peer]]\naccept = no # never", "2: accept: write false"),
    (PEER + DESTINATION + RULE.replace('"]', '"'), "12: destinations: the list has no closing ]"),
    ('[[rule]]\nmatch = { Modality = "CT", }', "2: match: the last key of { … } has a comma behind it; take it away"),
    (
        '[[rule]]\nmatch = { Modality = "CT"\n',
        "2: match: the { … } that begins here has no closing } on its line; write all of it on one line",
    ),
    *(
        (
            ruled(match),
            "10: match: the { … } that begins here has no closing } on its line; write all of it on one line",
        )
        for match in (
            '{ Modality = "CT",\n  SeriesDescription = "*liver*" }',
            '{\n  Modality = "CT" }',
            '{ Modality = "CT"\n }',
        )
    ),
    *(
        (f"[dicom]\nhost = {host}", '2: host: not a value; a text stands in double quotes: "…"')
        for host in ("192.0.2.5", "127.0.0.1:104", "pacs.example", "fe80::1", "104a")
    ),
    ("[dicom]\nport = 0104", "2: port: a number begins with no 0; take the 0 away"),
    ("[series]\nquiet_s = 1,5", "2: quiet_s: a number holds no comma; write 1.5, or 11112"),
    ("[dicom]\nport = null", "2: port: leave the key out where there is no value; put # before it"),
    ('[dicom]\nhost = "x" port = 4', "2: host: nothing stands behind a value; put the next key on the next line"),
    ('[dicom] host = "x"', "1: nothing stands behind a header; put it on the next line"),
    ("[dicom]\nhost = 'x\nport = 1\n[log]\n\n", "2: host: the text that begins here has no closing quote"),
    ("[dicom]\r\nhost = 'x\r\n", "2: host: the text that begins here has no closing quote"),
    ("[dicom]\nhost = '''x\nport = 1\n", "2: host: the text that begins here has no closing quote"),
    ("[dicom]\nport = 1 \x07\n", '2: port: not a value; a text stands in double quotes: "…"'),
    ('[dicom]\nhost = "\x07"\n', "2: host: holds a character that is not seen; write the line anew"),
    ("// remark\n[dicom]", "1: a line holds key = value, a [header], or behind # a remark; write it so"),
    ("peer = []\n[[peer]]", "2: [[peer]] stands after peer = …; keep one of them"),
    *(
        (PEER.replace("10.0.0.1", host), f'4: peer[0].host: must be a host name or an IP address, not "{host}"{more}')
        for host, more in (
            ("10.0.0.1:104", "; give the port by its key"),
            ("pacs:104", "; give the port by its key"),
            ("[::1]", ""),
            ("10.0.0.300", ""),
            ("user@pacs", ""),
        )
    ),
    ('[dicom]\nhost = "a\\u0000b"', '2: dicom.host: must be a host name or an IP address, not "a\\u0000b"'),
    ('[storage]\nroot = "/a\\u0000b"', "2: storage.root: must not hold a NUL"),
    (ruled("{ StudyDescription = 5 }"), "10: rule[0].match.StudyDescription: must be text in quotes, not 5"),
    (
        ruled("{ SliceThickness = true }"),
        '10: rule[0].match.SliceThickness: must be a number or a range, as "<= 3", "> 1" or "1.5..3", not true',
    ),
    (
        ruled('{ phase = { name = "portal" } }'),
        '10: rule[0].match.phase: must be "native", "arterial", "portal", "delayed" or "unknown", not a table',
    ),
    (ruled('{ any = "CT" }'), "10: rule[0].match.any: must be a list of tables; write any = [{ … }, { … }]"),
    (ruled('{ not = "CT" }'), '10: rule[0].match.not: must be a table, not "CT"'),
    (PEER + "[peer]\nname = 'x'", "6: [peer] stands after [[peer]]; write [[peer]] for one more"),
    ("[dicom]\nport = 1\n[log]\n[dicom]\n", "4: [dicom] is on line 1 already; put its keys there"),
    (
        "[archive]\ndays = 3",
        "1: archive: unknown key; known: alerts, destination, dicom, engine, ledger, log, model, peer, "
        "retention, rule, series, storage, web",
    ),
]


@pytest.mark.parametrize(("text", "fault"), ONE_FAULT, ids=[fault for _, fault in ONE_FAULT])
def test_a_fault_names_its_key_and_line_in_plain_words(text: str, fault: str):
    """One fault in the file is one line, and nothing else is blamed."""
    assert faults(text) == (f"porta.toml:{fault}",)


HELPS = re.compile(
    r"must (not )?\b|did you mean|known: |there is none|is not available yet|"  # what is right
    r"\b(a name is|holds|has at most|are for a peer|has no closing|is missing|stands (after|in)|are written)\b|"
    r"(^|; |: )[a-z ]*\b(add|choose|enter|give|keep|leave|lower|mend|needs|put|raise|remove|set|take|use|write)\b|"
    r"keys there|stands ="
)
"""What is right, or what to do."""


def test_the_table_names_file_line_key_and_what_to_do():
    """Of forty wrong files and more; a header that is wrong is its own key."""
    assert len(ONE_FAULT) >= 40
    for _, fault in ONE_FAULT:
        found = re.fullmatch(r"\d+: (?:(?P<key>[\w.\[\]-]+): )?(?P<sentence>.+)", fault)
        assert found, fault
        assert found["key"] or re.search(r"\[|header|stands =", found["sentence"]), fault
        assert HELPS.search(found["sentence"]), fault


def test_all_faults_are_said_at_once_in_the_order_of_their_lines():
    """A fault in one table hides none in another, be it of shape or of reference."""
    text = ISSUE.replace('"PORTA"', '"A\\\\B"').replace("4242", "0").replace('"resnet50"', '"resnet05"')
    text = text.replace('["orthanc"]', '["modality"]').replace("quiet_s = 20", "quite_s = 20").replace("8043", '"x"')
    said = faults(text)
    keys = ("dicom.ae_title", "peer[0].port", "rule[0].model", "rule[0].destinations[0]", "series.quite_s", "web.port")
    assert [fault.split(": ")[1] for fault in said] == list(keys)
    assert all("\n" not in fault for fault in said)


def test_a_file_that_is_not_utf8_is_one_fault():
    """A Latin-1 comment is found by its line."""
    with pytest.raises(ConfigurationError, match=r"^porta\.toml:2: the file is not UTF-8; save it as UTF-8$"):
        parse(b"[dicom]\n# \xfc\n", known_models=MODELS)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"[dicom]\n\0host = 'x'", "a NUL"), (b"[dicom]\nhost = 'x'\r[log]", "a carriage return without a line feed")],
)
def test_a_file_that_is_no_text_is_one_fault(content: bytes, what: str):
    """As another system wrote it, or a disk that failed."""
    with pytest.raises(ConfigurationError, match=rf"^porta\.toml:2: the file holds {what}; save it as UTF-8 text$"):
        parse(content, known_models=MODELS)


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "10.0.0.1", "pacs", "pacs_1.example", "pacs-2"])
def test_a_host_is_a_name_or_an_address(host: str):
    """Of either kind of IP."""
    assert loaded(PEER.replace("10.0.0.1", host)).peers[0].host == host


def test_a_rule_without_end_is_one_fault():
    """Parts within parts, by the thousand: a line, and no traceback."""
    deep = "{ any = [" * 3000 + '{ Modality = "CT" }' + "] }" * 3000
    with pytest.raises(ConfigurationError, match=r"^porta\.toml: what stands in brackets is nested too deeply; "):
        parse(f'[[rule]]\nname = "deep"\nmatch = {deep}\n'.encode(), known_models=MODELS)


def test_the_keywords_of_a_rule_are_dicoms():
    """Each is a keyword of PS3.6, except the sender's AE title, which is no attribute of the image."""
    from pydicom.datadict import tag_for_keyword

    assert [tag for tag in RULE_TAGS if tag_for_keyword(tag) is None] == ["CallingAETitle"]


def test_the_file_is_looked_for_in_order(tmp_path: Path):
    """--config, then $PORTA_CONFIG, then the usual places."""
    given, named, first, second = (tmp_path / name for name in ("given", "named", "first", "second"))
    for place in (given, named, first, second):
        place.touch()
    environ = {"PORTA_CONFIG": str(named)}
    assert find(given, environ=environ, places=(first, second)) == given
    assert find(None, environ=environ, places=(first, second)) == named
    assert find(None, environ={}, places=(first, second)) == first
    assert find(None, environ={}, places=(tmp_path / "absent", second)) == second


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path):
    """A named file that is missing is an error, never a reason to look elsewhere."""
    absent, there = tmp_path / "absent.toml", tmp_path / "there.toml"
    there.touch()
    with pytest.raises(ConfigurationError) as caught:
        load(absent, known_models=MODELS, environ={}, places=(there,))
    assert caught.value.faults == (f"{absent}: there is no such file; `porta init` writes one",)
    with pytest.raises(ConfigurationError) as caught:
        load(None, known_models=MODELS, environ={"PORTA_CONFIG": str(absent)}, places=(there,))
    assert caught.value.faults == (
        f"{absent}: there is no such file; $PORTA_CONFIG names it: set it right, or unset it",
    )
    with pytest.raises(ConfigurationError) as caught:
        load(None, known_models=MODELS, environ={}, places=(absent,))
    assert caught.value.faults == (
        f"no configuration found; `porta init` writes one; looked for: --config, $PORTA_CONFIG, {absent}",
    )


def test_a_folder_in_place_of_the_file_is_one_clear_line(tmp_path: Path):
    """What the operating system says is passed on without a traceback."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, known_models=MODELS)
    assert caught.value.faults == (f"{tmp_path}: cannot be read: Is a directory",)


# --- what a destination takes


def test_the_default_profile_has_the_plain_names():
    """Those that were in outbox and ledger before there were others."""
    profile = Destination(peer="archive").profile
    assert profile == Profile()
    assert {form.name for form in profile.forms} == {"seg", "sr", "verdict"}


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ('objects = ["seg"]', {"seg"}),
        ('objects = ["key_images"]\nseg_type = "labelmap"\nsr_class = "comprehensive"', {"key_images"}),
        ('objects = ["sr_bidirectional"]', {"sr_bidirectional", "verdict"}),
        ('objects = ["seg", "sr_combined"]', {"seg", "sr_combined", "verdict"}),
        ('objects = ["sr_combined"]\nseg_type = "labelmap"', {"sr_combined_labelmap", "verdict"}),
        ('seg_type = "labelmap"', {"seg_labelmap", "sr_labelmap", "verdict"}),
        ('sr_class = "comprehensive"', {"seg", "sr_comprehensive", "verdict_comprehensive"}),
        (
            'objects = ["seg", "sr", "sr_bidirectional"]\nseg_type = "labelmap"\nsr_class = "comprehensive"',
            {"seg_labelmap", "sr_labelmap_comprehensive", "sr_bidirectional_comprehensive", "verdict_comprehensive"},
        ),
    ],
)
def test_what_differs_has_a_name_of_its_own(lines: str, names: set[str]):
    """An SR that refers to another SEG is another SR; what is alike for all is not."""
    config = parse((PEER + DESTINATION + lines).encode(), known_models=[])
    (destination,) = config.destinations
    assert {form.name for form in destination.profile.forms} == names


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('seg_type = "fractional"', '8: destination[0].seg_type: must be "binary" or "labelmap", not "fractional"'),
        ('sr_class = "3d"', '8: destination[0].sr_class: must be "comprehensive_3d" or "comprehensive", not "3d"'),
    ],
)
def test_an_unknown_form_is_a_fault(line: str, fault: str):
    assert faults(PEER + DESTINATION + line) == (f"porta.toml:{fault}",)


def test_a_byte_order_mark_is_nothing():
    """Editors of Windows write one."""
    assert parse(b"\xef\xbb\xbf[dicom]\nport = 104", known_models=None).dicom.port == 104


def test_a_fault_that_the_machine_finds_has_its_place_too():
    """File, line and key; without a file the key."""
    config = parse(b"[dicom]\n[engine]\nthreads = 1\ndevice = 'cuda'", known_models=None, source="porta.toml")
    assert config.fault(("engine", "device"), "away") == "porta.toml:4: engine.device: away"
    assert config.with_cards({}).fault(("engine",), "away") == "porta.toml:2: engine: away"
    assert Config().fault(("engine", "device"), "away") == "engine.device: away"


def test_no_fault_of_syntax_quotes_a_value():
    """It may be the password of the ledger."""
    for spoilt in ('url = "postgresql://porta:hunter2@db/porta', "url = postgresql://porta:hunter2@db/porta"):
        assert "hunter2" not in "".join(faults(f"[ledger]\n{spoilt}\n"))
