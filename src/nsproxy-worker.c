/* SPDX-License-Identifier: ISC */
/*
 * nsproxy-worker: relays in one private network namespace, without any privilege. Started by nsproxy, never by hand.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker.h"

#include <unistd.h>

#include "log.h"

static struct worker worker;

int
main(void)
{
	log_set_program("nsproxy-worker");
	worker_init(&worker);
	worker_prepare(&worker);
	worker_confine(&worker);
	_exit((int)worker_run(&worker));
}
