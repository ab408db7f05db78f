/* SPDX-License-Identifier: ISC */
/*
 * Configuration files of any bytes: read, not acted upon (no include, no namespace, no resolver).
 * Runs in: parent
 */
#include <stdint.h>
#include <stdlib.h>

#include "parent_caps.h"
#include "parent_conf_draft.h"
#include "parent_conf_file.h"
#include "parent_conf_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stand in for parent_caps.c, which nothing reaches from here. */
bool
caps_raise(int cap)
{
	(void)cap;
	return false;
}

void
caps_lower(int cap)
{
	(void)cap;
}

int
caps_drop_for_good(unsigned uid, unsigned gid, bool one_id, const char **step)
{
	(void)uid;
	(void)gid;
	(void)one_id;
	*step = "";
	return -1;
}

bool
caps_one_id(void)
{
	return false;
}

static void
drop_line(void *owner, enum log_level level, const char *text)
{
	unsigned *lines = owner;

	(void)level;
	(void)text;
	++*lines;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct conf_options options;
	struct conf_draft draft;
	unsigned lines = 0;
	size_t i;

	log_set_sink(drop_line, &lines);
	draft_init(&draft);
	draft.pure = true;
	conf_file_parse(&draft, "fuzz.conf", (const char *)data, size);
	conf_read_finish(&draft, &options);
	/* An error is never silent, and what is accepted is complete. */
	if ((draft.first == EXIT_OK) != (lines == 0))
		abort();
	for (i = 0; draft.first == EXIT_OK && i < draft.n_services; i++)
		if (draft.services[i].n_listen == 0 || draft.services[i].n_connect != 1)
			abort();
	if (draft.first == EXIT_OK && draft.n_services == 0)
		abort();
	draft_free(&draft);
	return 0;
}
