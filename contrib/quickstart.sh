#!/bin/sh
# SPDX-License-Identifier: ISC
# From a source tree to TCP that flows between two network namespaces, on a fresh Debian machine, in one command. Builds and installs below
# build/quickstart in the tree and cleans up after itself.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$here/build/quickstart
prefix=$work/installed
running=$work/running			# process ids and files of what is running now
url=http://10.10.10.10/hello.bin
NSPROXY_NETWORK_OWNER=quickstart
export NSPROXY_NETWORK_OWNER

usage()
{
	cat <<'EOT'
usage: quickstart.sh [--keep | --stop]
  (nothing)  build nsproxy, show it at work between two network namespaces, clean up
  --keep     leave namespaces, file server and nsproxy running
  --stop     end what --keep left
EOT
}

die()
{
	echo "quickstart.sh: $*" >&2
	exit 1
}

say()
{
	printf '\n== %s\n' "$*"
}

# Namespaces of these names that somebody else made are left alone.
refuse_foreign()
{
	for name in public private; do
		[ -e "/run/netns/$name" ] || continue
		grep -qsxF "$name $(stat -Lc %d:%i "/run/netns/$name") quickstart" /run/nsproxy-setup-network ||
			die "a network namespace '$name' exists that this script did not make; nothing was done"
	done
}

install_packages()
{
	missing=
	for package in gcc make autoconf automake pkg-config libc6-dev libcap-ng-dev libseccomp-dev libconfuse-dev libjansson-dev iproute2 curl python3; do
		# Without dpkg this is no Debian: configure says what is missing there.
		if command -v dpkg-query >/dev/null &&
			! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
			missing="$missing $package"
		fi
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	apt-get update -q >"$work/apt.log" 2>&1 || die "apt-get update failed; see $work/apt.log"
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >>"$work/apt.log" 2>&1 ||
		die "apt-get install failed; see $work/apt.log"
}

# A copy is built, so that the tree stays as it is, whatever state it is in.
build()
{
	say "building in $work"
	rm -rf "$work/source" "$prefix"
	mkdir -p "$work/source"
	tar -C "$here" --exclude=./build --exclude=./.git --exclude=./config.status --exclude=./Makefile --exclude='*.o' --exclude='*.a' \
		--exclude=.deps --exclude=.dirstamp --exclude=__pycache__ -cf - . | tar -C "$work/source" -xf -
	(
		cd "$work/source"
		autoreconf -fi
		./configure --prefix="$prefix"
		make -j"$(nproc)"
		make install
	) >"$work/build.log" 2>&1 || {
		tail -n 20 "$work/build.log" >&2
		die "the build failed; see $work/build.log"
	}
	"$prefix/sbin/nsproxy" -V
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for()
{
	tries=$(($1 * 10))
	shift
	while ! "$@" >/dev/null 2>&1; do
		[ "$tries" -gt 0 ] || return 1
		tries=$((tries - 1))
		sleep 0.1
	done
}

serve_files()
{
	say "an HTTP file server in 'private', at 172.20.0.2:80"
	mkdir -p "$running"
	www=$(mktemp -d /tmp/nsproxy-quickstart.XXXXXX)
	echo "$www" >"$running/www"
	chmod 755 "$www"
	head -c 67108864 /dev/urandom >"$www/hello.bin"
	server="/usr/bin/python3 -m http.server --bind 172.20.0.2 --directory $www 80"
	# One capability, for port 80, is all the server gets; where setpriv cannot do that it stays root.
	drop="setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service"
	$drop true 2>/dev/null || drop=
	# shellcheck disable=SC2086 # both are lists of words
	setsid ip netns exec private $drop $server >"$work/http.log" 2>&1 </dev/null &
	echo $! >"$running/http.pid"
	wait_for 10 ip netns exec private curl -sf -o /dev/null http://172.20.0.2/ || die "the file server did not start; see $work/http.log"
}

start_nsproxy()
{
	say "nsproxy -u nobody -l public@10.10.10.10:80 -c private@172.20.0.2:80"
	setsid "$prefix/sbin/nsproxy" -u nobody -l public@10.10.10.10:80 -c private@172.20.0.2:80 >"$work/nsproxy.log" 2>&1 </dev/null &
	echo $! >"$running/nsproxy.pid"
	wait_for 15 grep -q 'ready, ' "$work/nsproxy.log" || {
		cat "$work/nsproxy.log" >&2
		die "nsproxy did not get ready"
	}
	grep 'ready, ' "$work/nsproxy.log"
}

fetch()
{
	say "curl $url, in 'public'"
	ip netns exec public curl -sS -o "$work/fetched.bin" -w '%{size_download} bytes in %{time_total} s\n' "$url" || die "curl failed"
	sent=$(sha256sum <"$(cat "$running/www")/hello.bin")
	got=$(sha256sum <"$work/fetched.bin")
	rm -f "$work/fetched.bin"
	[ "$sent" = "$got" ] || die "the file arrived damaged: sha256 $got instead of $sent"
	echo "sha256 ${got%% *}: equal at both ends"
	wait_for 5 grep -q 'service=' "$work/nsproxy.log" || die "no access line was logged"
	grep 'service=' "$work/nsproxy.log"
}

# Name of the network namespace that process $1 lives in.
namespace_of()
{
	inode=$(stat -Lc %i "/proc/$1/ns/net")
	for file in /run/netns/*; do
		if [ "$(stat -Lc %i "$file")" = "$inode" ]; then
			echo "${file##*/}"
			return
		fi
	done
	if [ "$inode" = "$(stat -Lc %i /proc/self/ns/net)" ]; then echo "(yours)"; else echo "(an empty one)"; fi
}

