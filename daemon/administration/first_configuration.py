"""`porta init`: a first configuration for one PACS, and what to enter in that PACS. Text alone; nothing is contacted
but an Orthanc of this machine."""

import json
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from daemon.configuration.config import LOOPBACK, parse
from daemon.errors import BadRequest
from dicom_io.errors import PeerError
from dicom_io.network import scu

ORTHANC_PAGES = "http://127.0.0.1:8042/system"
ASKING_S = 3.0


class Kind(StrEnum):
    """The PACS whose side is described."""

    ORTHANC = "orthanc"
    DCM4CHEE = "dcm4chee"
    OTHER = "other"


@dataclass(frozen=True)
class Answers:
    """What a first configuration needs to be told: who Porta is, where it keeps its files, and who the PACS is.

    `address` is where the PACS finds Porta; `host` what Porta listens on.
    """

    ae_title: str
    address: str
    port: int
    root: Path
    pacs_ae_title: str
    pacs_host: str
    pacs_port: int
    kind: Kind = Kind.OTHER
    pacs: str = "pacs"

    @property
    def host(self) -> str:
        """The address that is listened on: this machine's own alone, or all."""
        return "127.0.0.1" if self.address in LOOPBACK else "0.0.0.0"


def check_together(answers: Answers) -> None:
    """Raise BadRequest, with the option, where answers that are right alone do not go together."""
    if answers.ae_title == answers.pacs_ae_title:
        raise BadRequest(f"--ae-title: {answers.ae_title} is the PACS's own title; give Porta another one")
    if answers.address in ("0.0.0.0", "::"):
        raise BadRequest(f"--address: {answers.address} is nobody's; give the address at which the PACS finds Porta")
    is_local = answers.pacs_host in LOOPBACK
    if answers.address in LOOPBACK and not is_local:
        whose = f"{answers.address} is the PACS's own machine there"
        raise BadRequest(f"--address: {whose}; give the address at which {answers.pacs_host} finds Porta")
    if is_local and answers.port == answers.pacs_port:
        raise BadRequest(f"--port: {answers.port} is the PACS's, on the same machine; choose another one")


CONFIGURATION = """\
# The configuration of Porta, made by `porta init`. Every key there is: deploy/porta.toml of the repository.
# After a change: `porta check`, then `porta reload`.

[dicom]                        # how the PACS reaches Porta
ae_title = "{ae_title}"
host = "{host}"{host_remark}
port = {port}

[[peer]]                       # who Porta talks with
name = "{pacs}"
ae_title = "{pacs_ae_title}"
host = "{pacs_host}"
port = {pacs_port}
accept = true                  # may send to Porta, from this host
query = true                   # is asked by C-FIND how many images a series has; false where it does not answer that

[[destination]]                # where results go; it bears the name of its peer
peer = "{pacs}"
objects = ["seg", "sr"]        # also: "key_images", "pdf", "sr_bidirectional", …
confirm = "query"              # asked by C-FIND whether it has the results; "none" where it does not answer that

[[rule]]                       # which series are processed: the first rule that matches; try it with `porta rules test`
name = "liver-ct"
match = {{ Modality = "CT", not = {{ SeriesDescription = ["*scout*", "*topogram*", "*localizer*"] }} }}
model = "resnet50"
destinations = ["{pacs}"]
#send = false                  # a trial: results stay here until `porta send`

[storage]                      # images and results: patient data
root = "{root}"
"""


def configuration_text(answers: Answers) -> str:
    """Return the file. Raises ConfigurationError where an answer is no value of its key."""
    remark = "               # all addresses; see that a firewall limits access" if answers.host == "0.0.0.0" else ""
    values = {name: getattr(answers, name) for name in Answers.__dataclass_fields__}
    text = CONFIGURATION.format(**values, host=answers.host, host_remark=remark)
    parse(text.encode(), known_models=None)
    return text


ORTHANC = """\
In Orthanc's configuration, under "DicomModalities" (Host is compared as text where DicomCheckModalityHost is true):

{modalities}

To send each study once nothing of it has come for "StableAge" seconds, save this as porta.lua, name it in "LuaScripts",
and restart Orthanc:

{lua}"""

