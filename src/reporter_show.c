/* SPDX-License-Identifier: ISC */
/*
 * Answers to nsproxyctl.
 * Runs in: reporter
 *
 * Theory of operation: each verb is a list of stages. A stage puts items of one type into the message that goes next, remembers where it was, and says
 * whether it is through; it never sends. show_step() calls stages and sends messages until the channel is full, or as many rows were looked at and
 * messages sent as one turn of the loop may have. Rows are read as they are at that moment: an answer is no snapshot of all connections at once, but
 * each row is of one moment. Nothing that a worker wrote is used as an index before it is compared with what the parent said.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_show.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* For one client in one turn: about a tenth of a millisecond. */
#define ROWS_PER_TURN 2048u
#define MESSAGES_PER_TURN 16u

/* False: through. True: there may be more, and the message has items or the budget is spent. */
typedef bool show_stage(struct show *show);

/* Room for one more item of the message's type; NULL: it is full. */
static void *
put(struct show *show, enum msg_type type)
{
	const struct msg_row *row = msg_row(type);
	void *item;

	if (show->count > 0 && (show->type != type || show->count == row->most))
		return NULL;
	show->type = type;
	item = show->items + (size_t)show->count++ * row->item_size;
	memset(item, 0, row->item_size);
	return item;
}

static bool
wants_service(const struct show *show, const char *name)
{
	return show->ask.service[0] == '\0' || strncmp(show->ask.service, name, sizeof(show->ask.service)) == 0;
}

/* A counter of a worker, which may write anything: what is absurd counts as 0. */
static uint64_t
count_of(const _Atomic uint64_t *counter)
{
	uint64_t n = sb_get(counter);

	return n <= SB_COUNT_MOST ? n : 0;
}

/* ---- status, services ----------------------------------------------------------------------------------------------------------------- */

static void
add_service(struct row_service *row, const struct sb_service *service)
{
	row->taken += count_of(&service->taken);
	row->finished += count_of(&service->finished);
	row->bytes[0] += count_of(&service->bytes[0]);
	row->bytes[1] += count_of(&service->bytes[1]);
	for (int i = 0; i < CONN_ENDS_COUNT; i++)
		row->ends[i] += count_of(&service->ends[i]);
}

/* Workers that are gone, and those that live. */
static void
sum_service(const struct show_source *source, uint32_t number, struct row_service *row)
{
	const struct totals_sums *sums = source->totals->gone != NULL ? totals_sums(source->totals) : NULL;

	if (sums != NULL && number < TOTALS_SERVICES)
		add_service(row, &sums->services[number].sums);
	for (uint32_t i = 0; i < source->workers->max; i++) {
		const struct scoreboard *board = &source->workers->table[i].board;
		uint64_t taken, finished;

		if (board->map == NULL || number >= board->n_services)
			continue;
		add_service(row, &board->services[number]);
		taken = count_of(&board->services[number].taken);
		finished = count_of(&board->services[number].finished);
		row->open += taken > finished ? taken - finished : 0;
	}
}

/* Looking at a service costs as much as looking at so many rows. */
static void
spend(struct show *show, uint32_t rows)
{
	show->budget -= rows < show->budget ? rows : show->budget;
}

static bool
put_services(struct show *show)
{
	const struct known *known = show->source->known;

	for (; show->row < known->n_services; show->row++) {
		const struct msg_service *service = &known->services[show->row];
		struct row_service *row, sums = { .service = *service };

		if (service->name[0] == '\0' || !wants_service(show, service->name))
			continue;
		if (show->budget == 0)
			return true;
		spend(show, show->source->workers->max + 1);
		sum_service(show->source, show->row, &sums);
		if ((service->flags & SERVICE_REMOVED) && sums.open == 0)
			continue;
		row = put(show, MSG_ROW_SERVICE);
		if (row == NULL)
			return true;
		*row = sums;
	}
	return false;
}

static bool
put_routes(struct show *show)
{
	const struct known *known = show->source->known;

	for (; show->row < known->n_routes; show->row++) {
		const struct known_route *route = &known->routes[show->row];
		struct msg_names *names;

		if (show->budget == 0)
			return true;
		spend(show, 1);
		if (route->texts == NULL || !wants_service(show, route->texts))
			continue;
		names = put(show, MSG_ROW_ROUTE);
		if (names == NULL)
			return true;
		(void)known_get_route(known, show->row, names);
	}
	return false;
}