field()
{
	awk -v key="$2:" '$1 == key { print $2; exit }' "/proc/$1/status"
}

show_process()
{
	# Children call themselves by their role.
	title=$(tr '\0' ' ' <"/proc/$1/cmdline")
	case $title in /*) title="nsproxy: parent" ;; esac
	printf '%-26s %7s  %-8s %-15s %-16s %-16s %-7s %s\n' "${title% }" "$1" \
		"$(stat -c %U "/proc/$1")" "$(namespace_of "$1")" "$(field "$1" CapPrm)" "$(field "$1" CapEff)" \
		"$(field "$1" Seccomp)" "$(field "$1" NoNewPrivs)"
}

show_processes()
{
	say "who runs where, with which privileges"
	printf '%-26s %7s  %-8s %-15s %-16s %-16s %-7s %s\n' process pid user 'net namespace' 'caps permitted' 'caps in effect' seccomp no_new_privs
	parent=$(cat "$running/nsproxy.pid")
	show_process "$parent"
	for status in /proc/[0-9]*/status; do
		pid=${status#/proc/}
		pid=${pid%/status}
		if [ "$(field "$pid" PPid 2>/dev/null)" = "$parent" ]; then
			show_process "$pid"
		fi
	done
}

stop_process()
{
	[ -f "$running/$1.pid" ] || return 0
	pid=$(cat "$running/$1.pid")
	# A process id may have been given to somebody else since --keep.
	if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$2"; then
		kill "$pid" 2>/dev/null || :
		wait_for 40 test ! -e "/proc/$pid/exe" || kill -KILL "$pid" 2>/dev/null || :
	fi
	rm -f "$running/$1.pid"
}

clean_up()
{
	stop_process nsproxy nsproxy
	stop_process http http.server
	if [ -f "$running/www" ]; then
		rm -rf "$(cat "$running/www")"
	fi
	rm -rf "$running"
	"$here/contrib/setup-network.sh" --remove
}

main()
{
	keep=no
	case ${1:-} in
	'') ;;
	--keep) keep=yes ;;
	--stop)
		refuse_foreign
		clean_up
		exit 0
		;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
	[ "$(id -u)" = 0 ] || die "must be run by root: it makes network namespaces"
	refuse_foreign
	mkdir -p "$work"
	install_packages
	build
	clean_up
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	say "network namespaces 'public' (10.10.10.10) and 'private' (172.20.0.2)"
	"$here/contrib/setup-network.sh"
	serve_files
	start_nsproxy
	fetch
	show_processes
	if [ "$keep" = yes ]; then
		trap - EXIT
		say "left running; try: ip netns exec public curl -O $url; a browser here reaches it after: contrib/setup-network.sh --veth"
		echo "end it with: contrib/quickstart.sh --stop"
	else
		say "cleaning up"
	fi
}

main "$@"
