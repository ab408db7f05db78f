#!/bin/bash
# SPDX-License-Identifier: ISC
# Builds the Debian package, and installs, upgrades and purges it: in an overlay of this machine's own files, so that the machine stays as it
# is, and there once more under a systemd that runs as init. For root. One line for each thing that was shown: PASS, FAIL or SKIP.
# Usage: packages.sh BUILD, where BUILD is a configured build directory (its `make dist` makes the tarball).
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-.}" && pwd)
failed=0
version=$(sed -n 's/^PACKAGE_VERSION = //p' "$build/Makefile")
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

pass()
{
	echo "PASS $*"
}

# fail WHAT [FILE]: with the end of a log.
fail()
{
	echo "FAIL $1"
	failed=$((failed + 1))
	[ -z "${2:-}" ] || tail -n 40 "$2" | sed 's/^/     /'
}

skip()
{
	echo "SKIP $*"
	[ -z "${NSPROXY_MUST_WORK:-}" ] || failed=$((failed + 1))
}

# shown WHAT COMMAND...: the command's success is what is to be shown.
shown()
{
	local what=$1
	shift
	if "$@" >"$work/last" 2>&1; then
		pass "$what"
	else
		fail "$what" "$work/last"
	fi
}

clean_up()
{
	[ -z "${boot:-}" ] || kill -KILL "$boot" 2>/dev/null
	wait
	umount -R "$work/root" 2>/dev/null
	umount "$work/layer" 2>/dev/null
	rm -rf "$work"
}

# ---- the package -----------------------------------------------------------------------------------------------------------
build_package()
{
	mkdir -p "$work/deb" || return 1
	make -C "$build" dist || return 1
	mv "$build/nsproxy-$version.tar.gz" "$work/deb/nsproxy_$version.orig.tar.gz" || return 1
	cd "$work/deb" && tar -xf "nsproxy_$version.orig.tar.gz" && cd "nsproxy-$version" || return 1
	cp -r contrib/debian debian && DEB_BUILD_OPTIONS='nocheck parallel=2' dpkg-buildpackage -us -uc
}

# Nothing that lintian knows, down to pedantic hints, but for overrides that say why.
run_lintian()
{
	lintian --allow-root --pedantic -I "$work"/deb/*.changes >"$work/lintian" 2>&1
	grep -E '^[EWIPX]: ' "$work/lintian" && return 1
	! grep -v '^N: ' "$work/lintian"
}

installed_files()
{
	dpkg --fsys-tarfile "$deb" | tar -tf - | sed 's,^\./,/,; s,/$,,' | grep . | LC_ALL=C sort
}

compare_files()
{
	installed_files | diff -u "$here/tests/packages/files" -
}

# The same package with another version, and a program that differs; building it anew would show nothing more.
make_newer()
{
	mkdir "$work/newer" && dpkg-deb -R "$deb" "$work/newer" || return 1
	sed -i 's/^Version: .*/Version: 99.0-1/' "$work/newer/DEBIAN/control" || return 1
	printf '\0' >>"$work/newer/usr/sbin/nsproxy"
	(cd "$work/newer" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort | xargs md5sum >DEBIAN/md5sums)
	dpkg-deb --root-owner-group -b "$work/newer" "$work/newer.deb"
}

# ---- a machine of its own --------------------------------------------------------------------------------------------------
# This machine's files with a layer over them in memory.
make_root()
{
	mkdir -p "$work/layer" "$work/root" && mount -t tmpfs -o size=1g layer "$work/layer" || return 1
	mkdir "$work/layer/upper" "$work/layer/work" || return 1
	mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$work/root" || return 1
	# Nothing of this machine's own services, and none of an nsproxy that may be installed here.
	rm -rf "$work"/root/etc/systemd/system/*.wants "$work/root/etc/nsproxy" "$work/root/etc/machine-id" "$work"/root/usr/local/sbin/nsproxy*
	: >"$work/root/etc/machine-id"
	rm -f "$work/root/usr/sbin/policy-rc.d" "$work/root/etc/resolv.conf"
	sed -i '/^nsproxy:/d' "$work"/root/etc/{passwd,group,shadow,gshadow}
	mkdir -p "$work/root/var/tmp/nsproxy-test"
	cp -r "$here/tests/functional/support" "$here/tests/packages/inside.py" "$here/contrib/debian/tests" "$deb" "$work/newer.deb" \
		"$work/root/var/tmp/nsproxy-test"
	mv "$work/root/var/tmp/nsproxy-test/${deb##*/}" "$work/root/var/tmp/nsproxy-test/nsproxy.deb"
}

