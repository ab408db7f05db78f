#!/bin/bash
# SPDX-License-Identifier: ISC
# Installs what the tests need and runs all of them, on a Debian machine, as root. Works on a copy of the tree. The last line says how many
# passed, failed and were skipped; the exit code is 0 only when nothing failed and something was run.
set -u

here=$(cd "$(dirname "$0")/.." && pwd)
long=
passed=0
failed=0
skipped=0
failed_steps=
policy=/usr/sbin/policy-rc.d
policy_is_ours=
NSPROXY_MUST_WORK=1
export NSPROXY_MUST_WORK

usage()
{
	cat <<'EOT'
usage: check.sh [--long]
  --long  full counts instead of a fiftieth of them; takes hours
EOT
}

clean_up()
{
	if [ -n "$policy_is_ours" ]; then
		rm -f "$policy"
	fi
	# What failed can be looked at.
	if [ "$failed" = 0 ] && [ -n "${work:-}" ]; then
		rm -rf "$work"
	elif [ -n "${work:-}" ]; then
		echo "logs and builds are in $work"
	fi
}

count()
{
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + $3))
}

# tally FILE...: adds what test reports say: pytest's JUnit files, and the logs of cmocka programs and of our own scripts.
tally()
{
	local file
	local -a numbers
	for file; do
		[ -f "$file" ] || continue
		case $file in
		*.xml) read -r -a numbers < <(tally_junit "$file") ;;
		*) read -r -a numbers < <(tally_log "$file") ;;
		esac
		count "${numbers[@]}"
		step_passed=$((step_passed + numbers[0]))
		step_failed=$((step_failed + numbers[1]))
	done
}

tally_junit()
{
	sed -n 's/.*<testsuite [^>]*errors="\([0-9]*\)" failures="\([0-9]*\)" skipped="\([0-9]*\)" tests="\([0-9]*\)".*/\1 \2 \3 \4/p' "$1" |
		awk '{ e += $1; f += $2; s += $3; t += $4 } END { print t - e - f - s, e + f, s + 0 }'
}

tally_log()
{
	awk '/^\[  PASSED  \] [0-9]+ test/ { p += $4 } /^\[  FAILED  \] [0-9]+ test/ { f += $4 } /^\[  SKIPPED \] [0-9]+ test/ { s += $4 }
		/^PASS / { p++ } /^FAIL / { f++ } /^SKIP / { s++ } END { print p + 0, f + 0, s + 0 }' "$1"
}

