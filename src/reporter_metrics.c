/* SPDX-License-Identifier: ISC */
/*
 * The metrics as text.
 * Runs in: reporter
 *
 * Theory of operation: a table of families; each has a function that writes its samples. Both formats are written from it: they differ in what a
 * counter's family is called, in the unit, in the type of what is only a label, and in the last line. A service's counters are summed up once for
 * each text, before anything is written, so all lines of a text speak of the same moment.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_metrics.h"

#include <string.h>
#include <sys/mman.h>

enum family_type { COUNTER, GAUGE, HISTOGRAM, INFO };
static const char *const type_names[] = { "counter", "gauge", "histogram", "info" };

struct service_sum {
	const char *name;
	struct sb_service sum;
	uint64_t open;
};

struct writer {
	struct doc *doc;
	enum metrics_format format;
	const struct metrics_source *source;
	struct service_sum *services;	/* [n_services]; mapped */
	uint32_t n_services;
};

struct family {
	const char *name;		/* a counter's samples have "_total" behind it, an info's "_info" */
	enum family_type type;
	const char *unit;		/* NULL: none; else the name ends with it */
	void (*write)(struct writer *writer, const struct family *family);
	unsigned which;			/* for `write`: a value of the parent, a histogram */
	const char *help;
};

const char *
metrics_service(const struct metrics_source *source, uint32_t service)
{
	return source->totals->parent != NULL && service < TOTALS_SERVICES && source->totals->named[service] ?
	    totals_sums(source->totals)->services[service].name : NULL;
}

void
metrics_sum(const struct metrics_source *source, uint32_t service, struct sb_service *sum, uint64_t *open)
{
	memset(sum, 0, sizeof(*sum));
	*open = 0;
	sb_service_add(sum, &totals_sums(source->totals)->services[service].sums);
	for (uint32_t i = 0; i < source->workers->max; i++) {
		const struct scoreboard *board = &source->workers->table[i].board;
		uint64_t taken, finished;

		if (board->map == NULL || service >= board->n_services)
			continue;
		/* In this order: one that begins in between is not open yet, but none is finished that was not taken. */
		finished = sb_get(&board->services[service].finished);
		taken = sb_get(&board->services[service].taken);
		*open += taken > finished && taken - finished <= board->max_conns ? taken - finished : 0;
		sb_service_add(sum, &board->services[service]);
	}
}

static uint64_t
parent_value(const struct writer *writer, unsigned id)
{
	return sb_get(&writer->source->totals->parent->values[id]);
}

/* "name" or "name_total", as samples of this family are called. */
static void
put_name(struct writer *writer, const struct family *family)
{
	doc_str(writer->doc, family->name);
	doc_str(writer->doc, family->type == COUNTER ? "_total" : family->type == INFO ? "_info" : "");
}

/* `{service="web"` without the end. */
static void
put_service(struct writer *writer, const struct service_sum *service)
{
	doc_str(writer->doc, "{service=\"");
	doc_label(writer->doc, service->name, ROUTE_SERVICE_MAX);
	doc_str(writer->doc, "\"");
}

static void
put_value(struct writer *writer, uint64_t value)
{
	doc_str(writer->doc, " ");
	doc_u64(writer->doc, value);
	doc_str(writer->doc, "\n");
}

static void
write_parent(struct writer *writer, const struct family *family)
{
	put_name(writer, family);
	put_value(writer, parent_value(writer, family->which));
}

/* ns since 1970 as seconds. */
static void
write_time(struct writer *writer, const struct family *family)
{
	put_name(writer, family);
	doc_str(writer->doc, " ");
	doc_decimal(writer->doc, parent_value(writer, family->which), 9);
	doc_str(writer->doc, "\n");
}

/* The value after it in enum totals_id counts the failures. */
static void
write_results(struct writer *writer, const struct family *family)
{
	for (unsigned i = 0; i < 2; i++) {
		put_name(writer, family);
		doc_str(writer->doc, i == 0 ? "{result=\"good\"}" : "{result=\"failed\"}");
		put_value(writer, parent_value(writer, family->which + i));
	}
}

static void
write_build(struct writer *writer, const struct family *family)
{
	put_name(writer, family);
	doc_str(writer->doc, "{version=\"" PACKAGE_VERSION "\"} 1\n");
}

static void
write_workers(struct writer *writer, const struct family *family)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < writer->source->workers->max; i++)
		n += writer->source->workers->table[i].present;
	put_name(writer, family);
	put_value(writer, n);
}

/* which 0: connections it has; 1: it can have. */
static void
write_worker_connections(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->source->workers->max; i++) {
		const struct reporter_worker *worker = &writer->source->workers->table[i];
		uint64_t taken, finished;

		if (!worker->present || worker->board.map == NULL)
			continue;
		finished = sb_get(&worker->board.head->finished);
		taken = sb_get(&worker->board.head->taken);
		put_name(writer, family);
		doc_printf(writer->doc, "{worker=\"%u\"}", i);
		if (family->which == 1)
			put_value(writer, worker->board.max_conns);
		else
			put_value(writer, taken > finished && taken - finished <= worker->board.max_conns ? taken - finished : 0);
	}
}

