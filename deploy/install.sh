#!/bin/sh
# Installs Porta under systemd, or brings an installed one up to date. As root, in a copy of the repository, or beside a wheel:
#   deploy/install.sh [WHEEL]
# PYTHON is the Python for it (default: /usr/bin/python3), PIP_OPTIONS are further options for pip. Nothing is overwritten in
# /etc/porta. ROOT (default: none) stands before every path, for packages and tests; then systemd is not asked.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=${1:-$here/..}
python=${PYTHON:-/usr/bin/python3}
user=${PORTA_USER:-porta}
root=${ROOT:-}
home=$root/opt/porta

fail() { echo "install.sh: $1" >&2; exit 2; }

[ "$(id -u)" = 0 ] || fail "must be run by root"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python: Python 3.11 or later is needed"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python: has no venv (Debian package python3-venv)"
id "$user" >/dev/null 2>&1 || useradd --system --home-dir /var/lib/porta --shell /usr/sbin/nologin "$user"

# The service runs as another user, who must be able to run this Python: one below /root, as pyenv's, is closed to others.
real=$(readlink -f "$(command -v "$python")")
runuser -u "$user" -- "$real" -c '' 2>/dev/null ||
  fail "the user $user may not run $real: name another Python, as in PYTHON=/usr/bin/python3 $0"

install -d -m 0755 "$home" "$root/etc/porta" "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d"
umask 022
[ -x "$home/.venv/bin/python" ] || "$python" -m venv "$home/.venv"
constraints=
[ ! -f "$here/../constraints.txt" ] || constraints="-c $here/../constraints.txt"
# shellcheck disable=SC2086
"$home/.venv/bin/pip" install --quiet --upgrade $constraints ${PIP_OPTIONS:-} "$source"
runuser -u "$user" -- "$home/.venv/bin/porta" --help >/dev/null ||
  fail "the user $user may not run $home/.venv/bin/porta: make it and the folders above it readable (chmod o+rX)"

[ -e "$root/etc/porta/porta.toml" ] ||
  install -m 0640 -g "$(id -g "$user")" "$here/systemd.toml" "$root/etc/porta/porta.toml"
install -m 0644 "$here/porta.service" "$here/porta-console.service" "$root/etc/systemd/system/"
install -m 0644 "$here/journald.conf" "$root/etc/systemd/journald.conf.d/porta.conf"
[ -n "$root" ] || systemctl daemon-reload
echo "installed: edit /etc/porta/porta.toml, then: systemctl enable --now porta"
echo "check:     runuser -u $user -- /opt/porta/.venv/bin/porta check"
