/* SPDX-License-Identifier: ISC */
/*
 * Rules across settings.
 * Runs in: parent
 */
#ifndef PARENT_CONF_CHECK_H
#define PARENT_CONF_CHECK_H

#include <stdbool.h>

#include "parent_conf_draft.h"

bool engine_compiled_in(enum engine_id engine);
/* Does the reporter of this build have an HTTP library? */
bool metrics_compiled_in(void);

/* What can be said before names are resolved: which settings a service must have, ranges, what goes with unix addresses. */
void conf_check_services(struct conf_draft *draft);
/* What needs sockaddrs: overlapping listeners, the family of `source`, uids for all workers. */
void conf_check_resolved(struct conf_draft *draft);

#endif