static void
write_dropped(struct writer *writer, const struct family *family)
{
	uint64_t dropped = totals_sums(writer->source->totals)->dropped;

	for (uint32_t i = 0; i < writer->source->workers->max; i++) {
		const struct scoreboard *board = &writer->source->workers->table[i].board;
		uint64_t n = board->map != NULL ? sb_get(&board->head->dropped) : 0;

		dropped += n < SB_COUNT_MOST ? n : SB_COUNT_MOST;
	}
	put_name(writer, family);
	put_value(writer, dropped);
}

static void
write_lines_lost(struct writer *writer, const struct family *family)
{
	put_name(writer, family);
	put_value(writer, sb_get(&writer->source->totals->gone->lines_lost));
}

static void
write_open(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->n_services; i++) {
		put_name(writer, family);
		put_service(writer, &writer->services[i]);
		doc_str(writer->doc, "}");
		put_value(writer, writer->services[i].open);
	}
}

static void
write_taken(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->n_services; i++) {
		put_name(writer, family);
		put_service(writer, &writer->services[i]);
		doc_str(writer->doc, "}");
		put_value(writer, sb_get(&writer->services[i].sum.taken));
	}
}

/* Every reason from the start, so that a rate is right when one comes up for the first time. */
static void
write_ends(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->n_services; i++) {
		for (unsigned end = END_NONE + 1; end < CONN_ENDS_COUNT; end++) {
			put_name(writer, family);
			put_service(writer, &writer->services[i]);
			doc_str(writer->doc, ",end=\"");
			doc_str(writer->doc, conn_end_name(end));
			doc_str(writer->doc, "\"}");
			put_value(writer, sb_get(&writer->services[i].sum.ends[end]));
		}
	}
}

static void
write_bytes(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->n_services; i++) {
		for (unsigned d = 0; d < 2; d++) {
			put_name(writer, family);
			put_service(writer, &writer->services[i]);
			doc_str(writer->doc, d == 0 ? ",direction=\"up\"}" : ",direction=\"down\"}");
			put_value(writer, sb_get(&writer->services[i].sum.bytes[d]));
		}
	}
}

/* The buckets of the text are cumulative. */
static void
write_histogram_of(struct writer *writer, const struct family *family, const struct service_sum *service)
{
	const struct sb_histogram *histogram = &service->sum.histograms[family->which];
	uint64_t n = 0;

	for (unsigned i = 0; i < SB_BUCKETS; i++) {
		n += sb_get(&histogram->buckets[i]);
		doc_str(writer->doc, family->name);
		doc_str(writer->doc, "_bucket");
		put_service(writer, service);
		doc_str(writer->doc, ",le=\"");
		if (i < SB_BUCKETS - 1)
			doc_decimal(writer->doc, sb_bounds[family->which][i], 6);
		else
			doc_str(writer->doc, "+Inf");
		doc_str(writer->doc, "\"}");
		put_value(writer, n);
	}
	doc_str(writer->doc, family->name);
	doc_str(writer->doc, "_count");
	put_service(writer, service);
	doc_str(writer->doc, "}");
	put_value(writer, n);
	doc_str(writer->doc, family->name);
	doc_str(writer->doc, "_sum");
	put_service(writer, service);
	doc_str(writer->doc, "} ");
	doc_decimal(writer->doc, sb_get(&histogram->sum), 6);
	doc_str(writer->doc, "\n");
}

static void
write_histogram(struct writer *writer, const struct family *family)
{
	for (uint32_t i = 0; i < writer->n_services; i++)
		write_histogram_of(writer, family, &writer->services[i]);
}

