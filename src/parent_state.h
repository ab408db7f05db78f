/* SPDX-License-Identifier: ISC */
/*
 * What the parent hands to the image that takes its place: everything that lives on, in one sealed memfd, and the descriptors that it names.
 * Runs in: parent
 *
 * The same is given to a trial, which only looks at it: what is there already need not be made, and must not be in the way.
 */
#ifndef PARENT_STATE_H
#define PARENT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "addr.h"
#include "msg.h"

/* Raise when anything in this file changes shape. An image refuses the state of another version. */
#define STATE_VERSION 2u

/* How a state begins. */
extern const char state_magic[8];

enum state_purpose { STATE_TRIAL = 1, STATE_REPLACE };

struct state_head {
	char magic[8];			/* state_magic */
	uint32_t version, msg_version;
	uint32_t purpose;		/* enum state_purpose */
	uint32_t upgrade;		/* by USR2: programs are looked for anew */
	uint64_t request;		/* number that the reporter gave the reload; 0: a signal */
	uint32_t again;			/* STATE_AGAIN_*: asked for meanwhile */
	uint32_t pidfile_made;
	uint64_t next_id;		/* of connections */
	uint64_t watchdog_ns;
	uint64_t filter;		/* which filter is in force (parent_confine.h) */
	uint64_t reloads, upgrades;	/* until now */
	uint64_t control_dev, control_ino;	/* of the control socket's path */
	int32_t reporter_pid;		/* 0: there is none */
	uint32_t pad;
};
#define STATE_AGAIN_RELOAD 1u
#define STATE_AGAIN_UPGRADE 2u

/* Its index is its number. */
struct state_service {
	char name[ROUTE_SERVICE_MAX];	/* "": the number is free */
	uint32_t removed;		/* of an earlier configuration; only old workers know it */
	uint32_t drained;
	uint32_t access_kind, log_empty;
	char access_path[1024];
};

/* Its index is its number. */
struct state_route {
	struct msg_names names;		/* service "": the number is free */
	uint32_t service;
	uint16_t first_port;		/* as configured; the one in names may be the kernel's choice */
	uint16_t removed;		/* of an earlier configuration; only old workers know it */
};

struct state_listener {
	int32_t fd;
	uint32_t route, service;
	uint32_t pool;			/* index in the image that kept it */
	uint16_t port_offset, port;	/* as configured */
	uint16_t any, shared;		/* shared: the service manager listens as well */
	uint64_t netns_dev, netns_ino;
	uint64_t dev, ino;		/* of a unix path that is ours */
	struct addr configured, bound;
};

/* A worker that lives; with pid 0 only the back-off of its slot. */
struct state_worker {
	char netns[256];		/* name of its pool's */
	uint64_t netns_dev, netns_ino;
	int32_t pid;
	uint32_t index, pool, generation;
	uint32_t state;			/* enum worker_state */
	uint32_t flags;			/* STATE_WORKER_* */
	int32_t chan_fd, report_fd, board_fd;
	uint32_t max_conns, n_services;	/* of its scoreboard */
	uint64_t started;
	uint32_t uid, gid;
	uint32_t pad;
	uint64_t feed;			/* digest of its set-up */
	uint64_t program_dev, program_ino, program_mtime;
	uint64_t sent;
	uint64_t ping_number, ping_at;
	uint64_t retire_until, told_until;
	uint64_t backoff_started, backoff_wait;
	struct msg_ready ready;
};
#define STATE_WORKER_RETIRED 1u
#define STATE_WORKER_ENDED 2u
#define STATE_WORKER_SAID 4u
#define STATE_WORKER_LATE 8u
#define STATE_WORKER_PING_SENT 16u

/* A client that was accepted and could not be sent yet. */
struct state_conn {
	uint32_t worker;		/* index into the workers here */
	uint32_t service;
	int32_t fd;
	uint32_t pad;
	struct msg_conn conn;
};

/* A worker that died before the reporter was told. */
struct state_dead {
	struct msg_worker msg;
	uint64_t death;			/* its number */
	int32_t report_fd, board_fd;
};

/* The descriptors that are nobody's row: whoever needs one over a reload keeps it by a name of its own. */
struct state_fd {
	char name[28];
	int32_t fd;
};

struct state {
	struct state_head head;
	char *self;			/* path of the program, for the next upgrade */
	struct state_service *services;
	struct state_route *routes;
	struct state_listener *listeners;
	struct state_worker *workers;
	uint64_t *sent;			/* [n_workers][n_services] */
	struct state_conn *conns;
	struct state_dead *dead;
	struct state_fd *fds;
	struct state_listener metrics;	/* fd -1: none; else it is in fds, by the name "metrics" */
	uint32_t n_services, n_routes, n_listeners, n_workers, n_sent, n_conns, n_dead, n_fds;
};

/* Bytes of the state, the caller's to free; *size of them. */
void *state_pack(struct state *state, size_t *size);
/* 0, or -1: not a state; *why says so, or names the versions. On success state_free() is the caller's. */
int state_unpack(const void *data, size_t size, struct state *state, char why[128]);
/* Frees the tables; descriptors stay open. */
void state_free(struct state *state);

/* A sealed memfd with it, close-on-exec. -1 with errno. */
int state_seal(struct state *state);
/*
 * The state that this process was executed with; NULL when it was started by somebody. The descriptors that it names are close-on-exec again.
 * Exits after a line when there is one that cannot be read.
 */
struct state *state_receive(void);
/* The environment's variable that names the memfd, "NSPROXY_STATE=7". */
void state_variable(int fd, char buf[32]);
/*
 * All descriptors that it names: 0 keeps them open over exec, 1 closes them then. A trial has those of `fds` only: the others it just knows of. 0 or -1
 * with errno.
 */
int state_set_cloexec(const struct state *state, int on);

/* Keeps a descriptor under a name, which must be a constant shorter than 28 bytes. -1: nothing is kept. */
void state_put_fd(struct state *state, const char *name, int fd);
/* The descriptor of that name, the caller's from now on; -1: there is none. */
int state_take_fd(struct state *state, const char *name);

#endif
