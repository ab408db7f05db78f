/* SPDX-License-Identifier: ISC */
/*
 * What `nsproxyctl top` knows.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top_data.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000.0

#define END_TEXT(field) ((field)[sizeof(field) - 1] = '\0')

/* FNV-1a: a service is the same when its number and its name are. */
static uint64_t
hash_of(const char *text, uint64_t seed)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return hash;
}

static void
take_service(struct top_item *item, void *row)
{
	static const enum conn_end failures[] = { END_REFUSED, END_CONNECT_TIMEOUT, END_UNREACHABLE, END_CONNECT_FAILED, END_WORKER_LOST, END_ERROR };
	struct row_service *service = row;

	END_TEXT(service->service.name);
	item->id = hash_of(service->service.name, service->service.number);
	item->count[TOP_UP] = service->bytes[0];
	item->count[TOP_DOWN] = service->bytes[1];
	item->count[TOP_TAKEN] = service->taken;
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		item->count[TOP_FAILED] += service->ends[failures[i]];
}

static void
take_worker(struct top_item *item, void *row)
{
	struct row_worker *worker = row;

	END_TEXT(worker->worker.pool);
	item->id = (uint64_t)worker->worker.index << 32 | worker->worker.pid;
	item->count[TOP_UP] = worker->bytes[0];
	item->count[TOP_DOWN] = worker->bytes[1];
	item->count[TOP_TAKEN] = worker->taken;
}

static void
take_connection(struct top_item *item, void *row)
{
	const struct row_conn *conn = row;

	item->id = conn->rec.id;
	item->count[TOP_UP] = conn->rec.bytes[0];
	item->count[TOP_DOWN] = conn->rec.bytes[1];
}

static int
by_id(const void *a, const void *b)
{
	uint64_t x = ((const struct top_item *)a)->id, y = ((const struct top_item *)b)->id;

	return x < y ? -1 : x > y;
}

static bool
make_set(struct top_set *set, void *rows, size_t n, size_t row_size, void (*take)(struct top_item *item, void *row))
{
	if (n == 0)
		return true;
	set->items = calloc(n, sizeof(*set->items));
	if (set->items == NULL)
		return false;
	for (set->n = 0; set->n < n; set->n++) {
		set->items[set->n].row = (char *)rows + set->n * row_size;
		take(&set->items[set->n], (char *)rows + set->n * row_size);
	}
	qsort(set->items, n, sizeof(*set->items), by_id);
	return true;
}

/* One more sample for what was there before; a counter that went back began anew. */
static void
advance(struct top_item *item, const struct top_item *before, double seconds)
{
	for (int i = 0; i < TOP_COUNTERS; i++)
		if (item->count[i] >= before->count[i])
			item->rate[i] = (double)(item->count[i] - before->count[i]) / seconds;
	memcpy(item->history, before->history + 1, sizeof(item->history) - sizeof(item->history[0]));
	item->history[TOP_HISTORY - 1] = (float)(item->rate[TOP_UP] + item->rate[TOP_DOWN]);
}

/* A connection that began since the round before has moved since then what it ever has. */
static void
begin(struct top_item *item, uint64_t then, double seconds)
{
	const struct row_conn *conn = item->row;

	if (conn->rec.begun < then)
		return;
	item->rate[TOP_UP] = (double)item->count[TOP_UP] / seconds;
	item->rate[TOP_DOWN] = (double)item->count[TOP_DOWN] / seconds;
	item->history[TOP_HISTORY - 1] = (float)(item->rate[TOP_UP] + item->rate[TOP_DOWN]);
}

static void
compare_sets(const struct top_set *before, struct top_set *set, bool connections, uint64_t then, double seconds)
{
	size_t at = 0;

	for (size_t i = 0; i < set->n; i++) {
		struct top_item *item = &set->items[i];

		while (at < before->n && before->items[at].id < item->id)
			at++;
		if (at < before->n && before->items[at].id == item->id)
			advance(item, &before->items[at], seconds);
		else if (connections)
			begin(item, then, seconds);
	}
}

static void
compare(const struct top_data *before, struct top_data *data)
{
	uint64_t then = before->answer.status.now_mono, now = data->answer.status.now_mono;

	/* A daemon that was started anew has nothing in common with the one before but its address. */
	if (before->rounds == 0 || now <= then || before->answer.status.parent.started != data->answer.status.parent.started)
		return;
	data->seconds = (double)(now - then) / NS_PER_S;
	advance(&data->total, &before->total, data->seconds);
	for (int kind = 0; kind < TOP_KINDS; kind++)
		compare_sets(&before->sets[kind], &data->sets[kind], kind == TOP_CONNECTIONS, then, data->seconds);
}

static int
by_number(const void *a, const void *b)
{
	uint32_t x = ((const struct msg_names *)a)->route, y = ((const struct msg_names *)b)->route;

	return x < y ? -1 : x > y;
}

/* As ctl_ask() leaves them: to be found by their numbers, of which a round of several answers has some twice. */
static void
sort_routes(struct ctl_answer *answer)
{
	if (answer->n_routes > 1)
		qsort(answer->routes, answer->n_routes, sizeof(answer->routes[0]), by_number);
}

static void
end_texts(struct ctl_answer *answer)
{
	END_TEXT(answer->status.parent.version);
	END_TEXT(answer->status.parent.file);
	for (size_t i = 0; i < answer->n_routes; i++) {
		END_TEXT(answer->routes[i].service);
		END_TEXT(answer->routes[i].public_netns);
		END_TEXT(answer->routes[i].private_netns);
		END_TEXT(answer->routes[i].listener_unix);
		END_TEXT(answer->routes[i].target_unix);
	}
}

static void
free_sets(struct top_data *data)
{
	for (int kind = 0; kind < TOP_KINDS; kind++)
		free(data->sets[kind].items);
}

bool
top_data_take(struct top_data *data, struct ctl_answer *answer)
{
	struct top_data next = { .rounds = data->rounds + 1 };

	end_texts(answer);
	sort_routes(answer);
	if (!make_set(&next.sets[TOP_SERVICES], answer->services, answer->n_services, sizeof(answer->services[0]), take_service) ||
	    !make_set(&next.sets[TOP_WORKERS], answer->workers, answer->n_workers, sizeof(answer->workers[0]), take_worker) ||
	    !make_set(&next.sets[TOP_CONNECTIONS], answer->conns, answer->n_conns, sizeof(answer->conns[0]), take_connection)) {
		free_sets(&next);
		return false;
	}
	next.answer = *answer;
	*answer = (struct ctl_answer){ .has_status = false };
	next.total.count[TOP_UP] = next.answer.status.bytes[0];
	next.total.count[TOP_DOWN] = next.answer.status.bytes[1];
	next.total.count[TOP_TAKEN] = next.answer.status.taken;
	for (size_t i = 0; i < next.sets[TOP_SERVICES].n; i++)
		next.total.count[TOP_FAILED] += next.sets[TOP_SERVICES].items[i].count[TOP_FAILED];
	compare(data, &next);
	top_data_free(data);
	*data = next;
	return true;
}

void
top_data_free(struct top_data *data)
{
	free_sets(data);
	ctl_answer_free(&data->answer);
	*data = (struct top_data){ .rounds = 0 };
}
