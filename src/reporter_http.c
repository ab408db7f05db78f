/* SPDX-License-Identifier: ISC */
/*
 * The metrics listener: HTTP by libmicrohttpd.
 * Runs in: reporter
 *
 * Theory of operation: the library runs without threads; its epoll descriptor is one in our loop, and its work is done when that is readable. We accept
 * for it, so how many clients there are and how long each may stay is decided here: a connection is for one request, and is cut after
 * a few seconds, however busily it trickles. While all places are taken, those who have been there for a second go first. So nobody
 * can keep a scraper away for long, and none of it waits for a client: the logs come first.
 *
 * What is answered is written at most every tenth of a second, and shared by all who ask meanwhile. Only GET and HEAD of a few paths are
 * answered with more than an error; nothing of a request is kept, logged or shown.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_http.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "fdutil.h"
#include "log.h"

void
http_init(struct http *http)
{
	memset(http, 0, sizeof(*http));
	http->fd = -1;
}

#ifdef HAVE_MICROHTTPD

#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

/* ns that a client may stay, and what it may when others wait for its place. */
#define CLIENT_MOST (10 * NS_PER_S)
#define CLIENT_LEAST (1 * NS_PER_S)
#define LOOK_EVERY (1 * NS_PER_S)
#define LOOK_SOON (100 * NS_PER_MS)
/* Accepted in one turn of the loop. */
#define ACCEPT_MOST 16u
/* Bytes for one client's request and headers. */
#define CLIENT_MEMORY 16384u
/* Bytes of a body that the library asks for at once. */
#define BLOCK 32768u
/* An answer as old as this is written anew. */
#define DOC_FRESH (100 * NS_PER_MS)

#define ANY(call) { call, -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } }
#define ONLY(call, number, bits, wanted) { call, -1, { { number, bits, wanted }, { -1, 0, 0 }, { -1, 0, 0 } } }
const struct sandbox_rule http_syscalls[] = {
	/* Clients of the metrics listener, which the parent made. */
	ANY("accept4"), ANY("recvfrom"), ANY("shutdown"),
	/* The library holds back a header until its body comes (TCP_CORK, TCP_NODELAY), and checks the flags of what it is given. */
	ONLY("setsockopt", 1, 0, IPPROTO_TCP), ONLY("fcntl", 1, 0, F_GETFD), ONLY("fcntl", 1, 0, F_SETFD), ONLY("fcntl", 1, 0, F_SETFL),
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};

/*
 * In the place of the C library's, for the HTTP library, which sends an error's header and body by one call. The filter does not allow that call, since
 * it can carry descriptors; nobody else in this program makes it. What is left after the first piece is sent by the next call, as after any short write.
 */
__attribute__((visibility("default"))) ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (message->msg_iovlen > 0 && message->msg_controllen == 0)
		return send(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, flags);
	errno = EOPNOTSUPP;
	return -1;
}

/* ---- answers ------------------------------------------------------------------------------------------------------------------------ */

