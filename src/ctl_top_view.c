/* SPDX-License-Identifier: ISC */
/*
 * The tables of `nsproxyctl top`.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl_top_text.h"

#define NS_PER_S 1000000000.0
#define BYTES 1024.0
#define COUNTS 1000.0
#define GRAPH_CELLS 10u
#define BAR_CELLS 10u

#define ROW(type) const struct type *row = item->row
#define SHOW(name) static void name(const struct top_look *look, const struct top_item *item, char buf[TOP_CELL_MAX])
#define KEY(name) static double name(const struct top_look *look, const struct top_item *item)

static void
number(char *buf, double value, double step)
{
	top_text_number(buf, TOP_CELL_MAX, value, step);
}

/* ---- of every table -------------------------------------------------------------------------------------------------------- */
KEY(key_traffic)
{
	(void)look;
	return item->rate[TOP_UP] + item->rate[TOP_DOWN];
}

#define RATE(name, counter, step)                          \
	SHOW(show_##name)                                  \
	{                                                  \
		(void)look;                                \
		number(buf, item->rate[counter], step);    \
	}                                                  \
	KEY(key_##name)                                    \
	{                                                  \
		(void)look;                                \
		return item->rate[counter];                \
	}
RATE(up, TOP_UP, BYTES)
RATE(down, TOP_DOWN, BYTES)
RATE(taken, TOP_TAKEN, COUNTS)
RATE(failed, TOP_FAILED, COUNTS)

#define TOTAL(name, counter)                               \
	SHOW(show_##name)                                  \
	{                                                  \
		(void)look;                                \
		number(buf, (double)item->count[counter], BYTES); \
	}                                                  \
	KEY(key_##name)                                    \
	{                                                  \
		(void)look;                                \
		return (double)item->count[counter];       \
	}
TOTAL(all_up, TOP_UP)
TOTAL(all_down, TOP_DOWN)

SHOW(show_graph)
{
	top_text_graph(buf, TOP_CELL_MAX, item->history + TOP_HISTORY - GRAPH_CELLS, GRAPH_CELLS, look->utf8);
}

SHOW(show_bar)
{
	top_text_bar(buf, TOP_CELL_MAX, look->busiest > 0 ? key_traffic(look, item) / look->busiest : 0, BAR_CELLS, look->utf8);
}

/* ---- services -------------------------------------------------------------------------------------------------------------- */
SHOW(show_service)
{
	ROW(row_service);

	(void)look;
	top_text_printable(buf, TOP_CELL_MAX, row->service.name);
}

SHOW(show_service_state)
{
	static const struct {
		uint32_t flag;
		const char *text;
	} states[] = { { SERVICE_REMOVED, "removed" }, { SERVICE_DRAINED, "drained" }, { SERVICE_MISSING, "no netns" }, { SERVICE_PAUSED, "paused" } };
	ROW(row_service);
	const char *text = "serving";

	(void)look;
	for (size_t i = sizeof(states) / sizeof(states[0]); i-- > 0;)
		if (row->service.flags & states[i].flag)
			text = states[i].text;
	(void)snprintf(buf, TOP_CELL_MAX, "%s", text);
}

SHOW(show_service_engine)
{
	ROW(row_service);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%s", engine_name(row->service.engine));
}

KEY(key_service_open)
{
	ROW(row_service);

	(void)look;
	return (double)row->open;
}

SHOW(show_service_open)
{
	number(buf, key_service_open(look, item), COUNTS);
}

static const struct top_column service_columns[] = {
	{ "SERVICE", 12, 40, 0, false, show_service, NULL },
	{ "STATE", 8, 8, 0, false, show_service_state, NULL },
	{ "ENGINE", 8, 8, 100, false, show_service_engine, NULL },
	{ "OPEN", 5, 5, 0, true, show_service_open, key_service_open },
	{ "NEW/s", 5, 5, 0, true, show_taken, key_taken },
	{ "FAIL/s", 6, 6, 0, true, show_failed, key_failed },
	{ "UP/s", 5, 5, 0, true, show_up, key_up },
	{ "DOWN/s", 6, 6, 0, true, show_down, key_down },
	{ "UP", 5, 5, 110, true, show_all_up, key_all_up },
	{ "DOWN", 5, 5, 110, true, show_all_down, key_all_down },
	{ "TRAFFIC", GRAPH_CELLS, GRAPH_CELLS, 0, false, show_graph, key_traffic },
	{ "SHARE", BAR_CELLS, BAR_CELLS, 90, false, show_bar, key_traffic },
};

/* ---- workers --------------------------------------------------------------------------------------------------------------- */
KEY(key_worker)
{
	ROW(row_worker);

	(void)look;
	return -(double)row->worker.index;
}

SHOW(show_worker)
{
	ROW(row_worker);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%u", row->worker.index);
}

KEY(key_pid)
{
	ROW(row_worker);

	(void)look;
	return (double)row->worker.pid;
}

SHOW(show_pid)
{
	ROW(row_worker);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%u", row->worker.pid);
}

SHOW(show_pool)
{
	ROW(row_worker);

	(void)look;
	top_text_printable(buf, TOP_CELL_MAX, row->worker.pool[0] != '\0' ? row->worker.pool : "-");
}

SHOW(show_worker_state)
{
	ROW(row_worker);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%s", row->worker.flags & WORKER_LATE ? "late" : worker_show_name(row->worker.state));
}

KEY(key_worker_open)
{
	ROW(row_worker);

	(void)look;
	return (double)row->open;
}

SHOW(show_worker_open)
{
	number(buf, key_worker_open(look, item), COUNTS);
}

KEY(key_room)
{
	ROW(row_worker);

	(void)look;
	return row->max_conns == 0 ? 0 : (double)row->open / row->max_conns;
}

SHOW(show_room)
{
	(void)snprintf(buf, TOP_CELL_MAX, "%.0f%%", key_room(look, item) * 100);
}

KEY(key_worker_age)
{
	ROW(row_worker);
	const struct row_status *status = &look->data->answer.status;

	return status->now > row->worker.started ? (double)(status->now - row->worker.started) / NS_PER_S : 0;
}

SHOW(show_worker_age)
{
	top_text_age(buf, TOP_CELL_MAX, key_worker_age(look, item));
}

static const struct top_column worker_columns[] = {
	{ "WORKER", 6, 6, 0, true, show_worker, key_worker },
	{ "PID", 7, 7, 0, true, show_pid, key_pid },
	{ "NAMESPACE", 9, 40, 0, false, show_pool, NULL },
	{ "STATE", 8, 8, 0, false, show_worker_state, NULL },
	{ "OPEN", 5, 5, 0, true, show_worker_open, key_worker_open },
	{ "FULL", 4, 4, 0, true, show_room, key_room },
	{ "AGE", 6, 6, 90, true, show_worker_age, key_worker_age },
	{ "NEW/s", 5, 5, 0, true, show_taken, key_taken },
	{ "UP/s", 5, 5, 0, true, show_up, key_up },
	{ "DOWN/s", 6, 6, 0, true, show_down, key_down },
	{ "TRAFFIC", GRAPH_CELLS, GRAPH_CELLS, 0, false, show_graph, key_traffic },
	{ "SHARE", BAR_CELLS, BAR_CELLS, 100, false, show_bar, key_traffic },
};

/* ---- connections ----------------------------------------------------------------------------------------------------------- */
static const struct msg_names *
names_of(const struct top_look *look, const struct top_item *item)
{
	ROW(row_conn);

	return ctl_route(&look->data->answer, row->rec.route);
}

SHOW(show_conn_service)
{
	const struct msg_names *names = names_of(look, item);

	top_text_printable(buf, TOP_CELL_MAX, names != NULL ? names->service : "?");
}

/* An address as nsproxy.conf(5) writes it, its namespace where there is room for one. */
static void
show_address(const struct top_look *look, const char *netns, const struct wire_addr *addr, const char *unix_name, char buf[TOP_CELL_MAX])
{
	char text[ADDR_TEXT_MAX], named[TOP_CELL_MAX];

	if (addr->family == AF_UNIX)
		(void)snprintf(named, sizeof(named), "unix:%s", unix_name);
	else
		(void)snprintf(named, sizeof(named), "%.63s%s%s", look->wide ? netns : "", look->wide && netns[0] != '\0' ? "@" : "",
		    addr_format_wire(addr, text));
	top_text_printable(buf, TOP_CELL_MAX, named);
}

SHOW(show_client)
{
	const struct msg_names *names = names_of(look, item);
	ROW(row_conn);

	show_address(look, names != NULL ? names->public_netns : "", &row->rec.client, names != NULL ? names->listener_unix : "", buf);
}

SHOW(show_target)
{
	const struct msg_names *names = names_of(look, item);
	struct wire_addr target = { 0 };
	ROW(row_conn);

	if (names != NULL)
		target = names->target;
	target.port = (uint16_t)(target.port + row->rec.port_offset);
	show_address(look, names != NULL ? names->private_netns : "", &target, names != NULL ? names->target_unix : "", buf);
}

SHOW(show_conn_state)
{
	ROW(row_conn);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%s", record_state_name(record_state(&row->rec)));
}

SHOW(show_conn_engine)
{
	ROW(row_conn);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%s", engine_name(row->rec.engine));
}

KEY(key_conn_worker)
{
	ROW(row_conn);

	(void)look;
	return -(double)row->worker;
}

SHOW(show_conn_worker)
{
	ROW(row_conn);

	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%u", row->worker);
}

KEY(key_conn_age)
{
	uint64_t now = look->data->answer.status.now_mono;
	ROW(row_conn);

	return now > row->rec.begun ? (double)(now - row->rec.begun) / NS_PER_S : 0;
}

SHOW(show_conn_age)
{
	top_text_age(buf, TOP_CELL_MAX, key_conn_age(look, item));
}

SHOW(show_id)
{
	(void)look;
	(void)snprintf(buf, TOP_CELL_MAX, "%llu", (unsigned long long)item->id);
}

KEY(key_id)
{
	(void)look;
	return (double)item->id;
}

static const struct top_column conn_columns[] = {
	{ "ID", 8, 8, 110, true, show_id, key_id },
	{ "SERVICE", 8, 14, 0, false, show_conn_service, NULL },
	{ "CLIENT", 21, 48, 0, false, show_client, NULL },
	{ "TARGET", 19, 48, 0, false, show_target, NULL },
	{ "STATE", 11, 11, 96, false, show_conn_state, NULL },
	{ "WORKER", 6, 6, 120, true, show_conn_worker, key_conn_worker },
	{ "ENGINE", 8, 8, 130, false, show_conn_engine, NULL },
	{ "AGE", 6, 6, 0, true, show_conn_age, key_conn_age },
	{ "UP/s", 5, 5, 0, true, show_up, key_up },
	{ "DOWN/s", 6, 6, 0, true, show_down, key_down },
	{ "UP", 5, 5, 100, true, show_all_up, key_all_up },
	{ "DOWN", 5, 5, 100, true, show_all_down, key_all_down },
	{ "TRAFFIC", GRAPH_CELLS, GRAPH_CELLS, 90, false, show_graph, key_traffic },
};

static const struct {
	const char *name;
	const struct top_column *columns;
	unsigned n, sort;
} tables[TOP_KINDS] = {
	[TOP_SERVICES] = { "services", service_columns, sizeof(service_columns) / sizeof(service_columns[0]), 10 },
	[TOP_WORKERS] = { "workers", worker_columns, sizeof(worker_columns) / sizeof(worker_columns[0]), 0 },
	[TOP_CONNECTIONS] = { "connections", conn_columns, sizeof(conn_columns) / sizeof(conn_columns[0]), 12 },
};

const struct top_column *
top_columns(enum top_kind kind, unsigned *n)
{
	*n = tables[kind].n;
	return tables[kind].columns;
}

unsigned
top_first_sort(enum top_kind kind)
{
	return tables[kind].sort;
}

const char *
top_kind_name(enum top_kind kind)
{
	return tables[kind].name;
}

/* ---- filter and order ------------------------------------------------------------------------------------------------------ */
static int
by_choice(const void *a, const void *b)
{
	const struct top_entry *x = a, *y = b;
	int order = x->key > y->key ? -1 : x->key < y->key;

	if (order == 0)
		order = strcmp(x->text, y->text);
	if (x->reverse)
		order = -order;
	/* Whatever is equal keeps its place from one round to the next. */
	return order != 0 ? order : x->item->id < y->item->id ? -1 : x->item->id > y->item->id;
}

static bool
passes(const struct top_look *look, const struct top_item *item, enum top_kind kind, const char *filter)
{
	struct top_look whole = *look;
	char buf[TOP_CELL_MAX];

	if (filter[0] == '\0')
		return true;
	whole.wide = true;		/* what has no room on the screen can be looked for all the same */
	for (unsigned i = 0; i < tables[kind].n; i++) {
		if (tables[kind].columns[i].key == key_traffic)
			continue;	/* drawn, not written */
		tables[kind].columns[i].show(&whole, item, buf);
		if (strcasestr(buf, filter) != NULL)
			return true;
	}
	return false;
}

static double
busiest(const struct top_set *set)
{
	double most = 0;

	for (size_t i = 0; i < set->n; i++)
		if (set->items[i].rate[TOP_UP] + set->items[i].rate[TOP_DOWN] > most)
			most = set->items[i].rate[TOP_UP] + set->items[i].rate[TOP_DOWN];
	return most;
}

bool
top_list_make(struct top_list *list, const struct top_data *data, enum top_kind kind, const struct top_choice *choice, const char *filter,
    const struct top_look *look)
{
	const struct top_set *set = &data->sets[kind];
	const struct top_column *column = &tables[kind].columns[choice->sort];

	top_list_free(list);
	list->look = *look;
	list->look.data = data;
	list->look.busiest = busiest(set);
	list->entries = calloc(set->n + 1, sizeof(*list->entries));
	if (list->entries == NULL)
		return false;
	for (size_t i = 0; i < set->n; i++) {
		struct top_entry *entry = &list->entries[list->n];
		char buf[TOP_CELL_MAX];

		if (!passes(&list->look, &set->items[i], kind, filter))
			continue;
		*entry = (struct top_entry){ .item = &set->items[i], .reverse = choice->reverse };
		list->n++;
		if (column->key != NULL) {
			entry->key = column->key(&list->look, entry->item);
			continue;
		}
		column->show(&list->look, entry->item, buf);
		(void)snprintf(entry->text, sizeof(entry->text), "%.63s", buf);
	}
	qsort(list->entries, list->n, sizeof(*list->entries), by_choice);
	return true;
}

void
top_list_free(struct top_list *list)
{
	free(list->entries);
	*list = (struct top_list){ .n = 0 };
}
