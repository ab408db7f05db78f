/* SPDX-License-Identifier: ISC */
/*
 * nsproxy.conf(5) through libconfuse into a draft.
 * Runs in: parent
 *
 * Every value is a string to libconfuse; the callback below hands it to its row of conf_keys while the line is still known. Callbacks never
 * refuse a value, so that one run finds all errors. include() is ours: libconfuse's own keeps its state after an error and does not glob.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_file.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fdutil.h"
#include "parent_conf_key.h"
#include "parent_conf_text.h"

#define FILE_MOST (1024 * 1024)		/* bytes; no configuration is that long, a device or a log is */
#define INCLUDES_MOST 8			/* nested */

/* libconfuse gives its callbacks no pointer of ours, and can parse one configuration at a time. */
static struct {
	struct conf_draft *draft;
	cfg_t *cfg;
	struct conf_seen top;
	struct {
		dev_t dev;
		ino_t ino;
	} stack[INCLUDES_MOST];		/* files being read, outermost first */
	unsigned depth;
} reader;

static void read_file(const char *path, const struct conf_where *from);

static int
on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	struct conf_where where = { draft_file(reader.draft, cfg->filename), cfg->line, opt->name };
	const struct conf_key *key;
	struct draft_service *service = NULL;

	key = conf_key_find(opt->name, cfg->title != NULL ? KEY_SERVICE : KEY_TOP);
	ASSERT(key != NULL);
	where.what = key->name;
	if (cfg->title != NULL) {
		service = draft_service_find(reader.draft, cfg->title);
		ASSERT(service != NULL);
	}
	key->set(reader.draft, service, value, &where);
	*(const char **)result = value;
	return 0;
}

static void __attribute__((format(printf, 2, 0)))
on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	struct conf_where where = { draft_file(reader.draft, cfg->filename != NULL ? cfg->filename : "?"), cfg->line, NULL };
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	draft_error(reader.draft, &where, EXIT_CMDLINE, "%s", text);
}

/* Patterns are relative to the file that they stand in. Allocated. */
static char *
include_pattern(const char *file, const char *pattern)
{
	const char *slash = strrchr(file, '/');
	char *path;

	if (pattern[0] == '/' || slash == NULL)
		return draft_copy(pattern);
	if (asprintf(&path, "%.*s/%s", (int)(slash - file), file, pattern) == -1)
		fatal(EXIT_MACHINE, "cannot keep the configuration");
	return path;
}

static void
include_matches(const char *pattern, const struct conf_where *where)
{
	glob_t matches;
	size_t i;
	int error = glob(pattern, GLOB_ERR, NULL, &matches);

	if (error == GLOB_NOMATCH && strpbrk(pattern, "*?[") == NULL)
		draft_error(reader.draft, where, EXIT_CMDLINE, "cannot read '%s': %s", pattern, strerror(ENOENT));
	else if (error == GLOB_ABORTED)
		draft_error(reader.draft, where, EXIT_CMDLINE, "cannot read '%s': %s", pattern, strerror(errno));
	else if (error == GLOB_NOSPACE)
		fatalx(EXIT_MACHINE, "cannot keep the configuration: %s", strerror(ENOMEM));
	for (i = 0; error == 0 && i < matches.gl_pathc; i++)
		read_file(matches.gl_pathv[i], where);
	globfree(&matches);
}

static int
on_include(cfg_t *cfg, cfg_opt_t *opt, int argc, const char **argv)
{
	struct conf_where where = { draft_file(reader.draft, cfg->filename), cfg->line, "include" };
	char *pattern;

	(void)opt;
	(void)argc;
	if (reader.draft->pure)
		return 0;
	pattern = include_pattern(where.file, argv[0]);
	include_matches(pattern, &where);
	free(pattern);
	return 0;
}

/* libconfuse's table for one scope, made from ours; it copies what it is given. */
static cfg_opt_t *
make_opts(unsigned scope, cfg_opt_t *service_opts)
{
	cfg_opt_t end = CFG_END(), include = CFG_FUNC("include", on_include), *opts = NULL;
	cfg_opt_t service = CFG_SEC("service", service_opts, CFGF_MULTI | CFGF_TITLE);
	const struct conf_key *key;
	size_t n = 0;

	for (key = conf_keys; key->name != NULL; key++) {
		cfg_opt_t one = CFG_STR_CB(key->name, NULL, CFGF_NODEFAULT, on_value);
		cfg_opt_t many = CFG_STR_LIST_CB(key->name, NULL, CFGF_NODEFAULT, on_value);

		if ((key->scope & scope) == 0)
			continue;
		opts = draft_grow(opts, n, sizeof(*opts));
		opts[n++] = key->list ? many : one;
	}
	opts = draft_grow(opts, n + 2, sizeof(*opts));
	if (scope == KEY_TOP) {
		opts[n++] = service;
		opts[n++] = include;
	}
	opts[n] = end;
	return opts;
}

