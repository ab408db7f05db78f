/* SPDX-License-Identifier: ISC */
/*
 * The control socket's listener.
 * Runs in: parent
 *
 * Connecting to a socket takes the right to write (unix(7)), so the mode of the path cannot tell those who may ask from those who may change
 * something. control-mode is therefore read by nsproxy: r is asking, w is changing. The path itself gets the right to write for everybody who
 * may do either, and the reporter looks at who has connected.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chan.h"
#include "fdutil.h"
#include "log.h"

/* Few people ask at the same time. */
#define BACKLOG 32

void
control_init(struct control *control)
{
	*control = (struct control){ .bound = { .fd = -1 } };
}

/* "rw- r-- ---" as rights to connect: rw for each class that has any. */
static mode_t
mode_of_path(mode_t mode)
{
	mode_t path = 0;

	for (unsigned shift = 0; shift <= 6; shift += 3)
		path |= mode >> shift & 6 ? 6u << shift : 0;
	return path;
}

/*
 * The directory of the default path is ours to make: nothing else needs it, and /run is empty after each boot. Below another prefix, as of a build
 * by hand, the one that it is in may be missing as well.
 */
static int
make_directory(const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
	mode_t old = umask(022);
	int r = 0;

	(void)strncpy(copy, path, sizeof(copy) - 1);
	copy[sizeof(copy) - 1] = '\0';
	for (char *slash = strchr(copy + 1, '/'); slash != NULL && r == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = mkdir(copy, 0755);
		/* What is there is not ours to judge; some file systems say EROFS first. */
		if (r == -1 && access(copy, F_OK) == 0)
			r = 0;
		*slash = '/';
	}
	(void)umask(old);
	return r;
}

static int
bind_control(struct control *control, const struct conf *conf, const char **step, const char **hint)
{
	struct conf_service like = { .unix_mode = mode_of_path(conf->control_mode), .unix_uid = geteuid(), .unix_gid = conf->control_gid,
		.backlog = BACKLOG };
	struct conf_endpoint endpoint = { .addr = { .len = sizeof(struct sockaddr_un) } };

	endpoint.addr.u.un.sun_family = AF_UNIX;
	(void)strncpy(endpoint.addr.u.un.sun_path, conf->control, sizeof(endpoint.addr.u.un.sun_path) - 1);
	*step = "make the directory of";
	if (!conf->control_set && make_directory(conf->control) == -1)
		return -1;
	return bind_unix(&like, &endpoint, SOCK_SEQPACKET, &control->bound, step, hint);
}

void
control_keep(const struct control *control, struct state *state)
{
	if (control->bound.fd == -1)
		return;
	state_put_fd(state, "control", control->bound.fd);
	state->head.control_dev = control->bound.dev;
	state->head.control_ino = control->bound.ino;
}

/* What the image before had; false: nothing. */
static bool
inherit(struct control *control, struct state *state)
{
	struct bound *bound = &control->bound;

	bound->fd = state_take_fd(state, "control");
	if (bound->fd == -1)
		return false;
	bound->dev = (dev_t)state->head.control_dev;
	bound->ino = (ino_t)state->head.control_ino;
	bound->addr.len = sizeof(bound->addr.u);
	if (getsockname(bound->fd, &bound->addr.u.sa, &bound->addr.len) == 0 && bound->addr.u.sa.sa_family == AF_UNIX)
		return true;
	fd_close(&bound->fd);
	return false;
}

static bool
is_as_configured(const struct bound *bound, const struct conf *conf)
{
	struct stat st;

	return conf->control != NULL && strcmp(bound->addr.u.un.sun_path, conf->control) == 0 && lstat(conf->control, &st) == 0 &&
	    st.st_dev == bound->dev && st.st_ino == bound->ino && (st.st_mode & 0777) == mode_of_path(conf->control_mode) &&
	    st.st_gid == conf->control_gid;
}

/* A trial has none of our descriptors, and touches nothing that the running image has. */
static bool
is_in_use_by_us(const struct conf *conf, const struct state *state)
{
	struct stat st;

	return state->head.control_ino != 0 && conf->control != NULL && lstat(conf->control, &st) == 0 && st.st_dev == state->head.control_dev &&
	    st.st_ino == state->head.control_ino;
}

/* True: that is settled. A socket that is not wanted as it is goes. */
static bool
take_over(struct control *control, const struct conf *conf, struct state *state)
{
	if (state->head.purpose == STATE_TRIAL)
		return is_in_use_by_us(conf, state);
	if (!inherit(control, state))
		return false;
	if (is_as_configured(&control->bound, conf))
		return true;
	control_close(control);
	return false;
}

int
control_open(struct control *control, const struct conf *conf, struct state *state)
{
	const char *step = "", *hint = NULL;

	if (state == NULL || !take_over(control, conf, state))
		control_init(control);
	else if (control->bound.fd == -1)
		return 0;
	control->msg = (struct msg_listen){ .kind = LISTEN_CONTROL, .mode = conf->control_mode, .uid = geteuid(), .gid = conf->control_gid };
	if (control->bound.fd != -1 || conf->control == NULL || conf->control[0] == '\0')
		return 0;
	if (bind_control(control, conf, &step, &hint) == 0) {
		chan_refuse_fds(control->bound.fd);
		return 0;
	}
	if (conf->control_set) {
		log_err("cannot %s the control socket %s%s%s", step, conf->control, hint != NULL ? ": " : "", hint != NULL ? hint : "");
		return -1;
	}
	log_warn("there is no control socket for nsproxyctl, since this could not %s %s (another place: -s PATH, none: -s '')%s%s", step,
	    conf->control, hint != NULL ? ": " : "", hint != NULL ? hint : "");
	return 0;
}

void
control_close(struct control *control)
{
	if (control->bound.fd != -1)
		bind_unlink(&control->bound);
	fd_close(&control->bound.fd);
}
