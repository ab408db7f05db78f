/* SPDX-License-Identifier: ISC */
/*
 * The control socket.
 * Runs in: reporter
 *
 * Theory of operation: who a client is comes from the kernel at connect (SO_PEERCRED, SO_PEERGROUPS), never from what it says; control-mode says
 * what that lets it do. A client asks once and then reads: nothing more of it is read until its answer is complete, so it can queue nothing up.
 * Everything is bounded: clients, rows and messages of one turn, the time for which an answer may wait for its reader. What breaks the protocol ends
 * the client, with a line for it, and nothing else.
 *
 * Descriptors that a client attaches are refused by the kernel (chan_refuse_fds() on the listener, Linux 6.16). An older one would let us drop
 * them, and dropping the last reference to a socket with SO_LINGER waits: a client with such a message pending is left alone, unread and unclosed.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fdutil.h"
#include "log.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59		/* Linux 4.13, include/uapi/asm-generic/socket.h */
#endif

#define ACCEPTS_PER_TURN 8u
/* Supplementary groups that are looked at; NGROUPS_MAX is 65536, and somebody with more than this has to be let in by another way. */
#define GROUPS_MOST 1024u
/* A client that asked nothing for so long gives its place to another one. */
#define IDLE_LEAST (1 * NS_PER_S)
/* For reading the next piece of an answer. */
#define READ_WITHIN (10 * NS_PER_S)
#define LOOK_EVERY (1 * NS_PER_S)
#define QUIET (60 * NS_PER_S)

static int on_ask(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_ASK] = on_ask,
};

static struct loop_ref
ref_of(const struct control_client *client)
{
	const struct control *control = client->control;

	return (struct loop_ref){ .kind = control->kind_client, .index = (uint32_t)(client - control->clients),
		.generation = client->generation & LOOP_GENERATION_MASK };
}

static void
drop(struct control_client *client)
{
	(void)loop_remove(client->control->loop, client->chan.fd);
	chan_close(&client->chan);
	show_free(&client->show);
	client->state = CONTROL_FREE;
}

/* What the client is waited for in each state. HUP is always told. */
static void
enter(struct control_client *client, enum control_state state)
{
	uint32_t events = state == CONTROL_IDLE ? EPOLLIN : state == CONTROL_ANSWERING ? EPOLLOUT : 0;

	client->state = state;
	client->full = false;
	client->active_at = client->control->loop->now;
	if (state == CONTROL_ANSWERING && client->control->timer.pos == 0)
		loop_timer_set(client->control->loop, &client->control->timer, client->control->loop->now + LOOK_EVERY);
	if (loop_modify(client->control->loop, client->chan.fd, events, ref_of(client)) == -1)
		drop(client);
}

/* ---- who may --------------------------------------------------------------------------------------------------------------------------- */

