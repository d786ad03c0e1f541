#!/bin/sh
# Installs what is missing from Debian's packages, and nothing when all is there.
#
#   hack/debian-install.sh COMMAND:PACKAGE …
#
# A package is wanted when its command is not found (so containerd.io in place
# of Debian's containerd is as good), or, for static:NAME, when NAME is missing
# or needs shared libraries. A path (/usr/lib/…) in place of a command is looked
# at as it stands. No package's service is started: Fairlead runs its own
# containerd, and the bench its own dockerd.
set -eu
PATH=$PATH:/usr/sbin:/sbin

have() {
	case $1 in
	static:*)
		program=$(command -v "${1#static:}") || return 1
		! ldd "$program" >/dev/null 2>&1
		;;
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

missing=
for want in "$@"; do
	have "${want%:*}" || missing="$missing ${want##*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "missing:$missing; install them, or run this as root" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "missing:$missing; this is not Debian: install them by your own system's means" >&2
	exit 1
fi

# invoke-rc.d asks this program before it starts a service; 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

echo "installing from Debian:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
fetch() {
	# shellcheck disable=SC2086 # a list of package names
	apt-get install -qq -y --no-install-recommends $missing </dev/null >/dev/null
}
# The machine's package lists may be stale or absent: fetch them when needed.
fetch 2>/dev/null || { apt-get update -qq >/dev/null && fetch; }
