#!/bin/bash
# SPDX-License-Identifier: ISC
# Builds in all the ways in which it should build: the same bytes from two directories, clang, 32 bits, musl, gcc's analyzer, installing and
# uninstalling. One line for each: PASS, FAIL or SKIP. Usage: builds.sh SOURCE, a tree with its configure; --long after it adds scan-build and
# the builds with one library less.
set -u
source=$(cd "${1:-.}" && pwd)
long=${2:-}
failed=0
export LC_ALL=C.UTF-8

pass()
{
	echo "PASS $*"
}

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
	local what=$1 start=$SECONDS
	shift
	if "$@" >"$work/last" 2>&1; then
		pass "$what ($((SECONDS - start)) s)"
	else
		fail "$what" "$work/last"
	fi
}

# build_from SOURCE DIRECTORY OPTION...: configured and made there, from another directory than the source's.
build_from()
{
	local from=$1 where=$2
	shift 2
	mkdir -p "$where" && cd "$where" && "$from/configure" -q --enable-werror "$@" && make -j2 V=0
}

build()
{
	build_from "$source" "$@"
}

# same_build SOURCE NAME
same_build()
{
	build_from "$1" "$work/$2/build" --prefix=/usr --sysconfdir=/etc --runstatedir=/run \
		CFLAGS="-g -O2 -ffile-prefix-map=$1/= -ffile-prefix-map=$work/$2/build=." && make install DESTDIR="$work/$2/root"
}

# Programs, pages and all that is installed, from a source and a build directory of other names and other times.
same_bytes()
{
	mkdir "$work/elsewhere" && cp -r "$source" "$work/elsewhere/with-a-longer-name" && same_build "$source" one &&
		same_build "$work/elsewhere/with-a-longer-name" two-two || return 1
	(cd "$work/one/root" && find . -type f -exec sha256sum {} +) | LC_ALL=C sort -k 2 >"$work/one.sums"
	(cd "$work/two-two/root" && find . -type f -exec sha256sum {} +) | LC_ALL=C sort -k 2 >"$work/two.sums"
	cat "$work/one.sums"
	[ "$(wc -l <"$work/one.sums")" -gt 10 ] && diff "$work/one.sums" "$work/two.sums"
}

uninstalls()
{
	cd "$work/one/build" && make uninstall DESTDIR="$work/one/root" && ! find "$work/one/root" ! -type d | grep . && ! find "$work/one/root" -name 'nsproxy*' | grep .
}

with_clang()
{
	build "$work/clang" CC=clang
}


# libraries_with NAME COMPILER: configured for it, and every source of the programs compiled. What does not link for want of another
# architecture's libraries is not linked.
libraries_with()
{
	local -a targets
	mkdir -p "$work/$1" && cd "$work/$1" && "$source/configure" -q --enable-werror CC="$2" || return 1
	# shellcheck disable=SC2016 # variables of make
	read -r -a targets < <(printf 'include Makefile\nlisted:\n\t@echo $(noinst_LIBRARIES) $(nsproxy_OBJECTS)\n' | make -s -f - listed)
	[ "${#targets[@]}" -gt 4 ] && make -j2 "${targets[@]}"
}

compile_32()
{
	libraries_with 32 "gcc -m32"
}

compile_musl()
{
	# The libraries' headers lie beside glibc's: only they, and the kernel's, are let in.
	local header multi
	multi=$(gcc -print-multiarch)
	mkdir -p "$work/include" || return 1
	for header in cap-ng.h confuse.h seccomp.h seccomp-syscalls.h liburing.h liburing curses.h ncurses.h ncurses_dll.h unctrl.h term.h eti.h microhttpd.h jansson.h jansson_config.h linux \
		asm-generic asm; do
		[ ! -e "/usr/include/$header" ] || ln -sf "/usr/include/$header" "$work/include/"
		[ ! -e "/usr/include/$multi/$header" ] || ln -sf "/usr/include/$multi/$header" "$work/include/"
	done
	libraries_with musl "musl-gcc -isystem $work/include"
}