static bool
in_group(int fd, const struct ucred *peer, uint32_t gid)
{
	static gid_t groups[GROUPS_MOST];
	socklen_t size = sizeof(groups);

	if (peer->gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == -1)
		return false;
	for (size_t i = 0; i < size / sizeof(groups[0]); i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

/* The bits of control-mode that count for this peer: r 4, w 2. Root and whoever the parent runs as may do everything. */
static unsigned
rights_of(const struct msg_listen *access, int fd, const struct ucred *peer)
{
	if (peer->uid == 0 || peer->uid == access->uid)
		return 6;
	return (in_group(fd, peer, access->gid) ? access->mode >> 3 : access->mode) & 6;
}

/* ---- requests -------------------------------------------------------------------------------------------------------------------------- */

static void
say_how(struct control_client *client, enum ctl_code code, const char *text)
{
	show_begin_end(&client->show, &client->control->source, code, "%s", text);
	enter(client, CONTROL_ANSWERING);
}

static void
forward(struct control_client *client, struct msg_request *request)
{
	struct control *control = client->control;

	request->number = ++control->requests;
	request->uid = client->uid;
	request->pid = client->pid;
	if (!control->ask_parent(control->owner, request)) {
		say_how(client, CTL_REFUSED, "nsproxy is busy; try again");
		return;
	}
	client->request = request->number;
	enter(client, CONTROL_WAITING);
}

/* drain, resume: a service by its name, or all of them. */
static void
ask_for_service(struct control_client *client, const struct msg_ask *ask, struct msg_request *request)
{
	int number;

	request->service = CTL_ANY;
	if (ask->service[0] != '\0') {
		number = known_find_service(client->control->source.known, ask->service);
		if (number == -1) {
			show_begin_end(&client->show, &client->control->source, CTL_REFUSED,
			    "there is no service '%s'; nsproxyctl services lists them", ask->service);
			enter(client, CONTROL_ANSWERING);
			return;
		}
		request->service = (uint32_t)number;
	}
	forward(client, request);
}

static void
ask_for_change(struct control_client *client, const struct msg_ask *ask)
{
	struct msg_request request = { .verb = ask->verb, .level = ask->level };

	if (!client->may_change) {
		show_begin_end(&client->show, &client->control->source, CTL_REFUSED,
		    "uid %u may ask, but not change anything; see control-mode and control-group in nsproxy.conf(5)", client->uid);
		enter(client, CONTROL_ANSWERING);
	} else if (ask->verb == CTL_KILL) {
		show_begin_find(&client->show, &client->control->source, ask);
		enter(client, CONTROL_ANSWERING);
	} else if (ask->verb == CTL_DRAIN || ask->verb == CTL_RESUME) {
		ask_for_service(client, ask, &request);
	} else {
		forward(client, &request);
	}
}

static void
ask_for_rows(struct control_client *client, const struct msg_ask *ask)
{
	struct control *control = client->control;

	show_begin(&client->show, &control->source, ask);
	if (ask->verb == CTL_METRICS) {
		client->show.text = control->metrics(control->owner);
		if (client->show.text == NULL) {
			say_how(client, CTL_REFUSED, "the reporter has no memory for this answer");
			return;
		}
	}
	enter(client, CONTROL_ANSWERING);
}

static int
on_ask(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct control_client *client = owner;
	const struct msg_ask *ask = items;

	(void)count;
	(void)fds;
	(void)n_fds;
	if (ask->verb >= CTL_VERBS_COUNT || strnlen(ask->service, sizeof(ask->service)) == sizeof(ask->service) ||
	    (ask->client.family != 0 && ask->client.family != AF_INET && ask->client.family != AF_INET6) ||
	    (ask->verb == CTL_LOG_LEVEL && (ask->level < LOG_L_ERR || ask->level > LOG_L_DEBUG)) || (ask->verb == CTL_KILL && ask->id == 0))
		return -1;
	if (ctl_verb_changes(ask->verb))
		ask_for_change(client, ask);
	else
		ask_for_rows(client, ask);
	return 0;
}

void
control_on_result(struct control *control, const struct msg_result *result)
{
	for (uint32_t i = 0; control->clients != NULL && i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &control->clients[i];

		if (client->state != CONTROL_WAITING || client->request != result->number)
			continue;
		show_begin_end(&client->show, &control->source, result->code <= CTL_BAD ? (enum ctl_code)result->code : CTL_REFUSED, "%.*s",
		    (int)sizeof(result->text) - 1, result->text);
		enter(client, CONTROL_ANSWERING);
	}
}

/* ---- clients --------------------------------------------------------------------------------------------------------------------------- */

/* Found, or there is no such connection. */
static void
end_find(struct control_client *client)
{
	const struct show *show = &client->show;
	struct msg_request request = { .verb = CTL_KILL, .id = show->ask.id, .worker = show->worker, .slot = show->row };

	if (show->found)
		forward(client, &request);
	else
		say_how(client, CTL_REFUSED, "there is no such connection (any more)");
}

static void
answer(struct control_client *client)
{
	bool finding = client->show.ask.verb == CTL_KILL;
	enum show_result result = show_step(&client->show, &client->chan);

	if (result == SHOW_BROKEN || (result == SHOW_DONE && client->last)) {
		drop(client);
		return;
	}
	if (result == SHOW_BLOCKED) {
		if (!client->full)
			client->active_at = client->control->loop->now;
		client->full = true;
		return;
	}
	client->full = false;
	if (result != SHOW_DONE)
		return;
	if (finding)
		end_find(client);
	else
		enter(client, CONTROL_IDLE);
}

static void
say_misbehaviour(struct control *control, const struct control_client *client, const char *what)
{
	if (control->loop->now < control->quiet_until)
		return;
	control->quiet_until = control->loop->now + QUIET;
	log_warnx("control socket: a client (process %u, uid %u) is cut off: %s", client->pid, client->uid, what);
}

/* Whatever it was, it is told in our version of the protocol, whose head is the same in all: so it can say that it is of another one. */
static void
end_badly(struct control_client *client)
{
	if (errno != EPROTO) {
		drop(client);
		return;
	}
	/* nsproxyctl of another version is no misbehaviour. */
	if (client->chan.version == MSG_VERSION || client->chan.version == 0)
		say_misbehaviour(client->control, client, client->chan.wrong);
	client->last = true;
	say_how(client, CTL_BAD, client->chan.wrong);
}

/* Are there descriptors with what comes next? A look that takes nothing; the kernel says that it left some out. */
static bool
brings_fds(int fd)
{
	struct msghdr msg = { .msg_flags = 0 };

	return recvmsg(fd, &msg, MSG_PEEK | MSG_DONTWAIT) != -1 && (msg.msg_flags & MSG_CTRUNC);
}

static void
read_ask(struct control_client *client)
{
	if (brings_fds(client->chan.fd)) {
		say_misbehaviour(client->control, client, "it sends descriptors");
		(void)loop_remove(client->control->loop, client->chan.fd);
		client->active_at = LOOP_NEVER;		/* never to be evicted */
		return;
	}
	if (chan_recv(&client->chan) == -1)
		end_badly(client);
}

static void
client_on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct control *control = owner;
	struct control_client *client;

	if (ref.index >= CONTROL_CLIENTS)
		return;
	client = &control->clients[ref.index];
	if (client->state == CONTROL_FREE || (client->generation & LOOP_GENERATION_MASK) != ref.generation)
		return;
	/* What it asked before it hung up is of no use to anybody, unless it was asked to change something: that is on its way already. */
	if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN))
		drop(client);
	else if (client->state == CONTROL_IDLE)
		read_ask(client);
	else if (client->state == CONTROL_ANSWERING && (events & EPOLLHUP))
		drop(client);
	else if (client->state == CONTROL_ANSWERING)
		answer(client);
	else if (events & (EPOLLHUP | EPOLLERR))
		drop(client);
}

