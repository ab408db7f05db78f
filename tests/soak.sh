#!/bin/sh
# SPDX-License-Identifier: ISC
# Mixed traffic with faults at random, every byte checked: soak.sh [MINUTES [SEED]], a minute by default. Tests the installation in NSPROXY_PREFIX
# (default /usr/local). An ordinary user gets namespaces of its own for it, where the kernel allows that. The last line says what passed and failed.
here=$(cd "$(dirname "$0")" && pwd)
enter=
if [ "$(id -u)" != 0 ]; then
	enter="unshare -Urnm"
	if ! $enter true 2>/dev/null; then
		echo "SKIP soak: an ordinary user may not make namespaces here (unshare -Urnm fails)"
		[ -n "$NSPROXY_MUST_WORK" ] && exit 1
		exit 77
	fi
fi
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
exec $enter "${PYTHON:-python3}" "$here/soak.py" "$@"
