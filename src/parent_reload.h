/* SPDX-License-Identifier: ISC */
/*
 * Reload and upgrade: a child tries the whole start first; when that went well, this process executes the image in its own place.
 * Runs in: parent
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

/*
 * How the reload that `request` asked for has ended without coming into force: code 1 and one line that says why. One that comes into force is
 * answered by the new image instead (reporter_hand_over()), since nothing of this one is left then.
 */
typedef void reload_refused_fn(void *owner, uint64_t request, const char *text);
/* The trial went well: keeps everything in *state and executes the program, an O_PATH descriptor. Returns only when that fails, with errno. */
typedef void reload_replace_fn(void *owner, int program, struct state *state);

/* IDLE; TRYING: the trial runs; SETTLING: we are the new image, and our workers are not all there yet. */
enum reload_phase { RELOAD_IDLE, RELOAD_TRYING, RELOAD_SETTLING };

struct reload {
	const struct conf *conf;
	struct loop *loop;
	uint8_t kind;			/* of our references in the loop */
	enum reload_phase phase;
	bool upgrade;			/* this one is by SIGUSR2, or the verb */
	uint64_t request;		/* number that the reporter gave it; 0: a signal */
	bool again, again_upgrade;	/* asked for meanwhile: done once more after this one */
	pid_t pid;			/* of the trial */
	int program;			/* that it tries. Owned */
	int log_fd;			/* reading end of its stderr. Owned */
	int conf_fd;			/* where it leaves the configuration it tried. Owned */
	uint32_t generation;		/* counts the trials, for log_fd's events */
	char line[LOG_TEXT_MAX];	/* of its log, not complete yet */
	size_t used;
	char why[256];			/* its first line at level err */
	struct loop_timer timer;	/* kills it when it hangs */
	reload_refused_fn *refused;
	reload_replace_fn *replace;
	void (*keep)(void *owner, struct state *state);	/* what the trial has to know */
	void *owner;
};

/*
 * Begins a reload, or an upgrade; coalesced with one that is under way, if there is one. `request` is 0 for a signal. 0, or -1 when this cannot be
 * asked for now (the daemon stops): then nothing was begun and refused() is not called.
 */
int reload_begin(struct reload *reload, bool upgrade, uint64_t request);

#endif