/* Sums over all services, as far as the budget goes. */
static bool
gather_status(struct show *show)
{
	const struct known *known = show->source->known;

	for (; show->row < known->n_services; show->row++) {
		struct row_service sums = { .open = 0 };
		uint32_t flags = known->services[show->row].flags;

		if (show->budget == 0)
			return true;
		if (known->services[show->row].name[0] == '\0')
			continue;
		spend(show, show->source->workers->max + 1);
		sum_service(show->source, show->row, &sums);
		show->status.services += !(flags & SERVICE_REMOVED);
		show->status.drained += (flags & SERVICE_DRAINED) != 0;
		show->status.open += sums.open;
		show->status.taken += sums.taken;
		show->status.finished += sums.finished;
		show->status.bytes[0] += sums.bytes[0];
		show->status.bytes[1] += sums.bytes[1];
	}
	return false;
}

static bool
put_status(struct show *show)
{
	const struct show_source *source = show->source;
	struct row_status *row = put(show, MSG_ROW_STATUS);

	*row = show->status;
	row->parent = source->known->parent;
	row->now = loop_realtime();
	row->now_mono = loop_clock();
	row->reporter_pid = source->known->pid;
	if (source->totals->gone != NULL)
		row->dropped = totals_sums(source->totals)->dropped + sb_get(&source->totals->gone->lines_lost);
	for (uint32_t i = 0; i < source->workers->max; i++) {
		const struct reporter_worker *worker = &source->workers->table[i];

		if (!worker->present || worker->board.map == NULL)
			continue;
		row->dropped += count_of(&worker->board.head->dropped);
		row->workers += source->known->workers[i].state == SHOW_SERVING && source->known->workers[i].pid == worker->pid;
	}
	return false;
}

/* ---- workers, privileges -------------------------------------------------------------------------------------------------------------- */

static void
fill_worker(const struct show_source *source, uint32_t i, struct row_worker *row)
{
	const struct scoreboard *board = &source->workers->table[i].board;

	row->worker = source->known->workers[i];
	row->max_conns = board->max_conns;
	row->taken = count_of(&board->head->taken);
	row->finished = count_of(&board->head->finished);
	row->open = row->taken > row->finished ? row->taken - row->finished : 0;
	row->dropped = count_of(&board->head->dropped);
	row->turns = sb_get(&board->head->turns);
	row->pipes_used = sb_get(&board->head->pipes_used);
	for (uint32_t s = 0; s < board->n_services; s++) {
		row->bytes[0] += count_of(&board->services[s].bytes[0]);
		row->bytes[1] += count_of(&board->services[s].bytes[1]);
	}
}

/* Is there one, whose state the parent has told? */
static bool
shows_worker(const struct show *show, uint32_t i)
{
	const struct reporter_worker *worker = &show->source->workers->table[i];

	return worker->present && worker->board.map != NULL && show->source->known->workers[i].pid == worker->pid &&
	    (show->ask.worker == CTL_ANY || show->ask.worker == i);
}

static bool
put_workers(struct show *show)
{
	for (; show->row < show->source->workers->max; show->row++) {
		struct row_worker *row;

		if (!shows_worker(show, show->row))
			continue;
		row = put(show, MSG_ROW_WORKER);
		if (row == NULL)
			return true;
		fill_worker(show->source, show->row, row);
	}
	return false;
}

static bool
put_parent_process(struct show *show)
{
	const struct msg_parent *parent = &show->source->known->parent;
	struct row_process *row = put(show, MSG_ROW_PROCESS);

	if (row == NULL)
		return true;
	*row = (struct row_process){ .role = PROCESS_PARENT, .pid = parent->pid, .uid = parent->uid, .gid = parent->gid, .layers = parent->layers,
		.permitted = parent->permitted, .effective = parent->effective, .bounding = parent->bounding, .netns = parent->netns,
		.syscalls = parent->syscalls, .syscalls_checked = parent->syscalls_checked };
	return false;
}

static void
fill_layers(struct row_process *row, const struct msg_ready *ready)
{
	row->layers = ready->layers;
	row->landlock_abi = ready->landlock_abi;
	row->syscalls = ready->syscalls;
	row->syscalls_checked = ready->syscalls_checked;
	row->engines = ready->engines;
	memcpy(row->why, ready->why, sizeof(row->why));
}

