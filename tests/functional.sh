#!/bin/sh
# SPDX-License-Identifier: ISC
# Runs the functional tests against the installation in NSPROXY_PREFIX. An ordinary user gets namespaces of its own for it, where the
# kernel allows that. NSPROXY_SELECT runs only those that match this expression (pytest -k).
skip()
{
	echo "SKIP $*"
	[ -n "$NSPROXY_MUST_WORK" ] && exit 1
	exit 77
}

pytest=${PYTEST:-pytest-3}
[ "$pytest" != no ] || skip "pytest is missing (apt-get install python3-pytest python3-pytest-timeout)"
enter=
if [ "$(id -u)" != 0 ]; then
	enter="unshare -Urnm"
	$enter true 2>/dev/null || skip "an ordinary user may not make namespaces here (unshare -Urnm fails)"
fi
report=${NSPROXY_REPORT:-${builddir:-.}/tests/report.xml}
mkdir -p "${report%/*}"
# pytest's own choice of a place would be that of root, whom an ordinary user is called in a namespace of his own.
place=$(mktemp -d) || skip "there is no place for temporary files"
trap 'rm -rf "$place"' EXIT
trap 'exit 1' HUP INT TERM
$enter "$pytest" -p no:cacheprovider --basetemp="$place/t" --junitxml="$report" -q "${srcdir:-.}/tests/functional" ${NSPROXY_SELECT:+-k "$NSPROXY_SELECT"}
status=$?
# 5: nothing was selected
[ "$status" = 5 ] && skip "no functional test was selected"
exit "$status"