static void
reader_begin(struct conf_draft *draft)
{
	cfg_opt_t *service_opts = make_opts(KEY_SERVICE, NULL), *top_opts = make_opts(KEY_TOP, service_opts);

	memset(&reader, 0, sizeof(reader));
	reader.draft = draft;
	reader.cfg = cfg_init(top_opts, CFGF_NONE);
	if (reader.cfg == NULL)
		fatal(EXIT_MACHINE, "cannot keep the configuration");
	cfg_set_error_function(reader.cfg, on_error);
	free(service_opts);
	free(top_opts);
}

static void
reader_end(void)
{
	cfg_free(reader.cfg);
	memset(&reader, 0, sizeof(reader));
}

/* Parses within whatever is being parsed: libconfuse's place in the outer file is put back afterwards. */
static void
parse_text(const char *name, const char *text, size_t len)
{
	char *copy = conf_text_guard(reader.draft, name, text, len, &reader.top), *outer_name = reader.cfg->filename;
	int outer_line = reader.cfg->line;
	/* An empty stream is an error to fmemopen(3); the terminator stands in for a newline. */
	FILE *stream;

	copy[len] = '\n';
	stream = fmemopen(copy, len + 1, "r");
	if (stream == NULL)
		fatal(EXIT_MACHINE, "cannot keep the configuration");
	reader.cfg->filename = draft_copy(name);
	if (cfg_parse_fp(reader.cfg, stream) != CFG_SUCCESS && reader.draft->first == EXIT_OK)
		draft_error(reader.draft, &(struct conf_where){ draft_file(reader.draft, name), reader.cfg->line, NULL }, EXIT_CMDLINE, "cannot be parsed");
	free(reader.cfg->filename);
	reader.cfg->filename = outer_name;
	reader.cfg->line = outer_line;
	fclose(stream);
	free(copy);
}

/* Allocated; NULL with errno. Reads no more than FILE_MOST. */
static char *
slurp(int fd, size_t *len)
{
	char *text = draft_grow(NULL, FILE_MOST, 1);
	ssize_t n;

	for (*len = 0; *len <= FILE_MOST; *len += (size_t)n) {
		n = read(fd, text + *len, FILE_MOST + 1 - *len);
		if (n == 0)
			return text;
		if (n == -1 && errno == EINTR)
			n = 0;
		if (n == -1)
			break;
	}
	if (*len > FILE_MOST)
		errno = EFBIG;
	free(text);
	return NULL;
}

/* Is it among the files that led here? */
static bool
is_loop(const struct stat *st)
{
	unsigned i;

	for (i = 0; i < reader.depth; i++)
		if (reader.stack[i].dev == st->st_dev && reader.stack[i].ino == st->st_ino)
			return true;
	return false;
}

/* Opens what may be read as a configuration, a pipe too: -1 with errno. O_NONBLOCK only keeps a fifo without a writer from hanging open(2). */
static int
open_file(const char *path, struct stat *st)
{
	FD_AUTO int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd == -1 || fstat(fd, st) == -1)
		return -1;
	if (S_ISDIR(st->st_mode)) {
		errno = EISDIR;
		return -1;
	}
	if (fcntl(fd, F_SETFL, 0) == -1)
		return -1;
	return fd_take(&fd);
}

static void
read_file(const char *path, const struct conf_where *from)
{
	struct stat st;
	FD_AUTO int fd = open_file(path, &st);
	char *text = NULL;
	size_t len;

	if (fd != -1 && (is_loop(&st) || reader.depth == INCLUDES_MOST)) {
		draft_error(reader.draft, from, EXIT_CMDLINE, "'%s' %s", path, is_loop(&st) ? "includes itself" : "is included too deeply");
		return;
	}
	if (fd != -1)
		text = slurp(fd, &len);
	if (text == NULL) {
		draft_error(reader.draft, from, EXIT_CONFIG, "cannot read '%s': %s", path, strerror(errno));
		return;
	}
	reader.stack[reader.depth].dev = st.st_dev;
	reader.stack[reader.depth++].ino = st.st_ino;
	parse_text(path, text, len);
	reader.depth--;
	free(text);
}

void
conf_file_read(struct conf_draft *draft, const char *path)
{
	struct conf_where nowhere = { NULL, 0, NULL };

	reader_begin(draft);
	read_file(path, &nowhere);
	reader_end();
}

void
conf_file_parse(struct conf_draft *draft, const char *name, const char *text, size_t len)
{
	reader_begin(draft);
	parse_text(name, text, len);
	reader_end();
}
