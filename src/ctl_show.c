/* SPDX-License-Identifier: ISC */
/*
 * Answers as tables for people.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_show.h"

#include <string.h>

#include "ctl_table.h"
#include "ctl_text.h"
#include "log.h"
#include "sandbox_layer.h"

static uint64_t
since(uint64_t from, uint64_t now)
{
	return now > from ? now - from : 0;
}

int
ctl_show_status(const struct ctl_view *view, FILE *out)
{
	const struct row_status *s = &view->answer->status;
	const struct msg_parent *p = &s->parent;
	char a[32], b[32];

	(void)fprintf(out, "nsproxy %.*s, process %u, for %s (since %s)\n", (int)sizeof(p->version), p->version, p->pid,
	    ctl_text_span(since(p->started, s->now), a), ctl_text_time(p->started, b));
	(void)fprintf(out, "configuration   %.*s", (int)sizeof(p->file), p->file[0] != '\0' ? p->file : "command line");
	if (p->reloads + p->upgrades > 0)
		(void)fprintf(out, ", read %s ago", ctl_text_span(since(p->loaded, s->now), a));
	(void)fprintf(out, "\nreloads         %u, upgrades %u\n", p->reloads, p->upgrades);
	(void)fprintf(out, "log level       %s\n", log_level_name((enum log_level)p->log_level));
	(void)fprintf(out, "services        %u, drained %u\n", s->services, s->drained);
	(void)fprintf(out, "workers         %u of %u serve\n", s->workers, p->workers);
	(void)fprintf(out, "connections     %llu open, %llu taken, %llu finished\n", (unsigned long long)s->open, (unsigned long long)s->taken,
	    (unsigned long long)s->finished);
	(void)fprintf(out, "delivered       %s up, %s down\n", ctl_text_bytes((double)s->bytes[0], a), ctl_text_bytes((double)s->bytes[1], b));
	if (s->dropped > 0)
		(void)fprintf(out, "lost            %llu records or log lines\n", (unsigned long long)s->dropped);
	return 0;
}

/* The routes of a service: where it listens, all of them; and where it connects to. */
static void
ends_of(const struct ctl_answer *answer, uint32_t service, char *listeners, size_t size, char target[CTL_ADDR_MAX])
{
	char buf[CTL_ADDR_MAX];
	size_t used = 0, left_out = 0;

	listeners[0] = target[0] = '\0';
	for (size_t i = 0; i < answer->n_routes; i++) {
		const struct msg_names *names = &answer->routes[i];

		if (names->service_number != service)
			continue;
		(void)ctl_text_target(names, target);
		(void)ctl_text_listener(names, buf);
		if (used + strlen(buf) + 3 >= size || used > 80) {
			left_out++;
			continue;
		}
		used += (size_t)snprintf(listeners + used, size - used, "%s%s", used > 0 ? "," : "", buf);
	}
	if (left_out > 0)
		(void)snprintf(listeners + used, size - used, ",...%zu more", left_out);
}

int
ctl_show_services(const struct ctl_view *view, FILE *out)
{
	static const char *const heads[] = { "SERVICE", "STATE", "OPEN", "TAKEN", "UP", "DOWN", "ENGINE", "LISTENERS", "TARGET" };
	static const bool right[] = { false, false, true, true, true, true, false, false, false };
	const struct ctl_answer *answer = view->answer;
	struct ctl_table table;

	ctl_table_begin(&table, heads, right, sizeof(right) / sizeof(right[0]));
	for (size_t i = 0; i < answer->n_services; i++) {
		const struct row_service *row = &answer->services[i];
		char listeners[CTL_ADDR_MAX + 128], target[CTL_ADDR_MAX], name[ROUTE_SERVICE_MAX], a[32];

		(void)snprintf(name, sizeof(name), "%.*s", (int)sizeof(name) - 1, row->service.name);
		ends_of(answer, row->service.number, listeners, sizeof(listeners), target);
		ctl_table_add(&table, "%s", ctl_text_tame(name));
		ctl_table_add(&table, "%s", ctl_text_service_state(row));
		ctl_table_add(&table, "%llu", (unsigned long long)row->open);
		ctl_table_add(&table, "%llu", (unsigned long long)row->taken);
		ctl_table_add(&table, "%s", ctl_text_bytes((double)row->bytes[0], a));
		ctl_table_add(&table, "%s", ctl_text_bytes((double)row->bytes[1], a));
		ctl_table_add(&table, "%s", engine_name(row->service.engine));
		ctl_table_add(&table, "%s", listeners);
		ctl_table_add(&table, "%s", target);
	}
	return ctl_table_end(&table, out);
}

