/* SPDX-License-Identifier: ISC */
/*
 * What the tests of configurations share: files of their own, lines that were said, no privilege.
 * Runs in: parent
 */
#include "conf_support.h"

#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "parent_caps.h"

/* Stand in for parent_caps.c: this process changes no privilege. */
bool conf_one_id;

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
caps_drop_for_good(unsigned uid, unsigned gid, bool single, const char **step)
{
	(void)uid;
	(void)gid;
	(void)single;
	*step = "";
	return 0;
}

bool
caps_one_id(void)
{
	return conf_one_id;
}

char said[16384];
unsigned lines;
char dir[] = "/tmp/test_conf.XXXXXX";

static void
keep_line(void *owner, enum log_level level, const char *text)
{
	size_t used = strlen(said);

	(void)owner;
	(void)level;
	snprintf(said + used, sizeof(said) - used, "%s\n", text);
	lines++;
}

/* Path of a file in the test's directory; static. */
const char *
path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

void
write_file(const char *name, const char *text, size_t len)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

enum exit_code
load(const struct conf_options *options, struct conf *conf)
{
	said[0] = '\0';
	lines = 0;
	return conf_load(options, conf);
}

enum exit_code
load_text(const char *text, struct conf *conf, struct conf_options options)
{
	write_file("t.conf", text, strlen(text));
	options.file = path_of("t.conf");
	return load(&options, conf);
}

/* A namespace just made, as for tests without privilege, has no address until its loopback is up. Where that is not ours to change it is up. */
static void
raise_loopback(void)
{
	struct ifreq lo = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return;
	if (ioctl(fd, SIOCGIFFLAGS, &lo) == 0 && (lo.ifr_flags & IFF_UP) == 0) {
		lo.ifr_flags |= IFF_UP;
		(void)ioctl(fd, SIOCSIFFLAGS, &lo);
	}
	(void)close(fd);
}

int
make_dir(void **state)
{
	(void)state;
	raise_loopback();
	log_set_sink(keep_line, NULL);
	return mkdtemp(dir) == NULL ? -1 : 0;
}

int
remove_dir(void **state)
{
	(void)state;
	(void)unlink(path_of("t.conf"));
	(void)unlink(path_of("g.conf"));
	return rmdir(dir);
}