# step NAME COMMAND...: runs a function or a command with its output in a log. What the step counted itself is its count; a step that
# counted nothing counts as one, and so does a failure that no count shows.
step()
{
	local name=$1 start=$SECONDS log verdict
	shift
	log=$work/log/${name// /-}
	step_passed=0
	step_failed=0
	printf '%-34s ' "$name"
	if "$@" >"$log" 2>&1 && [ "$step_failed" = 0 ]; then
		verdict=ok
		[ "$step_passed" != 0 ] || count 1 0 0
	else
		verdict=FAILED
		failed_steps="$failed_steps${failed_steps:+, }$name"
		[ "$step_failed" != 0 ] || count 0 1 0
	fi
	printf '%-7s %4d s  %s\n' "$verdict" $((SECONDS - start)) "$([ "$step_passed" = 0 ] || echo "$step_passed passed") "
	if [ "$verdict" = FAILED ]; then
		show_failures "$log"
	fi
}

show_failures()
{
	{
		grep -E '^(FAIL|FAILED|ERROR|SKIP)|error:|^E  |^\[  FAILED|^     ' "$1" | tail -n 40
		echo "... end of $1:"
		tail -n 15 "$1"
	} | sed 's/^/    /'
}

# Daemons among the test programs (redis) must not start on the user's machine.
forbid_daemons()
{
	[ ! -e "$policy" ] || return 0
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	policy_is_ours=yes
	chmod 755 "$policy"
}

packages()
{
	local package missing=
	command -v apt-get >/dev/null || {
		echo "no apt-get here: install the tools yourself; configure says which are missing"
		return 0
	}
	for package in gcc libc6-dev make autoconf automake pkg-config binutils libcap-ng-dev libseccomp-dev libconfuse-dev liburing-dev libjansson-dev libncurses-dev \
		libmicrohttpd-dev libcmocka-dev \
		python3 python3-pytest python3-pytest-timeout python3-pyte zsh iproute2 procps util-linux curl nginx redis-server redis-tools openssh-server openssh-client strace \
		clang clang-tidy cppcheck mandoc groff shellcheck libclang-rt-dev valgrind \
		prometheus python3-prometheus-client chromium \
		systemd systemd-container dpkg-dev debhelper lintian logrotate gcc-multilib musl-tools clang-tools apparmor checkpolicy semodule-utils rpm rpmlint; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	echo "installing$missing"
	forbid_daemons
	apt-get update -q || return 1
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
	local status=$?
	if [ -n "$policy_is_ours" ]; then
		rm -f "$policy"
		policy_is_ours=
	fi
	return $status
}

copy_tree()
{
	mkdir -p "$work/source"
	tar -C "$here" --exclude=./build --exclude=./.git --exclude=./config.status --exclude=./config.h --exclude=./Makefile --exclude='*.o' \
		--exclude='*.a' --exclude='*.trs' --exclude='*.log' --exclude=.deps --exclude=.dirstamp --exclude=__pycache__ \
		--exclude=./check-prefix --exclude=./generated -cf - . | tar -C "$work/source" --no-same-owner -xf - || return 1
	cd "$work/source" && rm -f tests/unit/test_*[!c] && autoreconf -fi
}

# configured NAME OPTION...: a build of its own in $work/NAME, which installs into $work/NAME/installed.
configured()
{
	local name=$1
	shift
	mkdir -p "$work/$name" && cd "$work/$name" && "$work/source/configure" --prefix="$work/$name/installed" --enable-werror "$@"
}

build()
{
	configured "$@" && make -j2 && make install
}

unit()
{
	cd "$work/$1" || return 1
	make -j2 check-unit
	local status=$?
	tally tests/tools.sh.log tests/unit/*.log tests/fuzz/replay.sh.log
	return $status
}

lint()
{
	cd "$work/main" || return 1
	make check TESTS=tests/lint/run
	local status=$?
	cat tests/lint/run.log
	tally tests/lint/run.log
	return $status
}

# functional BUILD REPORT [SELECTION]: against the programs that BUILD installed.
functional()
{
	local name=$1 report=$work/report/$2.xml rows=
	[ "$name" != main ] || rows=$NSPROXY_ROWS
	cd "$work/$name" || return 1
	NSPROXY_ROWS=$rows NSPROXY_PREFIX=$work/$name/installed NSPROXY_REPORT=$report NSPROXY_SELECT=${3:-} PYTHONDONTWRITEBYTECODE=1 srcdir=$work/source \
		builddir=$work/$name "$work/source/tests/functional.sh"
	local status=$?
	tally "$report"
	return $status
}

# Under valgrind, which has no place in a sandbox: the build with test hooks goes without one then. The big counts would take days.
memory()
{
	make -C "$work/hooked" -j2 test-helpers || return 1
	NSPROXY_LONG='' NSPROXY_VALGRIND=$work/valgrind functional hooked valgrind "$1"
}

# Without root: a user that owns nothing, in a user namespace.
rootless()
{
	local report=$work/report/rootless.xml
	: >"$report"
	chown nobody "$report"
	cd / || return 1
	runuser -u nobody -- env -i PATH="$PATH" HOME=/nonexistent TMPDIR=/tmp NSPROXY_MUST_WORK=1 NSPROXY_PREFIX="$work/main/installed" \
		NSPROXY_REPORT="$report" NSPROXY_SELECT="$1" PYTHONDONTWRITEBYTECODE=1 srcdir="$work/source" builddir="$work/main" \
		"$work/source/tests/functional.sh"
	local status=$?
	tally "$report"
	return $status
}

# Ten seconds for each target, side by side; --long: ten minutes each.
fuzz()
{
	local target name seconds=10 status=0
	local -A running
	[ -z "$long" ] || seconds=600
	mkdir -p "$work/fuzz" && cd "$work/fuzz" && CC=clang "$work/source/configure" --enable-fuzzer && make -j2 fuzz-targets || return 1
	for target in tests/fuzz/fuzz_*; do
		[ -x "$target" ] || continue
		name=${target##*/fuzz_}
		mkdir -p "found/$name"
		"$target" -max_total_time=$seconds -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 "found/$name" \
			"$work/source/tests/fuzz/corpus/$name" >"$name.out" 2>&1 &
		running[$name]=$!
	done
	for name in "${!running[@]}"; do
		if wait "${running[$name]}"; then
			echo "PASS fuzz_$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$name.out") runs"
			step_passed=$((step_passed + 1))
			count 1 0 0
		else
			echo "FAIL fuzz_$name"
			tail -n 40 "$name.out"
			step_failed=$((step_failed + 1))
			count 0 1 0
			status=1
		fi
	done
	return $status
}

# Three minutes of mixed traffic with faults at random; --long: an hour.
soak()
{
	local minutes=3
	[ -z "$long" ] || minutes=60
	NSPROXY_PREFIX=$work/main/installed "$work/source/tests/soak.sh" $minutes >"$work/soak.log" 2>&1
	local status=$?
	cat "$work/soak.log"
	tally "$work/soak.log"
	return $status
}