# analyzed FILE: by gcc's interprocedural checks; FILE.said gets what they say.
analyzed()
{
	gcc -fanalyzer -std=gnu11 -O2 -D_GNU_SOURCE= -DHAVE_CONFIG_H -I"$work/one/build" -I"$source/src" -DSYSCONFDIR='"/etc"' -DRUNSTATEDIR='"/run"' \
		-DLIBEXECDIR='"/usr/libexec"' -c -o "$1.o" "$source/src/$1" 2>"$1.said"
}

# All sources, as many at once as there are processors. What is found wrongly is listed, with the reason.
analyze()
{
	local n
	mkdir -p "$work/analyze" && cd "$work/analyze" || return 1
	export -f analyzed
	export work source
	# shellcheck disable=SC2016 # a variable of the inner shell
	if ! (cd "$source/src" && ls -S -- *.c) | xargs -n 1 -P "$(nproc)" bash -c 'analyzed "$1"' analyzed; then
		cat -- *.said
		return 1
	fi
	n=$(find . -name '*.o' | wc -l)
	cat -- *.said | sed -n "s,^$source/src/\([a-z0-9_-]*\.c\):.*warning: .*\[-Wanalyzer-\(.*\)\]\$,\1 \2,p" >"$work/found"
	if grep -vxFf "$source/tests/packages/analyzer-knows-not" "$work/found"; then
		cat -- *.said
		return 1
	fi
	echo "$n sources"
	[ "$n" -gt 50 ] && [ "$n" = "$(find "$source/src" -name '*.c' | wc -l)" ]
}

with_scan_build()
{
	mkdir -p "$work/scan" && cd "$work/scan" && scan-build -o "$work/scan-report" "$source/configure" -q &&
		scan-build -o "$work/scan-report" --status-bugs make -j2
}

without_libraries()
{
	build "$work/less" --without-liburing --without-ncurses
}

# ---- policies and packages of others ---------------------------------------------------------------------------------------
apparmor()
{
	apparmor_parser -Q -K -T "$source/contrib/apparmor/usr.sbin.nsproxy"
}

selinux()
{
	mkdir -p "$work/selinux" && cd "$work/selinux" && checkmodule -M -m -o nsproxy.mod "$source/contrib/selinux/nsproxy.te" &&
		semodule_package -o nsproxy.pp -m nsproxy.mod -f "$source/contrib/selinux/nsproxy.fc" && test -s nsproxy.pp
}

rpm_lint()
{
	rpmlint -r "$source/contrib/rpm/nsproxy.rpmlintrc" "$source/contrib/rpm/nsproxy.spec" >"$work/rpmlint"
	cat "$work/rpmlint"
	grep -q ' 0 errors, 0 warnings' "$work/rpmlint"
}

rpm_build()
{
	mkdir -p "$work/rpm/SOURCES" && (cd "$work/one/build" && make dist) && mv "$work"/one/build/nsproxy-*.tar.gz "$work/rpm/SOURCES/" &&
		rpmbuild -bb --nodeps --define "_topdir $work/rpm" --define 'debug_package %{nil}' --define 'dist .test' --without check "$source/contrib/rpm/nsproxy.spec" &&
		rpm -qlp "$work"/rpm/RPMS/*/nsproxy-*.rpm | grep -x /usr/sbin/nsproxy
}

# needs PROGRAM PACKAGE WHAT FUNCTION
needs()
{
	if command -v "$1" >/dev/null; then
		shown "$3" "$4"
	else
		skip "$3: $1 is missing (apt-get install $2)"
	fi
}

work=$(mktemp -d /tmp/nsproxy-builds.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
shown "builds: two builds in different places have the same bytes" same_bytes
shown "builds: uninstalling leaves nothing" uninstalls
needs clang clang "builds: clang, warnings as errors" with_clang
shown "builds: every source compiles for 32 bits" compile_32
needs musl-gcc musl-tools "builds: every source compiles with musl" compile_musl
shown "builds: gcc -fanalyzer finds nothing" analyze
needs apparmor_parser apparmor "builds: AppArmor profile" apparmor
needs checkmodule checkpolicy "builds: SELinux module" selinux
needs rpmlint rpmlint "builds: rpmlint has nothing to say" rpm_lint
needs rpmbuild rpm "builds: an RPM is built from its spec" rpm_build
if [ "$long" = --long ]; then
	shown "builds: without optional libraries" without_libraries
	needs scan-build clang-tools "builds: scan-build finds nothing" with_scan_build
fi
[ "$failed" = 0 ]