in_root()
{
	chroot "$work/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

# What there is of files and links but for what a package manager and its tools remember, with contents.
snapshot()
{
	(cd "$work/layer/upper" && find . \( -type f -o -type l \) ! -path './var/lib/dpkg/*' ! -path './var/log/*' ! -path './var/tmp/*' ! -path './var/cache/*' \
		! -path './etc/*-' ! -path './etc/.pwd.lock' ! -path './dev/*' | LC_ALL=C sort)
}

has_user()
{
	grep -q '^nsproxy:x:[0-9]*:[0-9]*:nsproxy workers and reporter:/:/usr/sbin/nologin$' "$work/root/etc/passwd"
}

nothing_enabled()
{
	! find "$work/root/etc/systemd/system" "$work"/root/etc/rc?.d -name '*nsproxy*' ! -name 'K*' | grep .
}

# An administrator's change outlives an upgrade.
upgrade()
{
	echo '# mine' >>"$work/root/etc/nsproxy/nsproxy.conf"
	in_root dpkg --force-confdef -i /var/tmp/nsproxy-test/newer.deb && tail -n 1 "$work/root/etc/nsproxy/nsproxy.conf" | grep '# mine' &&
		in_root nsproxy -V
}

purge()
{
	in_root dpkg --purge nsproxy && snapshot >"$work/after" && ! diff "$work/before" "$work/after" | grep '^[<>]' | grep -vE '/etc/(passwd|group|shadow|gshadow)$'
}

without_systemd()
{
	snapshot >"$work/before"
	shown "package: installs" in_root dpkg -i /var/tmp/nsproxy-test/nsproxy.deb
	shown "package: makes its user" has_user
	shown "package: enables nothing" nothing_enabled
	shown "package: its configuration is the administrator's over an upgrade" upgrade
	shown "package: purged, nothing is left but the user" purge
}

# ---- systemd as init -------------------------------------------------------------------------------------------------------
# Boots it; says what kept it from that.
boot_systemd()
{
	systemd-nspawn -q -D "$work/root" --boot --private-network --register=no --keep-unit --console=pipe --capability=CAP_NET_ADMIN \
		systemd.unit=multi-user.target </dev/null >"$work/console" 2>&1 &
	boot=$!
	local tries
	for tries in $(seq 300); do
		leader=$(pgrep -P "$boot" 2>/dev/null | head -n 1)
		if [ -n "$leader" ] && enter systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'; then
			return 0
		fi
		kill -0 "$boot" 2>/dev/null || break
		sleep 0.2
	done
	echo "no systemd that runs as init here (after $tries looks); systemd-nspawn said: $(tail -n 5 "$work/console" | tr '\n' ' ')"
	[ -z "$leader" ] || enter systemctl list-jobs
	return 1
}

enter()
{
	nsenter -t "$leader" -m -u -i -n -p -C -r -w -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER=cat "$@"
}

halt_systemd()
{
	enter systemctl --no-block poweroff >/dev/null 2>&1
	timeout 30 tail --pid="$boot" -f /dev/null || kill -KILL "$boot"
	wait "$boot" 2>/dev/null
	boot=
}

# The cases of inside.py, in the container; its lines are ours.
inside()
{
	enter /usr/bin/python3 /var/tmp/nsproxy-test/inside.py "$@" >"$work/inside" 2>&1
	local status=$?
	grep -E '^(PASS|FAIL) ' "$work/inside"
	failed=$((failed + $(grep -c '^FAIL ' "$work/inside")))
	if [ "$status" != 0 ]; then
		grep -q '^FAIL ' "$work/inside" || fail "systemd: inside.py $1"
		grep -vE '^PASS ' "$work/inside" | tail -n 120 | sed 's/^/     /'
	fi
}

with_systemd()
{
	if ! command -v systemd-nspawn >/dev/null; then
		skip "systemd: systemd-nspawn is missing (apt-get install systemd-container)"
		return
	fi
	if ! boot_systemd >"$work/last" 2>&1; then
		skip "systemd: $(tr '\n' ' ' <"$work/last")"
		return
	fi
	inside first
	halt_systemd
	if boot_systemd >"$work/last" 2>&1; then
		inside again
		halt_systemd
	else
		fail "systemd: boots a second time" "$work/last"
	fi
}

main()
{
	if [ "$(id -u)" != 0 ]; then
		skip "packages: only root can do this"
		exit 77
	fi
	work=$(mktemp -d /tmp/nsproxy-packages.XXXXXX) || exit 1
	chmod 755 "$work"
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	mount --make-rprivate / || exit 1
	if ! build_package >"$work/last" 2>&1; then
		fail "package: builds" "$work/last"
		exit 1
	fi
	pass "package: builds"
	deb=$(echo "$work"/deb/nsproxy_*.deb)
	shown "package: lintian has nothing to say" run_lintian
	shown "package: has the files that it should have" compare_files
	shown "package: a newer one is made" make_newer
	if ! make_root >"$work/last" 2>&1; then
		skip "package: no overlay of this machine's files: $(tr '\n' ' ' <"$work/last")"
		exit $((failed > 0))
	fi
	without_systemd
	with_systemd
	[ "$failed" = 0 ]
}

# Mounts of ours are nobody else's.
if [ -z "${NSPROXY_OWN_MOUNTS:-}" ] && [ "$(id -u)" = 0 ]; then
	NSPROXY_OWN_MOUNTS=yes exec unshare -m "$0" "$@"
fi
main