int
ctl_show_workers(const struct ctl_view *view, FILE *out)
{
	static const char *const heads[] = { "WORKER", "PID", "STATE", "NAMESPACE", "OPEN", "ROOM", "TAKEN", "UP", "DOWN", "FOR" };
	static const bool right[] = { true, true, false, false, true, true, true, true, true, true };
	struct ctl_table table;

	ctl_table_begin(&table, heads, right, sizeof(right) / sizeof(right[0]));
	for (size_t i = 0; i < view->answer->n_workers; i++) {
		const struct row_worker *row = &view->answer->workers[i];
		char pool[256], a[32];

		(void)snprintf(pool, sizeof(pool), "%.*s", (int)sizeof(pool) - 1, row->worker.pool);
		ctl_table_add(&table, "%u", row->worker.index);
		ctl_table_add(&table, "%u", row->worker.pid);
		ctl_table_add(&table, "%s", row->worker.flags & WORKER_LATE ? "late" : worker_show_name(row->worker.state));
		ctl_table_add(&table, "%s", ctl_text_tame(pool));
		ctl_table_add(&table, "%llu", (unsigned long long)row->open);
		ctl_table_add(&table, "%u", row->max_conns);
		ctl_table_add(&table, "%llu", (unsigned long long)row->taken);
		ctl_table_add(&table, "%s", ctl_text_bytes((double)row->bytes[0], a));
		ctl_table_add(&table, "%s", ctl_text_bytes((double)row->bytes[1], a));
		ctl_table_add(&table, "%s", ctl_text_span(since(row->worker.started, view->answer->status.now), a));
	}
	return ctl_table_end(&table, out);
}

static void
add_rate(struct ctl_table *table, double rate)
{
	char buf[32];

	ctl_table_add(table, "%s%s", rate >= 0 ? ctl_text_bytes(rate, buf) : "", rate >= 0 ? "/s" : "");
}

static void
add_conn(struct ctl_table *table, const struct ctl_view *view, const struct ctl_conn *conn)
{
	const struct conn_record *rec = &conn->row->rec;
	char name[ROUTE_SERVICE_MAX], a[32];
	struct ctl_ends ends;

	(void)snprintf(name, sizeof(name), "%.*s", (int)sizeof(name) - 1, conn->names != NULL ? conn->names->service : "");
	ctl_text_ends(rec, conn->names, &ends);
	ctl_table_add(table, "%llu", (unsigned long long)rec->id);
	ctl_table_add(table, "%s", ctl_text_tame(name));
	ctl_table_add(table, "%s", record_state_name(record_state(rec)));
	ctl_table_add(table, "%s", ctl_text_span(since(rec->begun, view->answer->status.now_mono), a));
	ctl_table_add(table, "%s", ctl_text_bytes((double)rec->bytes[0], a));
	ctl_table_add(table, "%s", ctl_text_bytes((double)rec->bytes[1], a));
	if (view->conns->rates) {
		add_rate(table, conn->rates[0]);
		add_rate(table, conn->rates[1]);
	}
	ctl_table_add(table, "%u", conn->row->worker);
	ctl_table_add(table, "%s", engine_name(rec->engine));
	ctl_table_add(table, "%s > %s", ends.client, ends.listener);
	ctl_table_add(table, "%s > %s", ends.local[0] != '\0' ? ends.local : "-", ends.target);
}