/* The one that has asked nothing for longest; NULL: all are busy. */
static struct control_client *
longest_idle(struct control *control, bool of_root_too)
{
	struct control_client *found = NULL;

	for (uint32_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &control->clients[i];

		if (client->state == CONTROL_IDLE && client->active_at < control->loop->now - IDLE_LEAST && (of_root_too || client->uid != 0) &&
		    (found == NULL || client->active_at < found->active_at))
			found = client;
	}
	return found;
}

/* A free place for somebody of this uid; NULL: there is none. Others than root leave some for root. */
static struct control_client *
place_for(struct control *control, uint32_t uid)
{
	struct control_client *place = NULL;
	uint32_t others = 0;

	for (uint32_t i = 0; i < CONTROL_CLIENTS; i++) {
		if (control->clients[i].state == CONTROL_FREE)
			place = &control->clients[i];
		else
			others += control->clients[i].uid != 0;
	}
	if (place != NULL && (uid == 0 || others < CONTROL_CLIENTS - CONTROL_FOR_ROOT))
		return place;
	place = longest_idle(control, uid == 0);
	if (place != NULL)
		drop(place);
	return place;
}

static void
admit(struct control *control, int fd)
{
	struct ucred peer = { 0, 0, 0 };
	socklen_t size = sizeof(peer);
	struct control_client *client;
	FD_AUTO int owned = fd;
	unsigned rights;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1)
		return;
	client = place_for(control, peer.uid);
	if (client == NULL)
		return;
	rights = rights_of(&control->access, fd, &peer);
	client->generation++;
	client->uid = peer.uid;
	client->pid = (uint32_t)peer.pid;
	client->may_change = (rights & 2) != 0;
	client->last = rights == 0;
	chan_init(&client->chan, fd_take(&owned), MSG_R, MSG_C, handlers, client);
	client->chan.phase = MSG_SERVING;
	if (loop_add(control->loop, client->chan.fd, 0, ref_of(client)) == -1) {
		chan_close(&client->chan);
		return;
	}
	if (rights != 0) {
		enter(client, CONTROL_IDLE);
		return;
	}
	show_begin_end(&client->show, &control->source, CTL_REFUSED,
	    "uid %u may not ask nsproxy; see control-mode and control-group in nsproxy.conf(5)", client->uid);
	enter(client, CONTROL_ANSWERING);
}

