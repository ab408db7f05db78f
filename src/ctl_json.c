/* SPDX-License-Identifier: ISC */
/*
 * Answers as JSON (jansson). Amounts are numbers in the unit that the key names, what is not there is null.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_json.h"

#include <jansson.h>
#include <string.h>

#include "ctl_text.h"
#include "log.h"
#include "sandbox_layer.h"

#define NS 1e9

/* Prints and frees. A NULL from jansson anywhere below makes the whole NULL, or leaves a key out; only memory can be short. */
static int
print(json_t *json, FILE *out)
{
	int r = json != NULL ? json_dumpf(json, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) : -1;

	json_decref(json);
	(void)fputc('\n', out);
	return r;
}

/* A name of somebody else's: what is not UTF-8 is shown without its bytes above 127. */
static json_t *
text(const char *str, size_t size)
{
	size_t n = strnlen(str, size);
	json_t *json = json_stringn(str, n);
	char copy[1024];

	if (json != NULL)
		return json;
	n = n < sizeof(copy) ? n : sizeof(copy);
	for (size_t i = 0; i < n; i++)
		copy[i] = (unsigned char)str[i] < 0x80 ? str[i] : '?';
	return json_stringn(copy, n);
}

#define TEXT(field) text((field), sizeof(field))

static json_t *
text_or_null(const char *str, size_t size)
{
	return str[0] != '\0' ? text(str, size) : json_null();
}

/* Without memory for it the key is left out, also where it had a value. */
static void
set(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new_nocheck(object, key, value) == -1)
		(void)json_object_del(object, key);
}

static void
set_int(json_t *object, const char *key, uint64_t value)
{
	set(object, key, json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX));
}

static void
set_time(json_t *object, const char *key, uint64_t ns)
{
	char buf[32];

	set(object, key, ns != 0 ? json_string(ctl_text_time(ns, buf)) : json_null());
}

static void
set_seconds(json_t *object, const char *key, uint64_t from, uint64_t to)
{
	set(object, key, json_real(to > from ? (double)(to - from) / NS : 0));
}

static void
set_bytes(json_t *object, const uint64_t bytes[2])
{
	set_int(object, "bytes_up", bytes[0]);
	set_int(object, "bytes_down", bytes[1]);
}

int
ctl_json_status(const struct ctl_view *view, FILE *out)
{
	const struct row_status *s = &view->answer->status;
	const struct msg_parent *p = &s->parent;
	json_t *o = json_object();

	set(o, "version", TEXT(p->version));
	set_int(o, "pid", p->pid);
	set_int(o, "reporter_pid", s->reporter_pid);
	set(o, "configuration", text_or_null(p->file, sizeof(p->file)));
	set_time(o, "started", p->started);
	set_seconds(o, "uptime_s", p->started, s->now);
	set_time(o, "loaded", p->loaded);
	set_int(o, "reloads", p->reloads);
	set_int(o, "upgrades", p->upgrades);
	set(o, "log_level", json_string(log_level_name((enum log_level)p->log_level)));
	set_int(o, "services", s->services);
	set_int(o, "drained", s->drained);
	set_int(o, "workers", s->workers);
	set_int(o, "workers_wanted", p->workers);
	set_int(o, "open", s->open);
	set_int(o, "taken", s->taken);
	set_int(o, "finished", s->finished);
	set_bytes(o, s->bytes);
	set_int(o, "lost", s->dropped);
	return print(o, out);
}

static json_t *
ends_json(const uint64_t ends[])
{
	json_t *o = json_object();

	for (unsigned end = END_NONE + 1; end < CONN_ENDS_COUNT; end++)
		set_int(o, conn_end_name(end), ends[end]);
	return o;
}

/* The keys that routes tell: listeners and target. */
static void
set_places(json_t *o, const struct ctl_answer *answer, uint32_t service)
{
	json_t *listeners = json_array();
	const char *target = NULL, *netns = "";
	char buf[CTL_ADDR_MAX], to[CTL_ADDR_MAX];

	for (size_t i = 0; i < answer->n_routes; i++) {
		const struct msg_names *names = &answer->routes[i];

		if (names->service_number != service)
			continue;
		(void)json_array_append_new(listeners, text(ctl_text_listener(names, buf), sizeof(buf)));
		target = ctl_text_target(names, to);
		netns = names->private_netns;
	}
	set(o, "listeners", listeners);
	set(o, "target", target != NULL ? text(target, sizeof(to)) : json_null());
	set(o, "netns", text_or_null(netns, sizeof(answer->routes[0].private_netns)));
}

