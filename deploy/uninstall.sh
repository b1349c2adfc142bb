#!/bin/sh
# Removes what deploy/install.sh installed. As root. What holds patients' images or was written by a person stays:
# /var/lib/porta, /etc/porta and the user porta; the last line says how to remove them too.
set -eu

root=${ROOT:-}
[ "$(id -u)" = 0 ] || { echo "uninstall.sh: must be run by root" >&2; exit 2; }
[ -n "$root" ] || systemctl disable --now porta-console porta
rm -rf "$root/opt/porta" "$root/var/cache/porta"
rm -f "$root/etc/systemd/system/porta.service" "$root/etc/systemd/system/porta-console.service" "$root/etc/systemd/journald.conf.d/porta.conf"
[ -n "$root" ] || systemctl daemon-reload
echo "kept: /var/lib/porta and /etc/porta. When all is delivered or backed up: rm -r /var/lib/porta /etc/porta; userdel porta"
