/* SPDX-License-Identifier: ISC */
/*
 * The first half of conf_load(): everything that looks at nothing but the texts themselves.
 * Runs in: parent
 */
#ifndef PARENT_CONF_READ_H
#define PARENT_CONF_READ_H

#include "parent_conf_draft.h"

/* Services from -l and -c; each is named by its listener. */
void conf_read_pairs(struct conf_draft *draft, const struct conf_options *options);
/* Options that win over the file, then what the top level says to services that do not, then the rules for one service. */
void conf_read_finish(struct conf_draft *draft, const struct conf_options *options);

#endif