LUA = """\
-- Has Orthanc send CT and MR series to Porta once their study has been quiet for StableAge seconds; again only when a
-- series has grown. Results that come back make the study stable once more, and send nothing. What failed, as while
-- Porta was being restarted, is sent again every LuaHeartBeatPeriod seconds.

local SENT = '1024' -- a metadata of our own: how many instances of the series Porta was sent

function OnStableStudy(studyId, tags, metadata)
  for _, series in pairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    local modality = series['MainDicomTags']['Modality']
    if modality == 'CT' or modality == 'MR' then
      local place = '/series/' .. series['ID'] .. '/metadata'
      local count = tostring(#series['Instances'])
      if ParseJson(RestApiGet(place .. '?expand'))[SENT] ~= count then
        RestApiPost('/modalities/porta/store', DumpJson({ Resources = { series['ID'] }, Synchronous = false }, false))
        RestApiPut(place .. '/' .. SENT, count)
      end
    end
  end
end

function OnHeartBeat()
  for _, job in pairs(ParseJson(RestApiGet('/jobs?expand'))) do
    if job['State'] == 'Failure' and job['Type'] == 'DicomModalityStore' and job['Content']['RemoteAet'] == 'PORTA' then
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end
"""
"""deploy/autoroute.lua, for a Porta of that AE title."""

DCM4CHEE = """\
In dcm4chee-arc, under Configuration (by its documentation):

  - AE list: a new application entity {ae_title}, host {address}, port {port}
  - device dcm4chee-arc, Archive Device, Exporter Descriptor: Exporter ID porta, URI dicom:{ae_title},
    Queue Name Export1, AE title {pacs_ae_title}
  - the same, Export Rule: Export Entity Study, Exporter ID porta, Conditions Modality=CT|MR, Export Delay PT2M
  - where the AE {pacs_ae_title} lists accepted calling AE titles: {ae_title}

Then reload the configuration of the archive."""

OTHER = """\
In the PACS, enter a DICOM node:

  AE title {ae_title}     host {address}     port {port}     no TLS

  - it may store (C-STORE) Segmentation and Comprehensive 3D SR, and query (C-FIND) at study, series and image level
  - route CT series with the liver to it, as {pacs_ae_title}, when the study is complete rather than at each image
  - do not route series of Porta (Manufacturer "Porta Hepatis") back to it"""


def orthanc_modalities(answers: Answers) -> str:
    """Return the entry that Orthanc needs, as JSON without the braces around it."""
    allowed = {f"Allow{verb}": verb in ("Echo", "Store", "Find") for verb in ("Echo", "Store", "Find", "Get", "Move")}
    entry = {"porta": {"AET": answers.ae_title, "Host": answers.address, "Port": answers.port, **allowed}}
    return f'"DicomModalities": {json.dumps(entry, indent=2)}'


def pacs_side(answers: Answers) -> str:
    """Return what is to be entered in the PACS."""
    match answers.kind:
        case Kind.ORTHANC:
            lua = LUA.replace("'PORTA'", f"'{answers.ae_title}'")
            return ORTHANC.format(modalities=orthanc_modalities(answers), lua=lua)
        case Kind.DCM4CHEE:
            return DCM4CHEE.format(**vars(answers))
        case Kind.OTHER:
            return OTHER.format(**vars(answers))


@dataclass(frozen=True)
class FoundOrthanc:
    """An Orthanc of this machine: its AE title and DICOM port."""

    ae_title: str
    port: int


def find_orthanc(pages: str = ORTHANC_PAGES, port: int = 4242) -> FoundOrthanc | None:
    """Look for an Orthanc at the usual ports of this machine: by its page, else by C-ECHO. None where none answers."""
    try:
        with urllib.request.urlopen(pages, timeout=ASKING_S) as answer:
            said = json.loads(answer.read(1 << 16))
            return FoundOrthanc(str(said["DicomAet"]), int(said["DicomPort"]))
    except (OSError, ValueError, KeyError, TypeError):  # none, one that wants a password, or something else
        pass
    try:
        scu.echo(scu.Remote("ORTHANC", "127.0.0.1", port), calling_ae_title="PORTA", timeout_s=ASKING_S)
    except PeerError:
        return None
    return FoundOrthanc("ORTHANC", port)
