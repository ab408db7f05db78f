/* SPDX-License-Identifier: ISC */
/*
 * What the parent hands to the image that takes its place.
 * Runs in: parent
 *
 * Theory of operation: tables of fixed-size structs, whose numbers are checked here, once, so that whoever uses them need not: indexes point into
 * their tables, texts end, descriptors are positive and none is named twice.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_codec.h"

const char state_magic[8] = { 'n', 's', 'p', ' ', 's', 't', 'a', 't' };

#define VARIABLE "NSPROXY_STATE"
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
/* Far more than there can be; a larger number is a mistake. */
#define ROWS_MOST (1u << 20)
#define SENT_MOST (1u << 26)
#define BYTES_MOST (1u << 30)

#define LIST(codec, state, list) codec_list((codec), (void **)&(state)->list, &(state)->n_##list, sizeof(*(state)->list), ROWS_MOST)

static void
code(struct codec *codec, struct state *state)
{
	CODE(codec, state->head);
	codec_text(codec, &state->self);
	LIST(codec, state, services);
	LIST(codec, state, routes);
	LIST(codec, state, listeners);
	LIST(codec, state, workers);
	codec_list(codec, (void **)&state->sent, &state->n_sent, sizeof(*state->sent), SENT_MOST);
	LIST(codec, state, conns);
	LIST(codec, state, dead);
	LIST(codec, state, fds);
	CODE(codec, state->metrics);
}

void *
state_pack(struct state *state, size_t *size)
{
	struct codec codec;

	memcpy(state->head.magic, state_magic, sizeof(state_magic));
	state->head.version = STATE_VERSION;
	state->head.msg_version = MSG_VERSION;
	codec_write(&codec);
	code(&codec, state);
	*size = codec.at;
	return codec.data;
}

/* ---- checks ------------------------------------------------------------------------------------------------------------------------- */

/* Every descriptor, each told to fn. False as soon as fn says so. */
static bool
each_fd(const struct state *state, bool (*fn)(void *arg, int fd), void *arg)
{
	bool ok = true;

	for (uint32_t i = 0; i < state->n_listeners && ok; i++)
		ok = fn(arg, state->listeners[i].fd);
	for (uint32_t i = 0; i < state->n_workers && ok; i++) {
		const struct state_worker *worker = &state->workers[i];

		if (worker->pid > 0)
			ok = fn(arg, worker->chan_fd) && fn(arg, worker->report_fd) && fn(arg, worker->board_fd);
	}
	for (uint32_t i = 0; i < state->n_conns && ok; i++)
		ok = fn(arg, state->conns[i].fd);
	for (uint32_t i = 0; i < state->n_dead && ok; i++)
		ok = fn(arg, state->dead[i].report_fd) && fn(arg, state->dead[i].board_fd);
	for (uint32_t i = 0; i < state->n_fds && ok; i++)
		ok = fn(arg, state->fds[i].fd);
	return ok;
}

static bool
is_ours(void *arg, int fd)
{
	(void)arg;
	return fd > STDERR_FILENO;
}

static bool
addr_is_sane(const struct addr *addr)
{
	return addr->len <= sizeof(addr->u);
}

static void
check_texts(struct codec *codec, const struct state *state)
{
	for (uint32_t i = 0; i < state->n_services; i++) {
		codec_terminated(codec, state->services[i].name, sizeof(state->services[i].name));
		codec_terminated(codec, state->services[i].access_path, sizeof(state->services[i].access_path));
	}
	for (uint32_t i = 0; i < state->n_routes; i++) {
		const struct msg_names *names = &state->routes[i].names;

		codec_terminated(codec, names->service, sizeof(names->service));
		codec_terminated(codec, names->public_netns, sizeof(names->public_netns));
		codec_terminated(codec, names->private_netns, sizeof(names->private_netns));
		codec_terminated(codec, names->listener_unix, sizeof(names->listener_unix));
		codec_terminated(codec, names->target_unix, sizeof(names->target_unix));
	}
	for (uint32_t i = 0; i < state->n_workers; i++)
		codec_terminated(codec, state->workers[i].netns, sizeof(state->workers[i].netns));
	for (uint32_t i = 0; i < state->n_fds; i++)
		codec_terminated(codec, state->fds[i].name, sizeof(state->fds[i].name));
}

static bool
indexes_are_sane(const struct state *state)
{
	bool ok = (uint64_t)state->n_workers * state->n_services == state->n_sent;

	for (uint32_t i = 0; i < state->n_routes && ok; i++)
		ok = state->routes[i].service < state->n_services || state->routes[i].names.service[0] == '\0';
	for (uint32_t i = 0; i < state->n_listeners && ok; i++) {
		const struct state_listener *listener = &state->listeners[i];

		ok = listener->route < state->n_routes && listener->service < state->n_services && addr_is_sane(&listener->configured) &&
		    addr_is_sane(&listener->bound);
	}
	for (uint32_t i = 0; i < state->n_conns && ok; i++)
		ok = state->conns[i].worker < state->n_workers && state->conns[i].service < state->n_services &&
		    state->workers[state->conns[i].worker].pid > 0;
	return ok;
}

