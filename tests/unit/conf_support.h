/* SPDX-License-Identifier: ISC */
/*
 * What the tests of configurations share: files of their own, lines that were said, no privilege.
 * Runs in: parent
 */
#ifndef CONF_SUPPORT_H
#define CONF_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "parent_conf.h"

extern char said[16384];		/* lines of the last load(), each with its newline */
extern unsigned lines;			/* how many */
extern char dir[];			/* of the test's files */
extern bool conf_one_id;		/* what caps_one_id() says */

/* Path of a file in the test's directory; static. */
const char *path_of(const char *name);
void write_file(const char *name, const char *text, size_t len);
enum exit_code load(const struct conf_options *options, struct conf *conf);
/* The text as t.conf. */
enum exit_code load_text(const char *text, struct conf *conf, struct conf_options options);
/* For cmocka_run_group_tests(). */
int make_dir(void **state);
int remove_dir(void **state);

#define TOP "user = nobody\n"
#define SERVICE "service s { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" }\n"
#define IN(more) TOP "service s {\n listen = \"127.0.0.1:1\"\n connect = \"127.0.0.1:2\"\n" more "\n}\n"

#endif
