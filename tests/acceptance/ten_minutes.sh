#!/bin/bash
# An administrator's first ten minutes, from a fresh clone: Porta beside an Orthanc that forwards each study once it is
# stable. Nothing is typed but this, and what is printed is what an administrator sees.
#
#   make install && tests/acceptance/ten_minutes.sh FOLDER      needs Orthanc and DCMTK; everything lies in FOLDER
#
# PORTA is the command, PORTS the ports of Porta, of Orthanc and of its pages.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
porta=${PORTA:-$here/.venv/bin/porta}
read -r port pacs_port pages <<<"${PORTS:-11112 4242 8042}"
mkdir -p "$1"
cd "$1"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

step "A first configuration, and what Orthanc is to be told"
$porta init porta.toml --yes --kind orthanc --pacs-ae-title ORTHANC --pacs-host 127.0.0.1 --pacs-port "$pacs_port" \
    --address 127.0.0.1 --port "$port" --root "$PWD/storage" | tee said.txt

step "Orthanc, with that"
awk '/^-- Has Orthanc/ {found = 1} found' said.txt >porta.lua
{
    printf '{"StorageDirectory": "%s/orthanc", "IndexDirectory": "%s/orthanc", "LuaScripts": ["%s/porta.lua"],\n' \
        "$PWD" "$PWD" "$PWD"
    printf '"HttpPort": %d, "DicomPort": %d, "StableAge": 5, "AuthenticationEnabled": false,\n' "$pages" "$pacs_port"
    awk '/^"DicomModalities"/ {found = 1} found {print} found && /^}/ {exit}' said.txt
    printf '}\n'
} >orthanc.json
Orthanc orthanc.json >orthanc.log 2>&1 &
until echoscu -aet PORTA -aec ORTHANC 127.0.0.1 "$pacs_port" 2>/dev/null; do sleep 1; done

step "Porta"
$porta run -c porta.toml 2>porta.log &
until echoscu -aet ORTHANC -aec PORTA 127.0.0.1 "$port" 2>/dev/null; do sleep 1; done
$porta check -c porta.toml

step "A study into Orthanc, which forwards it"
$porta phantom phantom --slices 40 --rows 128 --columns 128 --spacing 5 3 3 --lesions 1
dcmsend -aet PORTA -aec ORTHANC --scan-directories --recurse 127.0.0.1 "$pacs_port" phantom/dicom
study=$(dcmdump +P StudyInstanceUID "$(find phantom/dicom -type f | head -1)" | sed 's/.*\[\(.*\)\].*/\1/')

step "What has become of it"
until $porta study "$study" -c porta.toml >study.txt && grep -q 'has its results' study.txt; do sleep 2; done
cat study.txt

step "What Orthanc has of it"
curl -s "http://127.0.0.1:$pages/series?expand" | grep -o '"Modality" : "[A-Z]*"' | sort | uniq -c
step "Done"
