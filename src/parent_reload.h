/* SPDX-License-Identifier: ISC */
/*
 * Reload and upgrade: a child tries the whole start first; when that went well, this process executes the image in its own place.
 * Runs in: parent
 *
 * Theory of operation: a trial is nsproxy itself, with our arguments and a state that says what we have open. It reads the configuration, opens what
 * is new, starts a reporter and all workers, and leaves the configuration that it read in a memfd when all are ready; it accepts nobody and takes over
 * nothing. What it logs comes to us through a pipe. We serve on meanwhile. A trial that fails, or hangs, has changed nothing. One at a time: what is
 * asked for meanwhile is done once more afterwards, however often it was asked for.
 */
#ifndef PARENT_RELOAD_H
#define PARENT_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"
#include "loop.h"
#include "parent_conf.h"
#include "parent_state.h"

/* IDLE; TRYING: the trial runs; SETTLING: we are the new image, and our workers are not all there yet; STOPPED: none is begun any more. */
enum reload_phase { RELOAD_IDLE, RELOAD_TRYING, RELOAD_SETTLING, RELOAD_STOPPED };

/* What the parent has to do for it. */
struct reload_ops {
	/* Fills in what the new image has to know, for a trial or for the replacement. */
	void (*keep)(void *owner, struct state *state);
	/* A trial has begun; or nothing has changed, and why. request: number that the reporter gave it, 0: a signal. */
	void (*begun)(void *owner);
	void (*refused)(void *owner, uint64_t request, const char *why);
	/* The trial went well. Executes the program; returns only when that fails, with errno. Then refused() follows. */
	void (*replace)(void *owner, int program, int conf_fd);
};

struct reload {
	struct loop *loop;
	uint8_t kind;			/* of our references in the loop */
	const struct reload_ops *ops;
	void *owner;
	char *const *argv;
	const char *path;		/* where our program was found at the first start */
	enum reload_phase phase;
	bool upgrade;			/* this one looks for the programs anew */
	uint64_t request;
	bool again, again_upgrade;	/* asked for meanwhile */
	pid_t pid;			/* of the trial */
	int program;			/* that it tries. Owned */
	int log_fd;			/* reading end of its stderr. Owned */
	int conf_fd;			/* where it leaves the configuration. Owned */
	uint32_t generation;		/* counts the trials, for log_fd's events */
	char line[LOG_TEXT_MAX];	/* of its log, not complete yet */
	size_t used;
	char why[256];			/* its first error, or ours */
	struct loop_timer timer;	/* it takes too long */
};

/* path and argv must outlive it. */
void reload_init(struct reload *reload, struct loop *loop, uint8_t kind, const struct reload_ops *ops, void *owner, char *const argv[], const char *path);
/*
 * Begins a reload, or an upgrade; what is under way is not disturbed, this one comes after it. 0; -1: not now, and refused() is not called: the daemon
 * stops, or (for a request) another one is under way.
 */
int reload_begin(struct reload *reload, bool upgrade, uint64_t request);
/* We are the new image and have settled: what was asked for meanwhile is begun. */
void reload_settled(struct reload *reload);
/* True when pid was the trial's; goes on as its end calls for. */
bool reload_on_exit(struct reload *reload, pid_t pid, int status);
/* The daemon stops: a trial is killed, none is begun any more. */
void reload_stop(struct reload *reload);
void reload_free(struct reload *reload);
/*
 * Executes the program with our arguments, and with a state that is sealed here: in this process, or in a child that is a trial. Returns only when it
 * fails, with errno.
 */
void reload_exec(int program, char *const argv[], struct state *state);

#endif