/* nsproxy(8), METRICS, says more about each; a test compares the names. */
static const struct family families[] = {
	{ "nsproxy_build", INFO, NULL, write_build, 0, "Version of the running program." },
	{ "nsproxy_start_time_seconds", GAUGE, "seconds", write_time, TOTALS_STARTED,
		"When nsproxy started, in seconds since 1970; kept over reloads and upgrades." },
	{ "nsproxy_config_last_reload_successful", GAUGE, NULL, write_parent, TOTALS_RELOAD_GOOD,
		"Whether the last attempt to reload or upgrade worked; 1 before the first one." },
	{ "nsproxy_config_last_reload_success_timestamp_seconds", GAUGE, "seconds", write_time, TOTALS_RELOADED,
		"When the configuration in effect was read, in seconds since 1970." },
	{ "nsproxy_reloads", COUNTER, NULL, write_results, TOTALS_RELOADS, "Attempts to reload the configuration." },
	{ "nsproxy_upgrades", COUNTER, NULL, write_results, TOTALS_UPGRADES, "Attempts to replace the running programs." },
	{ "nsproxy_accepted_connections", COUNTER, NULL, write_parent, TOTALS_ACCEPTED, "Clients that were accepted and given to a worker." },
	{ "nsproxy_refused_connections", COUNTER, NULL, write_parent, TOTALS_REFUSED,
		"Clients that were reset at once: their private namespace is missing, or their service is drained." },
	{ "nsproxy_listeners", GAUGE, NULL, write_parent, TOTALS_LISTENERS, "Listening sockets of services." },
	{ "nsproxy_listeners_paused", GAUGE, NULL, write_parent, TOTALS_LISTENERS_PAUSED,
		"Of these, the ones that take no clients now, since no worker has room, or for max-connections." },
	{ "nsproxy_listener_pauses", COUNTER, NULL, write_parent, TOTALS_PAUSES, "How often a listener was paused." },
	{ "nsproxy_backlog_connections", GAUGE, NULL, write_parent, TOTALS_BACKLOG,
		"Clients that wait in the kernel for being accepted, at the last look (every 3 seconds)." },
	{ "nsproxy_queued_connections", GAUGE, NULL, write_parent, TOTALS_UNTAKEN,
		"Clients on their way from the parent to a worker, at the last look." },
	{ "nsproxy_parent_open_fds", GAUGE, NULL, write_parent, TOTALS_FDS, "Descriptors that the parent has open, at the last look." },
	{ "nsproxy_parent_max_fds", GAUGE, NULL, write_parent, TOTALS_FDS_MOST, "Descriptors that the parent may have open." },
	{ "nsproxy_workers", GAUGE, NULL, write_workers, 0, "Workers that live." },
	{ "nsproxy_workers_wanted", GAUGE, NULL, write_parent, TOTALS_WORKERS_WANTED, "Workers that there should be." },
	{ "nsproxy_worker_restarts", COUNTER, NULL, write_parent, TOTALS_WORKER_DEATHS, "Workers that died and were replaced." },
	{ "nsproxy_reporter_restarts", COUNTER, NULL, write_parent, TOTALS_REPORTER_DEATHS, "How often the reporter died and was replaced." },
	{ "nsproxy_worker_connections", GAUGE, NULL, write_worker_connections, 0, "Connections that a worker has." },
	{ "nsproxy_worker_connections_limit", GAUGE, NULL, write_worker_connections, 1,
		"Connections that a worker can have, which is bounded by its descriptors." },
	{ "nsproxy_records_dropped", COUNTER, NULL, write_dropped, 0,
		"Records of connections and lines of log that workers could not give to the reporter." },
	{ "nsproxy_log_lines_lost", COUNTER, NULL, write_lines_lost, 0, "Lines of log and access log that could not be written." },
	{ "nsproxy_connections_open", GAUGE, NULL, write_open, 0, "Connections of a service that are open." },
	{ "nsproxy_connections", COUNTER, NULL, write_taken, 0, "Connections of a service that a worker took." },
	{ "nsproxy_connections_ended", COUNTER, NULL, write_ends, 0, "Connections of a service that ended, by the reason that the access log shows." },
	{ "nsproxy_traffic_bytes", COUNTER, "bytes", write_bytes, 0, "Bytes delivered: up is to the target, down is to the client." },
	{ "nsproxy_connect_duration_seconds", HISTOGRAM, "seconds", write_histogram, SB_CONNECT,
		"From taking a client until its target was connected; of connections that have ended." },
	{ "nsproxy_connection_duration_seconds", HISTOGRAM, "seconds", write_histogram, SB_DURATION,
		"From taking a client until its end." },
};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

/* In the older format a counter's name has its "_total" here, too, there are no units, and an info is a gauge. */
static void
put_head(struct writer *writer, const struct family *family)
{
	bool open = writer->format == METRICS_OPENMETRICS;
	const char *suffix = open ? "" : family->type == COUNTER ? "_total" : family->type == INFO ? "_info" : "";

	doc_printf(writer->doc, "# TYPE %s%s %s\n", family->name, suffix, !open && family->type == INFO ? "gauge" : type_names[family->type]);
	if (open && family->unit != NULL)
		doc_printf(writer->doc, "# UNIT %s %s\n", family->name, family->unit);
	doc_printf(writer->doc, "# HELP %s%s %s\n", family->name, suffix, family->help);
}

static size_t
sums_size(const struct metrics_source *source)
{
	return (totals_sums(source->totals)->n_services + 1) * sizeof(struct service_sum);
}

static void
sum_up(struct writer *writer)
{
	const struct metrics_source *source = writer->source;

	for (uint32_t i = 0; i < totals_sums(source->totals)->n_services; i++) {
		struct service_sum *service = &writer->services[writer->n_services];

		service->name = metrics_service(source, i);
		if (service->name == NULL)
			continue;
		metrics_sum(source, i, &service->sum, &service->open);
		writer->n_services++;
	}
}

void
metrics_write(struct doc *doc, const struct metrics_source *source, enum metrics_format format)
{
	struct writer writer = { .doc = doc, .format = format, .source = source };

	if (source->totals->parent == NULL)
		return;
	writer.services = mmap(NULL, sums_size(source), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (writer.services == MAP_FAILED) {
		doc->failed = true;
		return;
	}
	sum_up(&writer);
	for (size_t i = 0; i < N_FAMILIES; i++) {
		put_head(&writer, &families[i]);
		families[i].write(&writer, &families[i]);
	}
	if (format == METRICS_OPENMETRICS)
		doc_str(doc, "# EOF\n");
	(void)munmap(writer.services, sums_size(source));
}