int
ctl_show_connections(const struct ctl_view *view, FILE *out)
{
	static const char *const plain[] = { "ID", "SERVICE", "STATE", "AGE", "UP", "DOWN", "WORKER", "ENGINE", "CLIENT SIDE", "TARGET SIDE" };
	static const bool plain_right[] = { true, false, false, true, true, true, true, false, false, false };
	static const char *const rated[] = { "ID", "SERVICE", "STATE", "AGE", "UP", "DOWN", "UP RATE", "DOWN RATE", "WORKER", "ENGINE", "CLIENT SIDE",
		"TARGET SIDE" };
	static const bool rated_right[] = { true, false, false, true, true, true, true, true, true, false, false, false };
	struct ctl_table table;

	if (view->conns->rates)
		ctl_table_begin(&table, rated, rated_right, sizeof(rated_right) / sizeof(rated_right[0]));
	else
		ctl_table_begin(&table, plain, plain_right, sizeof(plain_right) / sizeof(plain_right[0]));
	for (size_t i = 0; i < view->conns->n; i++)
		add_conn(&table, view, &view->conns->list[i]);
	return ctl_table_end(&table, out);
}

static void
print_capabilities(FILE *out, const char *what, uint64_t set)
{
	char name[32];

	(void)fprintf(out, "%s", what);
	for (unsigned cap = 0; cap < 64; cap++) {
		if (set >> cap & 1)
			(void)fprintf(out, " %s", ctl_text_capability(cap, name));
	}
	(void)fprintf(out, "%s\n", set == 0 ? " none" : "");
}

static void
print_layers(FILE *out, const struct row_process *row)
{
	bool any = false;

	(void)fprintf(out, "  layers in force:");
	for (unsigned layer = 0; layer < LAYERS; layer++) {
		if (row->layers >> layer & 1) {
			(void)fprintf(out, "%s %s", any ? "," : "", sandbox_layer_name(layer));
			any = true;
		}
	}
	(void)fprintf(out, "%s\n", any ? "" : " none");
	for (unsigned layer = 0; layer < LAYERS; layer++) {
		if (row->why[layer] != 0)
			(void)fprintf(out, "  missing: %s (%s)\n", sandbox_layer_name(layer), strerror(row->why[layer]));
	}
}

static void
print_process(FILE *out, const struct row_process *row)
{
	char place[sizeof(row->place)];

	(void)snprintf(place, sizeof(place), "%.*s", (int)sizeof(place) - 1, row->place);
	(void)fprintf(out, "%s", ctl_text_role(row->role));
	if (row->role == PROCESS_WORKER)
		(void)fprintf(out, " %u", row->index);
	(void)fprintf(out, ", process %u\n  uid %u, gid %u\n", row->pid, row->uid, row->gid);
	if (row->role == PROCESS_REPORTER)
		(void)fprintf(out, "  network namespace: its own, empty\n");
	else
		(void)fprintf(out, "  network namespace: %s (inode %llu)\n", place[0] != '\0' ? ctl_text_tame(place) : "that of nsproxy's start",
		    (unsigned long long)row->netns);
	print_capabilities(out, "  capabilities permitted:", row->permitted);
	print_capabilities(out, "  capabilities effective:", row->effective);
	print_capabilities(out, "  bounding set:", row->bounding);
	(void)fprintf(out, "  system calls: %u allowed, %u of them with checked arguments\n", row->syscalls, row->syscalls_checked);
	if (row->role != PROCESS_PARENT)
		(void)fprintf(out, "  Landlock: ABI %u\n", row->landlock_abi);
	print_layers(out, row);
}

int
ctl_show_privileges(const struct ctl_view *view, FILE *out)
{
	for (size_t i = 0; i < view->answer->n_processes; i++)
		print_process(out, &view->answer->processes[i]);
	return 0;
}

int
ctl_show_metrics(const struct ctl_view *view, FILE *out)
{
	(void)fwrite(view->answer->text, 1, view->answer->text_size, out);
	return 0;
}

int
ctl_show_done(const struct ctl_view *view, FILE *out)
{
	(void)fprintf(out, "%s\n", view->answer->end.text);
	return 0;
}