static const char *const content_types[HTTP_PATHS] = {
	[HTTP_METRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
	[HTTP_METRICS_PLAIN] = "text/plain; version=0.0.4; charset=utf-8",
	[HTTP_PAGE] = "text/html; charset=utf-8",
};

/* The page loads nothing and runs nothing; whoever embeds it or finds markup in a name gets no further. */
static const char *const headers[][2] = {
	{ MHD_HTTP_HEADER_CONNECTION, "close" },
	{ MHD_HTTP_HEADER_CACHE_CONTROL, "no-store" },
	{ "X-Content-Type-Options", "nosniff" },
	{ "Referrer-Policy", "no-referrer" },
	{ "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
};

/* Is the media range of `accept` that begins at `at` wanted at all (RFC 9110, 12.4.2)? */
static bool
is_wanted(const char *at)
{
	size_t length = strcspn(at, ",");
	const char *q = strstr(at, "q=");

	if (q == NULL || q >= at + length)
		return true;
	return strspn(q + 2, "0.") < strcspn(q + 2, ",; ");
}

static enum http_path
metrics_path(struct MHD_Connection *connection)
{
	const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	const char *found = accept != NULL ? strstr(accept, "application/openmetrics-text") : NULL;

	return found != NULL && is_wanted(found) ? HTTP_METRICS : HTTP_METRICS_PLAIN;
}

/* Held for the caller; NULL: no memory. */
static struct doc *
doc_at(struct http *http, enum http_path path)
{
	uint64_t now = http->loop->now;
	struct doc *doc = http->docs[path];

	if (doc != NULL && now - http->written[path] < DOC_FRESH)
		return doc_hold(doc);
	doc = doc_new();
	if (doc == NULL)
		return NULL;
	http->write(http->owner, path, doc);
	if (doc->failed) {
		doc_drop(doc);
		return NULL;
	}
	doc_drop(http->docs[path]);
	http->docs[path] = doc;
	http->written[path] = now;
	return doc_hold(doc);
}

static ssize_t
give(void *cls, uint64_t at, char *buf, size_t room)
{
	const struct doc *doc = cls;
	size_t n = at < doc->size ? doc->size - (size_t)at : 0;

	if (n == 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	n = n < room ? n : room;
	memcpy(buf, doc->text + at, n);
	return (ssize_t)n;
}

static void
let_go(void *cls)
{
	doc_drop(cls);
}

/* Takes doc; allow: methods that this path has, or NULL. */
static enum MHD_Result
answer(struct MHD_Connection *connection, unsigned status, const char *type, struct doc *doc, const char *allow)
{
	struct MHD_Response *response = MHD_create_response_from_callback(doc->size, BLOCK, give, doc, let_go);
	enum MHD_Result result = MHD_NO;

	if (response == NULL) {
		doc_drop(doc);
		return MHD_NO;
	}
	result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]) && result == MHD_YES; i++)
		result = MHD_add_response_header(response, headers[i][0], headers[i][1]);
	if (allow != NULL && result == MHD_YES)
		result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	if (result == MHD_YES)
		result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
answer_error(struct MHD_Connection *connection, unsigned status, const char *why, const char *allow)
{
	struct doc *doc = doc_new();

	if (doc == NULL)
		return MHD_NO;
	doc_str(doc, why);
	return answer(connection, status, "text/plain; charset=utf-8", doc, allow);
}

/* Answered before a body is read: none has one that we want. */
static enum MHD_Result
on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *upload,
    size_t *upload_size, void **request)
{
	struct http *http = cls;
	enum http_path path;
	struct doc *doc;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)request;
	if (strcmp(url, "/metrics") == 0)
		path = metrics_path(connection);
	else if (strcmp(url, "/") == 0)
		path = HTTP_PAGE;
	else
		return answer_error(connection, MHD_HTTP_NOT_FOUND, "not found; there are / and /metrics\n", NULL);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_error(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n", "GET, HEAD");
	doc = doc_at(http, path);
	if (doc == NULL)
		return answer_error(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n", NULL);
	return answer(connection, MHD_HTTP_OK, content_types[path], doc, NULL);
}

/* ---- clients ------------------------------------------------------------------------------------------------------------------------ */

/* What clients do never puts it off. */
static void
plan_look(struct http *http)
{
	uint64_t latest = http->loop->now + (http->n_clients == HTTP_CLIENTS_MAX ? LOOK_SOON : LOOK_EVERY);

	if (http->n_clients == 0 && !http->deaf)
		http->look_at = LOOP_NEVER;
	else if (http->look_at > latest)
		http->look_at = latest;
}

/* The library works as long as it has something that no event will tell; the loop looks at other things in between. */
static void
run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;
	uint64_t due, now = http->loop->now;

	if (MHD_run(http->daemon) != MHD_YES)
		log_debug("http", "the library says that it failed");
	plan_look(http);
	due = http->look_at;
	if (MHD_get_timeout(http->daemon, &ms) == MHD_YES && now + ms * NS_PER_MS < due)
		due = now + ms * NS_PER_MS;
	loop_timer_set(http->loop, &http->timer, due);
}

static struct loop_ref
listener_ref(const struct http *http)
{
	return (struct loop_ref){ .kind = http->kind_listener };
}

/* Polls the listener when there is a place for one more. */
static void
poll_listener(struct http *http)
{
	bool wanted = http->open && !http->deaf && http->n_clients < HTTP_CLIENTS_MAX;

	if (http->fd != -1)
		(void)loop_modify(http->loop, http->fd, wanted ? EPOLLIN : 0, listener_ref(http));
}

/* Its end comes from the library then. */
static void
cut_late(struct http *http, uint64_t most)
{
	for (unsigned i = 0; i < HTTP_CLIENTS_MAX; i++) {
		struct http_client *client = &http->clients[i];

		if (client->fd != -1 && http->loop->now - client->since >= most)
			(void)shutdown(client->fd, SHUT_RDWR);
	}
}

static void
on_timer(void *owner, void *arg)
{
	struct http *http = arg;

	(void)owner;
	if (http->loop->now >= http->look_at) {
		http->deaf = false;
		poll_listener(http);
		cut_late(http, http->n_clients == HTTP_CLIENTS_MAX ? CLIENT_LEAST : CLIENT_MOST);
		http->look_at = LOOP_NEVER;
	}
	run(http);
}

