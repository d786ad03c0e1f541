#!/bin/bash
# Undoes what `make run` did, and says so if anything of it is left.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/bin:$PATH

before=/run/fairlead.before

# Processes of ours in this network namespace (another daemon may run in its own):
# the binary, and what was started with our directories.
processes() {
	local here dir exe
	here=$(readlink /proc/self/ns/net)
	for dir in /proc/[0-9]*; do
		exe=$(readlink "$dir/exe") || continue
		exe=${exe% (deleted)}
		[[ $(readlink "$dir/ns/net") == "$here" ]] || continue
		if [[ ${exe##*/} == fairlead ]] ||
			[[ ${exe##*/} == containerd* && $(tr '\0' ' ' <"$dir/cmdline") =~ /(run|var/lib)/fairlead/ ]]; then
			echo "process ${dir#/proc/}: $(tr '\0' ' ' <"$dir/cmdline")"
		fi
	done 2>/dev/null
}

left() {
	processes
	ip -o link | grep -E '(: fairlead0[:@])|alias fairlead' || true
	grep -E ' /(run|var/lib)/fairlead/' /proc/self/mountinfo || true
	find /run/fairlead/netns -mindepth 1 2>/dev/null || true
	nft --stateless list ruleset 2>/dev/null | grep -i fairlead || true
	if grep -qs . /proc/net/ip_tables_names; then
		iptables-legacy-save 2>/dev/null | grep -i fairlead || true
	fi
	[ ! -e "$before" ] || hack/sysctls.sh "$before"
}

if [ "$(id -u)" -ne 0 ]; then
	echo "make stop needs root" >&2
	exit 1
fi
if [ ! -e /run/fairlead ] && [ -z "$(left)" ]; then
	rm -f "$before"
	echo "nothing is running"
	exit
fi
# A daemon that died left its links and rules: the next one finds them all, and
# takes them away.
if ! fairlead info >/dev/null 2>&1; then
	install -d -m 0711 /run/fairlead
	setsid fairlead daemon >/run/fairlead/daemon.log 2>&1 </dev/null &
	for ((i = 0; i < 300; i++)); do
		fairlead info >/dev/null 2>&1 && break
		sleep 0.1
	done
fi
fairlead system teardown

# The daemon answers before it ends.
for ((i = 0; i < 100; i++)); do
	rest=$(left)
	[ -n "$rest" ] || break
	sleep 0.1
done
if [ -n "$rest" ]; then
	echo "left after the teardown:" >&2
	echo "$rest" >&2
	exit 1
fi
rm -f "$before" /run/fairlead/daemon.log
rmdir /run/fairlead 2>/dev/null || true
echo "nothing is left: no process, link, namespace, rule, mount or changed sysctl"