# Debian's package, in an overlay of this machine, and there under a systemd that runs as init.
debian()
{
	"$work/source/tests/packages.sh" "$work/main" | tee "$work/report/debian"
	local status=${PIPESTATUS[0]}
	tally "$work/report/debian"
	return "$status"
}

builds()
{
	"$work/source/tests/builds.sh" "$work/source" ${long:+--long} | tee "$work/report/builds"
	local status=${PIPESTATUS[0]}
	tally "$work/report/builds"
	return "$status"
}

# What each fault led to, as measured in this run.
show_rows()
{
	[ -s "$NSPROXY_ROWS" ] || return 0
	echo
	echo "faults, engines, figures:"
	python3 "$work/source/tests/functional/support/rows.py" "$NSPROXY_ROWS"
	echo
}

# The tarball builds, passes a few tests, installs, uninstalls and leaves nothing.
distcheck()
{
	cd "$work/main" || return 1
	# What the lint step did need not be done again, hence these are missing, which is no failure here.
	NSPROXY_MUST_WORK='' NSPROXY_SELECT='test_ready or test_refused' make -j2 distcheck AM_DISTCHECK_CONFIGURE_FLAGS='CLANG_TIDY=no CPPCHECK=no'
}

verdict()
{
	[ -z "$failed_steps" ] || echo "failed: $failed_steps"
	printf '%d passed, %d failed%s\n' "$passed" "$failed" "$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

main()
{
	case ${1:-} in
	'') ;;
	--long)
		long=yes
		NSPROXY_LONG=1
		export NSPROXY_LONG
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
	if [ "$(id -u)" != 0 ]; then
		echo "check.sh: must be run by root; as an ordinary user use make check" >&2
		exit 1
	fi
	work=$(mktemp -d /tmp/nsproxy-check.XXXXXX) || exit 1
	chmod 755 "$work"
	mkdir "$work/log" "$work/report"
	NSPROXY_ROWS=$work/rows
	export NSPROXY_ROWS
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	# Some functional tests, one of each kind, for the builds that only vary what the main one shows.
	quick=smoke
	# Under the sanitizers also the faults, for one engine.
	faults='smoke or (adaptive and (test_faults or test_reset or test_half_close or test_urgent or test_worker_killed or test_limits or'
	faults="$faults test_slow_reader or test_timeouts or test_connect_fail or test_signals or test_left_behind or test_bursts or test_transfer))"
	faults="$faults or (test_evil_worker and not silent)"
	# Under valgrind one of each kind, for one engine: ends of a connection, of processes, of a program.
	checked='(adaptive and (test_file_up or test_many_connections_of_random_sizes or test_client_closes_first or test_reset_in_the_middle or'
	checked="$checked test_bulk_with_urgent_bytes or test_killed_in_the_middle or test_reporter_killed or test_max_connections_exactly or test_refused or"
	checked="$checked test_half_close_timeout_by_client or test_unix_on_both_sides or test_drain_and_resume)) or test_background or"
	checked="$checked test_same_programs or test_known_traffic or test_host_name_is_resolved or test_client_leaves_while_connecting or"
	checked="$checked test_filters_and_order or test_rows_left_by_the_dead or test_check_says_everything"
	if [ -n "$long" ]; then
		quick=
		# What looks at the layers of the sandbox is not for a build that needs some of them weaker.
		faults='not test_at_most_thirty_system_calls and not test_workers_have_limits and not test_what_is_known_without_running'
		# Under valgrind, where nothing is fast: the same for every engine, and more configurations, starts, namespaces, commands.
		checked='test_transfer or test_half_close or test_reset or test_urgent or test_worker_killed or test_connect_fail or test_timeouts or'
		checked="$checked test_left_behind or test_max_connections or test_config or test_background or test_bad_file or test_known_traffic or"
		checked="$checked test_same_programs or test_made_anew_twice or test_filters_and_order or test_drain_and_resume or test_kill_resets or"
		checked="$checked test_rows_left_by_the_dead or test_caught_by_the_reporter"
	fi

	step "packages" packages
	step "copy of the tree" copy_tree
	step "build and install" build main
	step "unit tests, corpora" unit main
	step "lint" lint
	step "build with test hooks" build hooked --enable-test-hooks
	NSPROXY_HOOKS_PREFIX=$work/hooked/installed
	export NSPROXY_HOOKS_PREFIX
	step "functional tests" functional main functional
	step "functional tests, valgrind" memory "$checked"
	step "functional tests, rootless" rootless "$quick"
	step "build with sanitizers" build sanitized --enable-sanitizers
	step "unit tests, sanitized" unit sanitized
	step "functional tests, sanitized" functional sanitized sanitized "$faults"
	step "fuzzing" fuzz
	step "soak" soak
	step "distcheck" distcheck
	step "Debian package, systemd" debian
	step "compilers, policies, RPM" builds
	show_rows
	verdict
}

main "$@"
