/* SPDX-License-Identifier: ISC */
/*
 * Texts for people out of the rows of an answer.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

/* linux/capability.h, in its order; the numbers never change. */
static const char *const capabilities[] = {
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
	"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON",
	"BPF", "CHECKPOINT_RESTORE",
};
#define N_CAPABILITIES (sizeof(capabilities) / sizeof(capabilities[0]))

/* A path has no namespace, an abstract name that of nsproxy's start. */
static void
put_end(char buf[CTL_ADDR_MAX], const char *netns, const struct wire_addr *addr, const char *path)
{
	char text[ADDR_TEXT_MAX];

	if (addr->family == AF_UNIX)
		(void)snprintf(buf, CTL_ADDR_MAX, "unix:%.111s", path);
	else if (addr->family == 0)
		buf[0] = '\0';
	else
		(void)snprintf(buf, CTL_ADDR_MAX, "%.255s%s%s", netns, netns[0] != '\0' ? "@" : "", addr_format_wire(addr, text));
	(void)ctl_text_tame(buf);
}

/* The n-th port of a range. */
static struct wire_addr
at_port(const struct wire_addr *first, unsigned offset)
{
	struct wire_addr addr = *first;

	if (addr.family != AF_UNIX)
		addr.port = (uint16_t)(addr.port + offset);
	return addr;
}

void
ctl_text_ends(const struct conn_record *rec, const struct msg_names *names, struct ctl_ends *ends)
{
	static const struct msg_names unknown;
	const struct msg_names *n = names != NULL ? names : &unknown;
	unsigned offset = rec->port_offset < n->n_ports ? rec->port_offset : 0;
	struct wire_addr listener = at_port(&n->listener, offset), target = at_port(&n->target, offset);

	put_end(ends->client, n->public_netns, &rec->client, "");
	put_end(ends->listener, n->public_netns, &listener, n->listener_unix);
	put_end(ends->local, n->private_netns, &rec->local, "");
	put_end(ends->target, n->private_netns, &target, n->target_unix);
}

static void
add_range(char buf[CTL_ADDR_MAX], const struct msg_names *names, const struct wire_addr *first)
{
	size_t used = strlen(buf);

	if (names->n_ports > 1 && first->family != AF_UNIX)
		(void)snprintf(buf + used, CTL_ADDR_MAX - used, "-%u", first->port + names->n_ports - 1);
}

const char *
ctl_text_listener(const struct msg_names *names, char buf[CTL_ADDR_MAX])
{
	put_end(buf, names->public_netns, &names->listener, names->listener_unix);
	add_range(buf, names, &names->listener);
	return buf;
}

const char *
ctl_text_target(const struct msg_names *names, char buf[CTL_ADDR_MAX])
{
	put_end(buf, names->private_netns, &names->target, names->target_unix);
	add_range(buf, names, &names->target);
	return buf;
}

const char *
ctl_text_service_state(const struct row_service *row)
{
	uint32_t flags = row->service.flags;

	if (flags & SERVICE_REMOVED)
		return "removed";
	if (flags & SERVICE_DRAINED)
		return row->open > 0 ? "draining" : "drained";
	if (flags & SERVICE_MISSING)
		return "missing";
	return flags & SERVICE_PAUSED ? "paused" : "serving";
}

/* Three digits are enough to compare by. */
static const char *
scaled(double n, double step, const char *const units[], char buf[32])
{
	unsigned unit = 0;

	for (; n >= step && units[unit + 1] != NULL; unit++)
		n /= step;
	(void)snprintf(buf, 32, unit == 0 || n >= 100 ? "%.0f%s" : "%.1f%s", n, units[unit]);
	return buf;
}

const char *
ctl_text_count(uint64_t n, char buf[32])
{
	static const char *const units[] = { "", "k", "M", "G", "T", NULL };

	return scaled((double)n, 1000, units, buf);
}

const char *
ctl_text_bytes(double n, char buf[32])
{
	static const char *const units[] = { " B", " KiB", " MiB", " GiB", " TiB", " PiB", NULL };

	return scaled(n, 1024, units, buf);
}

const char *
ctl_text_span(uint64_t ns, char buf[32])
{
	unsigned long long s = ns / NS_PER_S;

	if (s < 1)
		(void)snprintf(buf, 32, "%llu ms", (unsigned long long)(ns / NS_PER_MS));
	else if (s < 60)
		(void)snprintf(buf, 32, "%llu s", s);
	else if (s < 3600)
		(void)snprintf(buf, 32, "%llu min %llu s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(buf, 32, "%llu h %llu min", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(buf, 32, "%llu d %llu h", s / 86400, s % 86400 / 3600);
	return buf;
}

const char *
ctl_text_time(uint64_t ns, char buf[32])
{
	time_t seconds = (time_t)(ns / NS_PER_S);
	struct tm tm;
	size_t used;

	if (gmtime_r(&seconds, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	used = strftime(buf, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(buf + used, 32 - used, ".%03uZ", (unsigned)(ns % NS_PER_S / NS_PER_MS));
	return buf;
}

const char *
ctl_text_capability(unsigned cap, char buf[32])
{
	if (cap < N_CAPABILITIES)
		(void)snprintf(buf, 32, "CAP_%s", capabilities[cap]);
	else
		(void)snprintf(buf, 32, "CAP_%u", cap);
	return buf;
}

const char *
ctl_text_role(unsigned role)
{
	static const char *const roles[] = { [PROCESS_PARENT] = "parent", [PROCESS_WORKER] = "worker", [PROCESS_REPORTER] = "reporter" };

	return role < sizeof(roles) / sizeof(roles[0]) ? roles[role] : "?";
}

char *
ctl_text_tame(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
		if (*c < ' ' || *c == 0x7f)
			*c = '?';
	}
	return text;
}