/* Workers and reporter hold no capability: they would not have started. */
static bool
put_reporter_process(struct show *show)
{
	struct row_process *row = put(show, MSG_ROW_PROCESS);

	if (row == NULL)
		return true;
	row->role = PROCESS_REPORTER;
	row->pid = show->source->known->pid;
	row->uid = show->source->known->uid;
	row->gid = show->source->known->gid;
	fill_layers(row, &show->source->known->own);
	return false;
}

static bool
put_worker_processes(struct show *show)
{
	for (; show->row < show->source->workers->max; show->row++) {
		const struct msg_worker_state *worker = &show->source->known->workers[show->row];
		struct row_process *row;

		if (!shows_worker(show, show->row))
			continue;
		row = put(show, MSG_ROW_PROCESS);
		if (row == NULL)
			return true;
		*row = (struct row_process){ .role = PROCESS_WORKER, .index = worker->index, .pid = worker->pid, .uid = worker->uid,
			.gid = worker->gid, .netns = worker->netns };
		memcpy(row->place, worker->pool, sizeof(row->place));
		fill_layers(row, &worker->ready);
	}
	return false;
}

/* ---- connections ---------------------------------------------------------------------------------------------------------------------- */

/* Do the first bits of both agree? */
static bool
same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8) == 0;
}

static bool
wants_client(const struct msg_ask *ask, const struct wire_addr *client)
{
	unsigned most = ask->client.family == AF_INET ? 32 : 128;

	if (ask->client.family == 0)
		return true;
	return client->family == ask->client.family && (ask->client.port == 0 || ask->client.port == client->port) &&
	    same_bits(client->bytes, ask->client.bytes, ask->client_bits < most ? ask->client_bits : most);
}

static bool
wants_record(const struct show *show, const struct conn_record *rec)
{
	const struct msg_ask *ask = &show->ask;
	const struct known *known = show->source->known;

	if (ask->id != 0 && ask->id != rec->id)
		return false;
	if (ask->state != CTL_ANY ? ask->state != record_state(rec) : rec->end != END_NONE)
		return false;
	if (ask->engine != CTL_ANY && ask->engine != rec->engine)
		return false;
	if (ask->service[0] != '\0' &&
	    (rec->route >= known->n_routes || known->routes[rec->route].texts == NULL || !wants_service(show, known->routes[rec->route].texts)))
		return false;
	return wants_client(ask, &rec->client);
}

/* The route's names go first. False: the message with other rows must be sent before them. */
static bool
announce(struct show *show, uint32_t route)
{
	struct msg_names names, *item;

	if (route >= show->source->known->n_routes || (show->announced[route / 8] & 1u << route % 8))
		return true;
	if (!known_get_route(show->source->known, route, &names))
		return true;
	item = put(show, MSG_ROW_ROUTE);
	if (item != NULL) {
		*item = names;
		show->announced[route / 8] |= (uint8_t)(1u << route % 8);
	}
	return false;
}

/* False: the message is full, this row comes again. */
static bool
put_conn(struct show *show, const struct conn_record *rec)
{
	struct row_conn *row;

	if (!announce(show, rec->route))
		return false;
	row = put(show, MSG_ROW_CONN);
	if (row == NULL)
		return false;
	row->rec = *rec;
	row->worker = show->worker;
	row->slot = show->row;
	return true;
}

/* Goes over the rows of all workers that are wanted, as long as there is budget; `take` says false when this row must come again. */
static bool
walk(struct show *show, bool (*take)(struct show *show, const struct conn_record *rec))
{
	for (; show->worker < show->source->workers->max; show->worker++, show->row = 0) {
		const struct reporter_worker *worker = &show->source->workers->table[show->worker];
		uint32_t n = worker->present ? scoreboard_rows(&worker->board) : 0;

		if (show->ask.worker != CTL_ANY && show->ask.worker != show->worker)
			continue;
		for (; show->row < n; show->row++) {
			struct conn_record rec;

			if (show->budget == 0)
				return true;
			show->budget--;
			if (scoreboard_read_row(&worker->board, show->row, &rec) == 1 && wants_record(show, &rec) && !take(show, &rec))
				return true;
		}
	}
	return false;
}

static bool
put_conns(struct show *show)
{
	if (show->announced == NULL)
		show->announced = calloc(1, show->source->known->n_routes / 8 + 1);
	if (show->announced != NULL)
		return walk(show, put_conn);
	show->end = (struct msg_end){ .code = CTL_REFUSED, .text = "the reporter has no memory for this answer" };
	return false;
}

