#!/bin/bash
# The main job in one go, for `make run`: a daemon, an image made of this
# machine's busybox, a web server with a published port, and its page fetched.
# It may be run again: what is there already is used, the container is new.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/bin:$PATH

image=demo name=hello port=${PORT:-8080}
log=/run/fairlead/daemon.log

fail() {
	echo "$*" >&2
	exit 1
}

start_daemon() {
	fairlead info >/dev/null 2>&1 && return
	install -d -m 0711 /run/fairlead
	# What make stop compares with is the host as it was before the first daemon.
	[ -e /run/fairlead/state ] || [ -e /run/fairlead.before ] || hack/sysctls.sh >/run/fairlead.before
	setsid fairlead daemon >"$log" 2>&1 </dev/null &
	local daemon=$!
	for ((i = 0; i < 300; i++)); do
		fairlead info >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$log" >&2
	fail "the daemon did not come up; its log is $log"
}

# A root file system of one static busybox, its commands as links, and a page.
make_image() {
	fairlead images -q "$image" | grep -q . && return
	local root
	root=$(mktemp -d)
	# shellcheck disable=SC2064 # the directory made here, whatever root becomes
	trap "rm -rf '$root'" RETURN
	mkdir -p "$root"/{bin,dev,etc,proc,sys,www} "$root/root"
	mkdir -m 1777 "$root/tmp"
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	echo 'Hello from a container of Fairlead.' >"$root/www/index.html"
	chmod 0755 "$root"
	tar --create --owner=0 --group=0 --numeric-owner --directory="$root" . |
		fairlead import - "$image" >/dev/null
}

# The server listens a moment after its process started.
fetch() {
	for ((i = 0; i < 50; i++)); do
		busybox wget -q -O - "http://$1:$port/" 2>/dev/null && return
		sleep 0.1
	done
	fail "no page at http://$1:$port/; see fairlead logs $name, and $log"
}

# Says what is in the kernel now, read back from it.
show_path() {
	local id=$1 addr=$2 host=$3 netns peer veth bridge element
	netns=/run/fairlead/netns/$id
	peer=$(nsenter --net="$netns" ip -o link show eth0 | sed -n 's/.*eth0@if\([0-9]*\):.*/\1/p')
	veth=$(ip -o link | awk -F': ' -v i="$peer" '$1 == i { sub(/@.*/, "", $2); print $2 }')
	bridge=$(ip -o link show "$veth" | sed -n 's/.* master \([^ ]*\).*/\1/p')
	element=$(nft list map inet fairlead publish4any | grep -o "tcp \. $port : [0-9.]* \. [0-9]*")
	cat <<-TEXT
		$name has the address $addr. A packet from outside comes to it by
		  $host:$port    the host; fairlead relay holds the port, so no other program takes it
		  inet fairlead     nft table: map publish4any has $element
		  $bridge         the bridge, $(ip -4 -o addr show dev "$bridge" | awk '{ print $4 }')
		  $veth       the bridge's port, the host's end of the veth pair
		  eth0              $addr in $netns
	TEXT
}

[ "$(id -u)" -eq 0 ] || fail "make run needs root: it makes network namespaces"
start_daemon
make_image
fairlead rm -f "$name" >/dev/null 2>&1 || true
id=$(fairlead run -d --name "$name" -p "$port:80" "$image" httpd -f -p 80 -h /www) ||
	fail "if port $port is taken, choose another: make run PORT=9090"
# Empty on a host without a default route.
host=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p') || true
addr=$(fairlead inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$name")

echo "\$ fairlead run -d --name $name -p $port:80 $image httpd -f -p 80 -h /www"
for from in $host 127.0.0.1; do
	page=$(fetch "$from")
	echo "\$ wget -q -O - http://$from:$port/"
	echo "$page"
done
echo "\$ fairlead ps"
fairlead ps
echo
show_path "$id" "$addr" "${host:-127.0.0.1}"
echo "make stop undoes all of it."
