#!/bin/sh
# Prints the network's sysctls, one a line. With a file of such lines, prints
# those that are no longer as the file has them.
set -eu

# Keys the kernel fills in by itself at first use are left out.
now() {
	find /proc/sys/net -type f -perm -u+rw ! -name '*_key' ! -name stable_secret \
		-exec grep -H '' {} + 2>/dev/null | LC_ALL=C sort
}

if [ $# -eq 0 ]; then
	now
	exit
fi
# Only keys that are in both: an interface that came or went takes its own along.
now | awk -F : '
	{ key = $1; value = substr($0, length(key) + 2) }
	NR == FNR { before[key] = value; next }
	key in before && before[key] != value {
		sub("^/proc/sys/", "", key)
		print "sysctl " key " was " before[$1] ", is " value
	}' "$1" -
