/* SPDX-License-Identifier: ISC */
/*
 * The connections of an answer, with their rates, in order.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_conns.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1e9

static int
compare_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int
by_id(const void *a, const void *b)
{
	return compare_u64(((const struct ctl_conn *)a)->row->rec.id, ((const struct ctl_conn *)b)->row->rec.id);
}

static int
by_age(const void *a, const void *b)
{
	int r = compare_u64(((const struct ctl_conn *)a)->row->rec.begun, ((const struct ctl_conn *)b)->row->rec.begun);

	return r != 0 ? r : by_id(a, b);
}

static uint64_t
bytes_of(const void *conn, bool up, bool down)
{
	const uint64_t *bytes = ((const struct ctl_conn *)conn)->row->rec.bytes;

	return (up ? bytes[0] : 0) + (down ? bytes[1] : 0);
}

static int
by_bytes(const void *a, const void *b)
{
	int r = compare_u64(bytes_of(b, true, true), bytes_of(a, true, true));

	return r != 0 ? r : by_id(a, b);
}

static int
by_up(const void *a, const void *b)
{
	int r = compare_u64(bytes_of(b, true, false), bytes_of(a, true, false));

	return r != 0 ? r : by_id(a, b);
}

static int
by_down(const void *a, const void *b)
{
	int r = compare_u64(bytes_of(b, false, true), bytes_of(a, false, true));

	return r != 0 ? r : by_id(a, b);
}

static int
by_rate(const void *a, const void *b)
{
	const struct ctl_conn *x = a, *y = b;
	double rx = x->rates[0] + x->rates[1], ry = y->rates[0] + y->rates[1];

	return rx > ry ? -1 : rx < ry ? 1 : by_id(a, b);
}

static int
by_service(const void *a, const void *b)
{
	const struct ctl_conn *x = a, *y = b;
	int r = strcmp(x->names != NULL ? x->names->service : "", y->names != NULL ? y->names->service : "");

	return r != 0 ? r : by_id(a, b);
}

static int
by_worker(const void *a, const void *b)
{
	int r = compare_u64(((const struct ctl_conn *)a)->row->worker, ((const struct ctl_conn *)b)->row->worker);

	return r != 0 ? r : by_id(a, b);
}

static int
by_client(const void *a, const void *b)
{
	const struct wire_addr *x = &((const struct ctl_conn *)a)->row->rec.client, *y = &((const struct ctl_conn *)b)->row->rec.client;
	int r = x->family != y->family ? (int)x->family - (int)y->family : memcmp(x->bytes, y->bytes, sizeof(x->bytes));

	return r != 0 ? r : x->port != y->port ? (int)x->port - (int)y->port : by_id(a, b);
}

static int
by_state(const void *a, const void *b)
{
	int r = (int)record_state(&((const struct ctl_conn *)a)->row->rec) - (int)record_state(&((const struct ctl_conn *)b)->row->rec);

	return r != 0 ? r : by_id(a, b);
}

const char *const ctl_sort_names[] = { "id", "age", "service", "worker", "client", "state", "bytes", "up", "down", "rate", NULL };
static int (*const orders[])(const void *a, const void *b) = { by_id, by_age, by_service, by_worker, by_client, by_state, by_bytes, by_up, by_down,
	by_rate };
_Static_assert(sizeof(orders) / sizeof(orders[0]) == sizeof(ctl_sort_names) / sizeof(ctl_sort_names[0]) - 1, "each name has its order");

int
ctl_sort_by_name(const char *name)
{
	for (int i = 0; ctl_sort_names[i] != NULL; i++) {
		if (strcmp(ctl_sort_names[i], name) == 0)
			return i;
	}
	return -1;
}

static int
make(struct ctl_conns *conns, const struct ctl_answer *answer)
{
	conns->list = calloc(answer->n_conns > 0 ? answer->n_conns : 1, sizeof(*conns->list));
	if (conns->list == NULL)
		return -1;
	conns->n = answer->n_conns;
	for (size_t i = 0; i < conns->n; i++)
		conns->list[i] = (struct ctl_conn){ .row = &answer->conns[i], .names = ctl_route(answer, answer->conns[i].rec.route),
			.rates = { -1, -1 } };
	return 0;
}

/* One that is new since then has moved all its bytes meanwhile. */
static void
rate(struct ctl_conn *conn, const struct ctl_conn *was, double seconds)
{
	for (int d = 0; d < 2 && seconds > 0; d++) {
		uint64_t now = conn->row->rec.bytes[d], before = was != NULL ? was->row->rec.bytes[d] : 0;

		conn->rates[d] = now > before ? (double)(now - before) / seconds : 0;
	}
}

int
ctl_conns_make(struct ctl_conns *conns, const struct ctl_answer *answer, const struct ctl_answer *before)
{
	struct ctl_conns old = { NULL, 0, false };
	double seconds;

	*conns = (struct ctl_conns){ NULL, 0, before != NULL };
	if (make(conns, answer) == -1)
		return -1;
	if (before == NULL)
		return 0;
	if (make(&old, before) == -1) {
		ctl_conns_free(conns);
		return -1;
	}
	seconds = (double)(answer->status.now_mono - before->status.now_mono) / NS_PER_S;
	ctl_conns_sort(&old, 0);
	for (size_t i = 0; i < conns->n; i++)
		rate(&conns->list[i], bsearch(&conns->list[i], old.list, old.n, sizeof(*old.list), by_id), seconds);
	ctl_conns_free(&old);
	return 0;
}

void
ctl_conns_sort(struct ctl_conns *conns, int sort)
{
	if (conns->n > 0)
		qsort(conns->list, conns->n, sizeof(*conns->list), orders[sort]);
}

void
ctl_conns_free(struct ctl_conns *conns)
{
	free(conns->list);
	conns->list = NULL;
	conns->n = 0;
}
