#!/bin/sh
# SPDX-License-Identifier: ISC
# Says which test tools configure did not find; the tests that need them are skipped.
if [ -z "$MISSING_TOOLS" ]; then
	echo "PASS all test tools are here"
	exit 0
fi
echo "missing test tools:$MISSING_TOOLS"
[ -n "$NSPROXY_MUST_WORK" ] && exit 1
exit 77
