# Installs the Debian packages named as arguments, and starts none of the services that they bring.
#
# A shell rather than our own process does this, because its traps take the policy away again also when the whole
# process group is interrupted.
set -eu

policy=/usr/sbin/policy-rc.d
mark='# Placed by `cargo xtask` for the time of one installation.'

# One installation at a time: a policy with our mark is then either ours or left over from a run that was killed.
exec 9>/run/sidewall-xtask-packages.lock
flock 9

take_away() {
    if grep -qsF "$mark" "$policy"; then rm -f "$policy"; fi
}
take_away
trap take_away EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Where the machine has a policy of its own (noclobber: an existing file is left alone) that one holds. 101 is
# "action forbidden by policy": maintainer scripts then start nothing and carry on.
if (set -C; printf '%s\n' '#!/bin/sh' "$mark" 'exit 101' >"$policy") 2>/dev/null; then
    chmod 755 "$policy"
fi

apt-get update -q 9>&- || echo 'the package lists could not be refreshed; trying with those at hand' >&2
apt-get install -y -q --no-install-recommends --no-remove \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -- "$@" 9>&-