static bool
take_found(struct show *show, const struct conn_record *rec)
{
	(void)rec;
	show->found = true;
	return false;
}

static bool
find_conn(struct show *show)
{
	return !show->found && walk(show, take_found) && !show->found;
}

/* ---- stages --------------------------------------------------------------------------------------------------------------------------- */

static bool
put_text(struct show *show)
{
	size_t left = show->text->size - show->text_at;
	struct row_text *row;

	if (left == 0)
		return false;
	row = put(show, MSG_ROW_TEXT);
	if (row == NULL)
		return true;
	row->size = (uint32_t)(left < sizeof(row->text) ? left : sizeof(row->text));
	memcpy(row->text, show->text->text + show->text_at, row->size);
	show->text_at += row->size;
	return show->text_at < show->text->size;
}

static bool
put_end(struct show *show)
{
	struct msg_end *end = put(show, MSG_END);

	if (end == NULL)
		return true;
	*end = show->end;
	return false;
}

#define STAGES_MOST 5
static show_stage *const stages[CTL_VERBS_COUNT][STAGES_MOST] = {
	[CTL_STATUS] = { gather_status, put_status, put_end },
	[CTL_SERVICES] = { gather_status, put_status, put_services, put_routes, put_end },
	[CTL_WORKERS] = { gather_status, put_status, put_workers, put_end },
	[CTL_CONNECTIONS] = { gather_status, put_status, put_conns, put_end },
	[CTL_PRIVILEGES] = { put_parent_process, put_worker_processes, put_reporter_process, put_end },
	[CTL_METRICS] = { put_text, put_end },
	/* These two only look for something, or say how it went. */
	[CTL_KILL] = { find_conn },
	[CTL_LOG_LEVEL] = { put_end },
};

static void
begin(struct show *show, const struct show_source *source)
{
	show_free(show);
	show->source = source;
	show->stage = show->worker = show->row = 0;
	show->count = 0;
	show->found = false;
	show->status = (struct row_status){ .now = 0 };
	show->end = (struct msg_end){ .code = CTL_DONE };
}

void
show_begin(struct show *show, const struct show_source *source, const struct msg_ask *ask)
{
	begin(show, source);
	show->ask = *ask;
}

void
show_begin_find(struct show *show, const struct show_source *source, const struct msg_ask *ask)
{
	begin(show, source);
	show->ask = (struct msg_ask){ .verb = CTL_KILL, .worker = CTL_ANY, .state = CTL_ANY, .engine = CTL_ANY, .id = ask->id };
}

void
show_begin_end(struct show *show, const struct show_source *source, enum ctl_code code, const char *fmt, ...)
{
	va_list args;

	begin(show, source);
	show->ask = (struct msg_ask){ .verb = CTL_LOG_LEVEL };
	show->end.code = code;
	va_start(args, fmt);
	(void)vsnprintf(show->end.text, sizeof(show->end.text), fmt, args);
	va_end(args);
}

/* Calls stages until there is something to send, the budget is spent, or all are through. */
static void
produce(struct show *show)
{
	show_stage *const *list = stages[show->ask.verb];

	while (show->count == 0 && show->budget > 0 && show->stage < STAGES_MOST && list[show->stage] != NULL) {
		if (list[show->stage](show))
			continue;
		if (show->found)
			return;
		show->stage++;
		show->worker = show->row = 0;
	}
}

static bool
is_through(const struct show *show)
{
	return show->found || show->stage == STAGES_MOST || stages[show->ask.verb][show->stage] == NULL;
}

enum show_result
show_step(struct show *show, struct chan *chan)
{
	show->budget = ROWS_PER_TURN;
	for (unsigned i = 0; i < MESSAGES_PER_TURN && show->budget > 0; i++) {
		if (show->count == 0)
			produce(show);
		if (show->count == 0)
			return is_through(show) ? SHOW_DONE : SHOW_MORE;
		if (chan_send(chan, show->type, show->items, show->count, NULL, 0) == -1)
			return errno == EPIPE || errno == ECONNRESET ? SHOW_BROKEN : SHOW_BLOCKED;
		show->count = 0;
		if (is_through(show))
			return SHOW_DONE;
	}
	return SHOW_MORE;
}

void
show_free(struct show *show)
{
	free(show->announced);
	doc_drop(show->text);
	show->announced = NULL;
	show->text = NULL;
	show->text_at = 0;
}