static json_t *
service_json(const struct ctl_answer *answer, const struct row_service *row)
{
	const struct msg_service *service = &row->service;
	uint64_t until = service->drain_until, now = answer->status.now_mono;
	json_t *o = json_object();

	set(o, "name", TEXT(service->name));
	set(o, "state", json_string(ctl_text_service_state(row)));
	set(o, "drain_s", until != 0 ? json_real(until > now ? (double)(until - now) / NS : 0) : json_null());
	set(o, "engine", json_string(engine_name(service->engine)));
	set_places(o, answer, service->number);
	set(o, "max_connections", service->limit != 0 ? json_integer(service->limit) : json_null());
	set_int(o, "open", row->open);
	set_int(o, "taken", row->taken);
	set_int(o, "finished", row->finished);
	set_bytes(o, row->bytes);
	set(o, "ends", ends_json(row->ends));
	return o;
}

int
ctl_json_services(const struct ctl_view *view, FILE *out)
{
	json_t *list = json_array();

	for (size_t i = 0; i < view->answer->n_services; i++)
		(void)json_array_append_new(list, service_json(view->answer, &view->answer->services[i]));
	return print(list, out);
}

static json_t *
engines_json(uint32_t engines)
{
	json_t *list = json_array();

	for (unsigned engine = 0; engine < ENGINES; engine++) {
		if (engines >> engine & 1)
			(void)json_array_append_new(list, json_string(engine_name(engine)));
	}
	return list;
}

static json_t *
worker_json(const struct ctl_answer *answer, const struct row_worker *row)
{
	const struct msg_worker_state *worker = &row->worker;
	json_t *o = json_object();

	set_int(o, "worker", worker->index);
	set_int(o, "pid", worker->pid);
	set(o, "state", json_string(worker_show_name(worker->state)));
	set(o, "late", json_boolean(worker->flags & WORKER_LATE));
	set(o, "netns", text_or_null(worker->pool, sizeof(worker->pool)));
	set_int(o, "uid", worker->uid);
	set_int(o, "gid", worker->gid);
	set_time(o, "started", worker->started);
	set_seconds(o, "uptime_s", worker->started, answer->status.now);
	set(o, "engines", engines_json(worker->ready.engines));
	set_int(o, "max_connections", row->max_conns);
	set_int(o, "open", row->open);
	set_int(o, "taken", row->taken);
	set_int(o, "finished", row->finished);
	set_bytes(o, row->bytes);
	set_int(o, "lost", row->dropped);
	set_int(o, "turns", row->turns);
	set_int(o, "pipes", row->pipes_used);
	return o;
}

int
ctl_json_workers(const struct ctl_view *view, FILE *out)
{
	json_t *list = json_array();

	for (size_t i = 0; i < view->answer->n_workers; i++)
		(void)json_array_append_new(list, worker_json(view->answer, &view->answer->workers[i]));
	return print(list, out);
}

static json_t *
rate_json(double rate)
{
	return rate >= 0 ? json_real(rate) : json_null();
}

/* Every key is set, so that the object can be that of the connection before: keys cost more than values. */
static void
set_conn(json_t *o, const struct ctl_view *view, const struct ctl_conn *conn)
{
	static const struct msg_names unknown;
	const struct msg_names *names = conn->names != NULL ? conn->names : &unknown;
	const struct conn_record *rec = &conn->row->rec;
	struct ctl_ends ends;

	ctl_text_ends(rec, conn->names, &ends);
	set_int(o, "id", rec->id);
	set(o, "service", text_or_null(names->service, sizeof(names->service)));
	set(o, "state", json_string(record_state_name(record_state(rec))));
	set(o, "client", TEXT(ends.client));
	set(o, "listener", TEXT(ends.listener));
	set(o, "local", text_or_null(ends.local, sizeof(ends.local)));
	set(o, "target", TEXT(ends.target));
	set(o, "client_netns", text_or_null(names->public_netns, sizeof(names->public_netns)));
	set(o, "target_netns", text_or_null(names->private_netns, sizeof(names->private_netns)));
	set_int(o, "worker", conn->row->worker);
	set(o, "engine", json_string(engine_name(rec->engine)));
	set_time(o, "start", rec->start);
	set_seconds(o, "age_s", rec->begun, view->answer->status.now_mono);
	set(o, "connect_s", rec->connected > rec->begun ? json_real((double)(rec->connected - rec->begun) / NS) : json_null());
	set_bytes(o, rec->bytes);
	set(o, "rate_up", rate_json(conn->rates[0]));
	set(o, "rate_down", rate_json(conn->rates[1]));
}

