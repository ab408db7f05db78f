/* SPDX-License-Identifier: ISC */
/*
 * The status page.
 * Runs in: reporter
 *
 * Whatever comes from outside (names from the configuration, lines of log with what clients and workers had in them) is written by doc_html() and
 * nothing else. Colours say nothing that words do not say; tables have captions and headers that belong to their columns and rows.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_page.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "reporter_text.h"

#define LOOK_EVERY (5 * NS_PER_S)

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>nsproxy</title>\n<style>\n"
	":root { color-scheme: light dark; --line: #8884; --dim: #595959; --bad: #b00020; --good: #1b6e2e; }\n"
	"@media (prefers-color-scheme: dark) { :root { --dim: #a8a8a8; --bad: #ff8a80; --good: #81c995; } }\n"
	"body { font: 15px/1.45 system-ui, sans-serif; max-width: 64rem; margin: 1.5rem auto; padding: 0 1rem; }\n"
	"h1 { font-size: 1.5rem; margin: 0 0 .2rem; } caption, h2 { font-size: 1.1rem; font-weight: 600; text-align: left; margin: 0; padding: 0 0 .3rem; }\n"
	".scroll { overflow-x: auto; margin-top: 1.6rem; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }\n"
	"th, td { text-align: right; padding: .3rem .5rem; border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; vertical-align: top; }\n"
	"thead th { vertical-align: bottom; border-top: 0; color: var(--dim); font-weight: 600; } th:first-child, td.text, th.text { text-align: left; }\n"
	"td small, th small { display: block; color: var(--dim); font-weight: 400; } p { margin: .2rem 0; color: var(--dim); }\n"
	"dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .5rem 1rem; margin: 1.2rem 0 0; }\n"
	"dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }\n"
	".bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); }\n"
	"td.text, th[scope=row] { overflow-wrap: break-word; } td span { white-space: nowrap; }\n"
	"</style>\n</head>\n<body>\n<main>\n";

/* ---- what is kept ------------------------------------------------------------------------------------------------------------------- */

static void
look(struct page *page)
{
	page->looked[0] = page->looked[1];
	page->looked[1] = page->loop->now;
	for (uint32_t i = 0; i < PAGE_SERVICES; i++) {
		struct page_service *service = &page->services[i];
		struct sb_service sum;
		uint64_t open;

		if (metrics_service(page->source, i) == NULL)
			continue;
		metrics_sum(page->source, i, &sum, &open);
		service->counts[0] = service->counts[1];
		service->counts[1] = (struct page_count){ sb_get(&sum.taken), { sb_get(&sum.bytes[0]), sb_get(&sum.bytes[1]) } };
	}
}

static void
on_timer(void *owner, void *arg)
{
	struct page *page = arg;

	(void)owner;
	look(page);
	loop_timer_set(page->loop, &page->timer, page->loop->now + LOOK_EVERY);
}

void
page_start(struct page *page, struct loop *loop, const struct metrics_source *source)
{
	page->loop = loop;
	page->source = source;
	page->timer = (struct loop_timer){ .fn = on_timer, .arg = page };
	loop_timer_set(loop, &page->timer, loop_clock());
}

static void
put_place(char *buf, size_t size, const char *netns, const struct wire_addr *addr, const char *unix_name)
{
	char text[ADDR_TEXT_MAX];

	if (addr->family == AF_UNIX)
		(void)snprintf(buf, size, "unix:%.107s", unix_name);
	else
		(void)snprintf(buf, size, "%.40s%s%s", netns, netns[0] != '\0' ? "@" : "", addr_format_wire(addr, text));
}

void
page_move(struct page *page, const struct msg_names *names)
{
	char from[ADDR_TEXT_MAX + 64], to[ADDR_TEXT_MAX + 64];
	struct page_service *service;

	if (names->service_number >= PAGE_SERVICES || page->services[names->service_number].first_route != names->route)
		return;
	service = &page->services[names->service_number];
	put_place(from, sizeof(from), names->public_netns, &names->listener, names->listener_unix);
	put_place(to, sizeof(to), names->private_netns, &names->target, names->target_unix);
	(void)snprintf(service->where, sizeof(service->where), "%.95s to %.95s", from, to);
}

