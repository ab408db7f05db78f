/* SPDX-License-Identifier: ISC */
/*
 * Addresses of any bytes: what is understood must survive every form it can take.
 * Runs in: any
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int truth)
{
	if (!truth)
		abort();
}

/* What came over a channel: any 24 bytes. */
static void
wire(const uint8_t *data, size_t size)
{
	struct wire_addr in, out;
	struct addr addr;
	char buf[ADDR_TEXT_MAX];

	if (size < sizeof(in))
		return;
	memcpy(&in, data, sizeof(in));
	require(strlen(addr_format_wire(&in, buf)) < ADDR_TEXT_MAX);
	if (addr_from_wire(&in, &addr) == -1)
		return;
	addr_format(&addr, buf);
	addr_to_wire(&addr, &out);
	require(addr_port(&addr) == out.port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), buf[ADDR_TEXT_MAX];
	struct addr_spec spec;
	struct addr addr, again;
	struct wire_addr on_wire;
	const char *why = NULL;

	require(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (addr_parse(text, &spec, &why) == -1) {
		require(why != NULL && why[0] != '\0');
	} else {
		require(spec.port_first <= spec.port_last && memchr(spec.host, '\0', sizeof(spec.host)) != NULL);
		if (addr_from_spec(&spec, &addr, &why) == 0) {
			require(addr.len > 0 && addr.len <= sizeof(addr.u) && addr_equal(&addr, &addr));
			require(strlen(addr_format(&addr, buf)) < ADDR_TEXT_MAX);
			addr_to_wire(&addr, &on_wire);
			require(addr_from_wire(&on_wire, &again) == 0);
			require(spec.is_unix || addr_equal(&addr, &again));
		}
	}
	free(text);
	wire(data, size);
	return 0;
}