/* One line for each: of thousands of objects in memory, and tokens written one by one, everybody would have to wait. */
int
ctl_json_connections(const struct ctl_view *view, FILE *out)
{
	const size_t flags = JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9);
	json_t *o = json_object();
	char buf[4096];
	int r = 0;

	if (o == NULL)
		return -1;
	for (size_t i = 0; i < view->conns->n && r == 0; i++) {
		size_t n;

		set_conn(o, view, &view->conns->list[i]);
		n = json_dumpb(o, buf, sizeof(buf), flags);
		(void)fputs(i == 0 ? "[\n  " : ",\n  ", out);
		if (n > 0 && n <= sizeof(buf))
			(void)fwrite(buf, 1, n, out);
		else
			r = json_dumpf(o, out, flags);
	}
	json_decref(o);
	(void)fputs(view->conns->n > 0 ? "\n]\n" : "[]\n", out);
	return r;
}

static json_t *
capabilities_json(uint64_t set_of)
{
	json_t *list = json_array();
	char name[32];

	for (unsigned cap = 0; cap < 64; cap++) {
		if (set_of >> cap & 1)
			(void)json_array_append_new(list, json_string(ctl_text_capability(cap, name)));
	}
	return list;
}

/* Layers that are in force, and those that should be and are not. One that is not for this process is in neither. */
static void
set_layers(json_t *o, const struct row_process *row)
{
	json_t *in_force = json_array(), *missing = json_object();

	for (unsigned layer = 0; layer < LAYERS; layer++) {
		if (row->layers >> layer & 1)
			(void)json_array_append_new(in_force, json_string(sandbox_layer_name(layer)));
		else if (row->why[layer] != 0)
			set(missing, sandbox_layer_name(layer), json_string(strerror(row->why[layer])));
	}
	set(o, "layers", in_force);
	set(o, "missing", missing);
}

static json_t *
process_json(const struct row_process *row)
{
	json_t *o = json_object();

	set(o, "process", json_string(ctl_text_role(row->role)));
	set(o, "worker", row->role == PROCESS_WORKER ? json_integer(row->index) : json_null());
	set_int(o, "pid", row->pid);
	set_int(o, "uid", row->uid);
	set_int(o, "gid", row->gid);
	set(o, "netns", text_or_null(row->place, sizeof(row->place)));
	set(o, "netns_inode", row->netns != 0 ? json_integer((json_int_t)row->netns) : json_null());
	set(o, "permitted", capabilities_json(row->permitted));
	set(o, "effective", capabilities_json(row->effective));
	set(o, "bounding", capabilities_json(row->bounding));
	set_int(o, "syscalls", row->syscalls);
	set_int(o, "syscalls_checked", row->syscalls_checked);
	set_int(o, "landlock_abi", row->landlock_abi);
	set_layers(o, row);
	return o;
}

int
ctl_json_privileges(const struct ctl_view *view, FILE *out)
{
	json_t *list = json_array();

	for (size_t i = 0; i < view->answer->n_processes; i++)
		(void)json_array_append_new(list, process_json(&view->answer->processes[i]));
	return print(list, out);
}

int
ctl_json_metrics(const struct ctl_view *view, FILE *out)
{
	json_t *o = json_object();

	set(o, "openmetrics", json_stringn(view->answer->text != NULL ? view->answer->text : "", view->answer->text_size));
	return print(o, out);
}

static int
print_outcome(bool done, const char *str, size_t size, FILE *out)
{
	json_t *o = json_object();

	set(o, "done", json_boolean(done));
	set(o, "text", text(str, size));
	return print(o, out);
}

int
ctl_json_done(const struct ctl_view *view, FILE *out)
{
	return print_outcome(true, view->answer->end.text, sizeof(view->answer->end.text), out);
}

int
ctl_json_error(const char *str, FILE *out)
{
	return print_outcome(false, str, strlen(str), out);
}