void
page_names(struct page *page, const struct msg_names *names)
{
	if (names->service_number >= PAGE_SERVICES || page->services[names->service_number].routes++ > 0)
		return;
	page->services[names->service_number].first_route = names->route;
	page_move(page, names);
}

void
page_flags(struct page *page, uint32_t service, uint32_t flags)
{
	if (service < PAGE_SERVICES)
		page->services[service].flags = flags;
}

void
page_log(void *owner, unsigned level, const char *prefix, const char *text, size_t size)
{
	struct page *page = owner;
	struct page_line *line = &page->lines[page->n_lines % PAGE_LINES];

	if (level > LOG_L_WARNING)
		return;
	line->at = loop_realtime();
	line->level = level;
	(void)snprintf(line->text, sizeof(line->text), "%s%.*s", prefix, (int)(size < PAGE_LINE_TEXT ? size : PAGE_LINE_TEXT), text);
	page->n_lines++;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------------------- */

/* "12.3 MiB" */
static void
put_size(struct doc *doc, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	unsigned i = 0;

	while (n >= 1000 && i < sizeof(units) / sizeof(units[0]) - 1) {
		n /= 1024;
		i++;
	}
	doc_printf(doc, i == 0 ? "%.0f&nbsp;%s" : n < 10 ? "%.2f&nbsp;%s" : n < 100 ? "%.1f&nbsp;%s" : "%.0f&nbsp;%s", n, units[i]);
}

static void
put_time(struct doc *doc, uint64_t at)
{
	struct text_clock clock = { 0 };
	char buf[40];
	struct text text = { buf, buf + sizeof(buf) };

	text_time(&text, &clock, at / NS_PER_S * NS_PER_S);
	doc_printf(doc, "<time datetime=\"%.*s\">%.10s %.8s</time>", (int)(text.at - buf), buf, buf, buf + sizeof("2026-01-31T") - 1);
}

/* "3 d 4 h", "12 min", "5 s" */
static void
put_span(struct doc *doc, uint64_t ns)
{
	uint64_t s = ns / NS_PER_S;

	if (s >= 86400)
		doc_printf(doc, "%llu&nbsp;d %llu&nbsp;h", (unsigned long long)(s / 86400), (unsigned long long)(s / 3600 % 24));
	else if (s >= 3600)
		doc_printf(doc, "%llu&nbsp;h %llu&nbsp;min", (unsigned long long)(s / 3600), (unsigned long long)(s / 60 % 60));
	else if (s >= 60)
		doc_printf(doc, "%llu&nbsp;min %llu&nbsp;s", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
	else
		doc_printf(doc, "%llu&nbsp;s", (unsigned long long)s);
}

static void
put_fact(struct doc *doc, const char *what, uint64_t n)
{
	doc_printf(doc, "<div><dt>%s</dt><dd>%llu</dd></div>\n", what, (unsigned long long)n);
}

static uint64_t
parent_value(const struct page *page, enum totals_id id)
{
	return sb_get(&page->source->totals->parent->values[id]);
}

/* ---- sections ----------------------------------------------------------------------------------------------------------------------- */

static void
write_summary(struct doc *doc, const struct page *page)
{
	uint64_t now = loop_realtime(), started = parent_value(page, TOTALS_STARTED), open = 0, workers = 0;

	for (uint32_t i = 0; i < page->source->workers->max; i++)
		workers += page->source->workers->table[i].present;
	for (uint32_t i = 0; i < totals_sums(page->source->totals)->n_services; i++) {
		struct sb_service sum;
		uint64_t n = 0;

		if (metrics_service(page->source, i) != NULL)
			metrics_sum(page->source, i, &sum, &n);
		open += n;
	}
	doc_str(doc, "<h1>nsproxy " PACKAGE_VERSION "</h1>\n<p>Running since ");
	put_time(doc, started);
	doc_str(doc, " UTC (");
	put_span(doc, now > started ? now - started : 0);
	doc_str(doc, "), configuration read ");
	put_time(doc, parent_value(page, TOTALS_RELOADED));
	doc_str(doc, parent_value(page, TOTALS_RELOAD_GOOD) ? "." : ", <span class=\"bad\">the last reload failed</span>.");
	doc_str(doc, " This is as of ");
	put_time(doc, now);
	doc_str(doc, ". For programs: <a href=\"metrics\">metrics</a>.</p>\n<dl>\n");
	put_fact(doc, "Connections open", open);
	put_fact(doc, "Clients accepted", parent_value(page, TOTALS_ACCEPTED));
	put_fact(doc, "Workers", workers);
	put_fact(doc, "Worker restarts", parent_value(page, TOTALS_WORKER_DEATHS));
	put_fact(doc, "Listeners", parent_value(page, TOTALS_LISTENERS));
	put_fact(doc, "Listeners paused", parent_value(page, TOTALS_LISTENERS_PAUSED));
	put_fact(doc, "Waiting in backlogs", parent_value(page, TOTALS_BACKLOG));
	put_fact(doc, "Log lines lost", sb_get(&page->source->totals->gone->lines_lost));
	doc_str(doc, "</dl>\n");
}

static void
write_state(struct doc *doc, uint32_t flags)
{
	static const struct {
		uint32_t flag;
		const char *text;
	} states[] = {
		{ SERVICE_REMOVED, "<span class=\"bad\">removed</span>" },
		{ SERVICE_DRAINED, "<span class=\"bad\">drained</span>" },
		{ SERVICE_MISSING, "<span class=\"bad\">namespace missing</span>" },
		{ SERVICE_PAUSED, "<span class=\"bad\">full</span>" },
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (flags & states[i].flag) {
			doc_str(doc, states[i].text);
			return;
		}
	}
	doc_str(doc, "<span class=\"good\">serving</span>");
}

/* Reasons that are no orderly end, with how often; "none". */
static void
write_errors(struct doc *doc, const struct sb_service *sum)
{
	bool any = false;

	for (unsigned end = END_TARGET_CLOSED + 1; end < CONN_ENDS_COUNT; end++) {
		uint64_t n = sb_get(&sum->ends[end]);

		if (n == 0)
			continue;
		doc_printf(doc, "%s%s&nbsp;%llu", any ? ", " : "", conn_end_name(end), (unsigned long long)n);
		any = true;
	}
	if (!any)
		doc_str(doc, "none");
}

/* In a second. What goes back is no count of anything: it came from a worker that lies. */
static double
rate_of(uint64_t now, uint64_t before, double s)
{
	return now > before ? (double)(now - before) / s : 0;
}

/* Seconds since the look that rates are counted from; 0: too few. *which: its counts. */
static double
rate_span(const struct page *page, unsigned *which)
{
	uint64_t since;

	*which = page->looked[0] != 0 ? 0 : 1;
	since = page->looked[*which];
	if (since == 0 || page->loop->now - since < NS_PER_S / 2)
		return 0;
	return (double)(page->loop->now - since) / (double)NS_PER_S;
}

/* What it is now, and in all below. */
static void
write_rates(struct doc *doc, const struct page *page, const struct page_service *service, const struct sb_service *sum)
{
	unsigned which;
	double s = rate_span(page, &which);
	const struct page_count *before = &service->counts[which];
	uint64_t taken = sb_get(&sum->taken);

	if (s > 0)
		doc_printf(doc, "<td>%.1f/s", rate_of(taken, before->taken, s));
	else
		doc_str(doc, "<td>-");
	doc_printf(doc, "<small>%llu</small></td>", (unsigned long long)taken);
	for (unsigned d = 0; d < 2; d++) {
		uint64_t bytes = sb_get(&sum->bytes[d]);

		doc_str(doc, "<td>");
		if (s > 0)
			put_size(doc, (uint64_t)rate_of(bytes, before->bytes[d], s));
		doc_str(doc, s > 0 ? "/s<small>" : "-<small>");
		put_size(doc, bytes);
		doc_str(doc, "</small></td>");
	}
}

static void
write_service(struct doc *doc, const struct page *page, uint32_t i)
{
	const struct page_service *service = &page->services[i];
	struct sb_service sum;
	uint64_t open;

	metrics_sum(page->source, i, &sum, &open);
	doc_str(doc, "<tr><th scope=\"row\">");
	doc_html(doc, metrics_service(page->source, i), ROUTE_SERVICE_MAX);
	doc_str(doc, "<small>");
	doc_html(doc, service->where, sizeof(service->where));
	if (service->routes > 1)
		doc_printf(doc, " and %u more", service->routes - 1);
	doc_str(doc, "</small></th><td class=\"text\">");
	write_state(doc, service->flags);
	doc_printf(doc, "</td><td>%llu</td>", (unsigned long long)open);
	write_rates(doc, page, service, &sum);
	doc_str(doc, "<td class=\"text\">");
	write_errors(doc, &sum);
	doc_str(doc, "</td></tr>\n");
}

static void
write_services(struct doc *doc, const struct page *page)
{
	uint32_t more = 0;

	doc_str(doc, "<div class=\"scroll\"><table><caption>Services</caption><thead><tr><th scope=\"col\">Service</th>"
	    "<th scope=\"col\" class=\"text\">State</th><th scope=\"col\">Open</th><th scope=\"col\">New<small>in all</small></th>"
	    "<th scope=\"col\">Up<small>in all</small></th><th scope=\"col\">Down<small>in all</small></th>"
	    "<th scope=\"col\" class=\"text\">Errors by reason</th></tr></thead><tbody>\n");
	for (uint32_t i = 0; i < totals_sums(page->source->totals)->n_services; i++) {
		if (metrics_service(page->source, i) == NULL)
			continue;
		if (i < PAGE_SERVICES)
			write_service(doc, page, i);
		else
			more++;
	}
	doc_str(doc, "</tbody></table></div>\n");
	if (more > 0)
		doc_printf(doc, "<p>%u more services are in the <a href=\"metrics\">metrics</a>.</p>\n", more);
}

static void
write_workers(struct doc *doc, const struct page *page)
{
	doc_str(doc, "<div class=\"scroll\"><table><caption>Workers</caption><thead><tr><th scope=\"col\">Worker</th><th scope=\"col\">Process</th>"
	    "<th scope=\"col\">Connections</th><th scope=\"col\">Room for</th><th scope=\"col\">Taken</th><th scope=\"col\">Records dropped</th>"
	    "</tr></thead><tbody>\n");
	for (uint32_t i = 0; i < page->source->workers->max; i++) {
		const struct reporter_worker *worker = &page->source->workers->table[i];
		uint64_t finished, taken;

		if (!worker->present || worker->board.map == NULL)
			continue;
		finished = sb_get(&worker->board.head->finished);
		taken = sb_get(&worker->board.head->taken);
		doc_printf(doc, "<tr><th scope=\"row\">%u</th><td>%u</td><td>%llu</td><td>%u</td><td>%llu</td><td>%llu</td></tr>\n", i, worker->pid,
		    (unsigned long long)(taken > finished ? taken - finished : 0), worker->board.max_conns, (unsigned long long)taken,
		    (unsigned long long)sb_get(&worker->board.head->dropped));
	}
	doc_str(doc, "</tbody></table></div>\n");
}

/* The newest first. */
static void
write_lines(struct doc *doc, const struct page *page)
{
	uint64_t n = page->n_lines < PAGE_LINES ? page->n_lines : PAGE_LINES;

	doc_str(doc, "<div class=\"scroll\">");
	if (n == 0) {
		doc_str(doc, "<h2>Last errors and warnings</h2><p>None.</p></div>\n");
		return;
	}
	doc_str(doc, "<table><caption>Last errors and warnings</caption><thead><tr><th scope=\"col\">Time (UTC)</th>"
	    "<th scope=\"col\" class=\"text\">Level</th><th scope=\"col\" class=\"text\">Line</th></tr></thead><tbody>\n");
	for (uint64_t i = 0; i < n; i++) {
		const struct page_line *line = &page->lines[(page->n_lines - 1 - i) % PAGE_LINES];

		doc_str(doc, "<tr><td class=\"text\">");
		put_time(doc, line->at);
		doc_str(doc, line->level <= LOG_L_ERR ? "</td><td class=\"text\"><span class=\"bad\">error</span></td><td class=\"text\">" :
		    "</td><td class=\"text\">warning</td><td class=\"text\">");
		doc_html(doc, line->text, sizeof(line->text));
		doc_str(doc, "</td></tr>\n");
	}
	doc_str(doc, "</tbody></table></div>\n");
}

void
page_write(struct doc *doc, struct page *page)
{
	if (page->loop == NULL || page->source->totals->parent == NULL)
		return;
	doc_str(doc, head);
	write_summary(doc, page);
	write_services(doc, page);
	write_workers(doc, page);
	write_lines(doc, page);
	doc_str(doc, "</main>\n</body>\n</html>\n");
}