static void
on_clients(void *owner, struct loop_ref ref, uint32_t events)
{
	(void)ref;
	(void)events;
	run(owner);
}

static struct http_client *
free_place(struct http *http)
{
	for (unsigned i = 0; i < HTTP_CLIENTS_MAX; i++) {
		if (http->clients[i].fd == -1)
			return &http->clients[i];
	}
	return NULL;
}

/* The library says that a client came or went. */
static void
on_connection(void *cls, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	struct http *http = cls;
	struct http_client *client = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

		client = free_place(http);
		*socket_context = client;
		if (client == NULL) {
			(void)shutdown(fd, SHUT_RDWR);
			return;
		}
		client->fd = fd;
		client->since = http->loop->now;
		http->n_clients++;
	} else if (client != NULL) {
		client->fd = -1;
		http->n_clients--;
	}
	poll_listener(http);
}

static void
on_listener(void *owner, struct loop_ref ref, uint32_t events)
{
	struct http *http = owner;

	(void)ref;
	(void)events;
	for (unsigned i = 0; i < ACCEPT_MOST && http->n_clients < HTTP_CLIENTS_MAX; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t length = sizeof(peer);
		int fd = accept4(http->fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);

		/* A client that is still there would make the listener readable again at once. */
		if (fd == -1 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			http->deaf = true;
			poll_listener(http);
		}
		if (fd == -1)
			break;
		/* It takes the descriptor even when it fails. */
		(void)MHD_add_connection(http->daemon, fd, (struct sockaddr *)&peer, length);
	}
	run(http);
}

/* ---- life --------------------------------------------------------------------------------------------------------------------------- */

int
http_start(struct http *http, struct loop *loop, uint8_t kind_listener, uint8_t kind_clients, http_write_fn *write, void *owner)
{
	const union MHD_DaemonInfo *info;

	/* The C library reads the time zone once, for the Date header, too; later there are no files. */
	tzset();
	http->loop = loop;
	http->kind_listener = kind_listener;
	http->kind_clients = kind_clients;
	http->write = write;
	http->owner = owner;
	http->look_at = LOOP_NEVER;
	http->timer = (struct loop_timer){ .fn = on_timer, .arg = http };
	for (unsigned i = 0; i < HTTP_CLIENTS_MAX; i++)
		http->clients[i] = (struct http_client){ .http = http, .fd = -1 };
	http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, http,
	    MHD_OPTION_CONNECTION_LIMIT, HTTP_CLIENTS_MAX + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY,
	    MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_STRICT_FOR_CLIENT, 1,
	    MHD_OPTION_END);
	if (http->daemon == NULL)
		return -1;
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	loop_on(loop, kind_listener, on_listener, http);
	loop_on(loop, kind_clients, on_clients, http);
	if (info != NULL && loop_add(loop, info->epoll_fd, EPOLLIN, (struct loop_ref){ .kind = kind_clients }) == 0)
		return 0;
	http_free(http);
	return -1;
}

void
http_listen(struct http *http, int *fd)
{
	if (http->daemon == NULL)
		return;
	if (http->fd != -1)
		(void)loop_remove(http->loop, http->fd);
	fd_close(&http->fd);
	http->fd = fd_take(fd);
	if (loop_add(http->loop, http->fd, 0, listener_ref(http)) == -1)
		log_err("cannot watch the metrics listener");
	poll_listener(http);
}

void
http_open(struct http *http)
{
	if (http->daemon == NULL)
		return;
	http->open = true;
	poll_listener(http);
}

void
http_free(struct http *http)
{
	if (http->daemon != NULL) {
		loop_timer_clear(http->loop, &http->timer);
		MHD_stop_daemon(http->daemon);
	}
	http->daemon = NULL;
	fd_close(&http->fd);
	for (unsigned i = 0; i < HTTP_PATHS; i++) {
		doc_drop(http->docs[i]);
		http->docs[i] = NULL;
	}
}

#else /* a build without the library; the parent refuses a configuration that asks for it */

const struct sandbox_rule http_syscalls[] = {
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};

int
http_start(struct http *http, struct loop *loop, uint8_t kind_listener, uint8_t kind_clients, http_write_fn *write, void *owner)
{
	(void)http, (void)loop, (void)kind_listener, (void)kind_clients, (void)write, (void)owner;
	errno = ENOSYS;
	return -1;
}

void
http_listen(struct http *http, int *fd)
{
	(void)http;
	fd_close(fd);
}

void
http_open(struct http *http)
{
	(void)http;
}

void
http_free(struct http *http)
{
	(void)http;
}

#endif