/* Listens, or not for a while: the kernel is out of something, and would say so again at once. */
static void
hear(struct control *control, bool on)
{
	if (control->listen_fd != -1 && control->deaf == on &&
	    loop_modify(control->loop, control->listen_fd, on ? EPOLLIN : 0, (struct loop_ref){ .kind = control->kind_listener }) == 0)
		control->deaf = !on;
}

static void
look_on_timer(void *owner, void *arg)
{
	struct control *control = arg;
	bool any = false;

	(void)owner;
	hear(control, true);
	for (uint32_t i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &control->clients[i];

		if (client->state != CONTROL_ANSWERING)
			continue;
		any = true;
		if (!client->full || control->loop->now - client->active_at < READ_WITHIN)
			continue;
		say_misbehaviour(control, client, "it does not read its answer");
		drop(client);
	}
	if (any)
		loop_timer_set(control->loop, &control->timer, control->loop->now + LOOK_EVERY);
}

static void
listener_on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct control *control = owner;

	(void)ref;
	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1 && errno != EAGAIN && errno != ECONNABORTED)
			hear(control, false);
		if (fd == -1)
			break;
		admit(control, fd);
	}
	if (control->timer.pos == 0)
		loop_timer_set(control->loop, &control->timer, control->loop->now + LOOK_EVERY);
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------------ */

int
control_init(struct control *control, struct loop *loop, uint8_t kind_listener, uint8_t kind_client, const struct show_source *source,
    control_ask_fn *ask_parent, control_metrics_fn *metrics, void *owner)
{
	*control = (struct control){ .loop = loop, .kind_listener = kind_listener, .kind_client = kind_client, .source = *source,
		.ask_parent = ask_parent, .metrics = metrics, .owner = owner, .listen_fd = -1,
		.timer = { .fn = look_on_timer, .arg = control } };
	control->clients = calloc(CONTROL_CLIENTS, sizeof(*control->clients));
	if (control->clients == NULL)
		return -1;
	for (uint32_t i = 0; i < CONTROL_CLIENTS; i++) {
		control->clients[i].control = control;
		control->clients[i].chan.fd = -1;
	}
	loop_on(loop, kind_listener, listener_on_event, control);
	loop_on(loop, kind_client, client_on_event, control);
	return 0;
}

int
control_listen(struct control *control, const struct msg_listen *access, int *fd)
{
	if (control->listen_fd != -1) {
		(void)loop_remove(control->loop, control->listen_fd);
		fd_close(&control->listen_fd);
	}
	control->access = *access;
	control->listen_fd = fd_take(fd);
	control->deaf = false;
	return loop_add(control->loop, control->listen_fd, EPOLLIN, (struct loop_ref){ .kind = control->kind_listener });
}

bool
control_busy(const struct control *control)
{
	for (uint32_t i = 0; control->clients != NULL && i < CONTROL_CLIENTS; i++) {
		if (control->clients[i].state == CONTROL_ANSWERING && !control->clients[i].full)
			return true;
	}
	return false;
}

void
control_finish(struct control *control)
{
	for (uint32_t i = 0; control->clients != NULL && i < CONTROL_CLIENTS; i++) {
		struct control_client *client = &control->clients[i];

		if (client->state == CONTROL_ANSWERING && client->show.ask.verb == CTL_LOG_LEVEL)
			(void)show_step(&client->show, &client->chan);
	}
}

void
control_free(struct control *control)
{
	for (uint32_t i = 0; control->clients != NULL && i < CONTROL_CLIENTS; i++) {
		if (control->clients[i].active_at != LOOP_NEVER)
			chan_close(&control->clients[i].chan);
		show_free(&control->clients[i].show);
	}
	free(control->clients);
	control->clients = NULL;
	fd_close(&control->listen_fd);
}