int
state_unpack(const void *data, size_t size, struct state *state, char why[128])
{
	struct codec codec;

	memset(state, 0, sizeof(*state));
	codec_read(&codec, data, size);
	CODE(&codec, state->head);
	(void)snprintf(why, 128, "it is none");
	if (codec.bad || memcmp(state->head.magic, state_magic, sizeof(state_magic)) != 0)
		return -1;
	(void)snprintf(why, 128, "it is of version %u.%u, this program knows %u.%u", state->head.version, state->head.msg_version, STATE_VERSION,
	    MSG_VERSION);
	if (state->head.version != STATE_VERSION || state->head.msg_version != MSG_VERSION)
		return -1;
	codec_read(&codec, data, size);
	code(&codec, state);
	(void)snprintf(why, 128, "it is damaged");
	if (codec_done(&codec)) {
		check_texts(&codec, state);
		if (!codec.bad && indexes_are_sane(state) && each_fd(state, is_ours, NULL) &&
		    (state->head.purpose == STATE_TRIAL || state->head.purpose == STATE_REPLACE))
			return 0;
	}
	state_free(state);
	return -1;
}

void
state_free(struct state *state)
{
	free(state->self);
	free(state->services);
	free(state->routes);
	free(state->listeners);
	free(state->workers);
	free(state->sent);
	free(state->conns);
	free(state->dead);
	free(state->fds);
	memset(state, 0, sizeof(*state));
}

/* ---- from image to image ------------------------------------------------------------------------------------------------------------ */

static int
write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n <= 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

int
state_seal(struct state *state)
{
	FD_AUTO int fd = memfd_create("nsproxy-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t size;
	void *data;
	int r;

	if (fd == -1)
		return -1;
	data = state_pack(state, &size);
	r = write_all(fd, data, size);
	free(data);
	if (r == -1 || fcntl(fd, F_ADD_SEALS, SEALS) == -1)
		return -1;
	return fd_take(&fd);
}

/* The number in the variable, if that is one of ours: a memfd that nobody can change any more. */
static int
sealed_fd(const char *text, size_t *size)
{
	char *end;
	long fd = strtol(text, &end, 10);
	struct stat st;

	if (*text == '\0' || *end != '\0' || fd <= STDERR_FILENO || fd > INT32_MAX || fcntl((int)fd, F_GET_SEALS) != SEALS ||
	    fstat((int)fd, &st) == -1 || st.st_size <= 0 || st.st_size > (off_t)BYTES_MOST)
		return -1;
	*size = (size_t)st.st_size;
	return (int)fd;
}

struct state *
state_receive(void)
{
	const char *text = getenv(VARIABLE);
	struct state *state;
	char why[128] = "it is none";
	size_t size = 0;
	void *map;
	int fd;

	if (text == NULL)
		return NULL;
	fd = sealed_fd(text, &size);
	(void)unsetenv(VARIABLE);
	state = calloc(1, sizeof(*state));
	map = fd != -1 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	if (state == NULL || map == MAP_FAILED || state_unpack(map, size, state, why) == -1)
		fatalx(EXIT_MACHINE, "cannot go on from the state of the nsproxy before: %s", why);
	(void)munmap(map, size);
	fd_close(&fd);
	if (state_set_cloexec(state, 1) == -1)
		fatal(EXIT_MACHINE, "cannot go on from the state of the nsproxy before: a descriptor is missing");
	return state;
}

void
state_variable(int fd, char buf[32])
{
	(void)snprintf(buf, 32, VARIABLE "=%d", fd);
}

static bool
set_cloexec(void *arg, int fd)
{
	return fd_set_cloexec(fd, *(int *)arg) == 0;
}

int
state_set_cloexec(const struct state *state, int on)
{
	bool ok = true;

	if (state->head.purpose == STATE_REPLACE)
		return each_fd(state, set_cloexec, &on) ? 0 : -1;
	for (uint32_t i = 0; i < state->n_fds && ok; i++)
		ok = set_cloexec(&on, state->fds[i].fd);
	return ok ? 0 : -1;
}

void
state_put_fd(struct state *state, const char *name, int fd)
{
	struct state_fd *fds;

	if (fd == -1)
		return;
	fds = reallocarray(state->fds, state->n_fds + 1, sizeof(*fds));
	if (fds == NULL)
		fatal(EXIT_MACHINE, "cannot keep a descriptor");
	state->fds = fds;
	fds[state->n_fds] = (struct state_fd){ .fd = fd };
	(void)snprintf(fds[state->n_fds++].name, sizeof(fds->name), "%s", name);
}

int
state_take_fd(struct state *state, const char *name)
{
	for (uint32_t i = 0; i < state->n_fds; i++) {
		int fd = state->fds[i].fd;

		if (strcmp(state->fds[i].name, name) != 0)
			continue;
		state->fds[i] = state->fds[--state->n_fds];
		return fd;
	}
	return -1;
}
