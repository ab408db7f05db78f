/* SPDX-License-Identifier: ISC */
/*
 * Payloads of msg.def: fixed-width scalars, no pointers, no padding that is not named. Times are ns unless the name says otherwise.
 * Runs in: any
 */
#ifndef MSG_H
#define MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

/* Raise when msg.def, a payload or the scoreboard changes shape or meaning. */
#define MSG_VERSION 3u
#define MSG_MAX_SIZE 8192u		/* bytes, head included (asserted for every row) */
#define MSG_MAX_FDS 64u

/* Parent, worker, reporter, and nsproxyctl, which may be of another version. */
enum msg_role { MSG_P = 1, MSG_W = 2, MSG_R = 4, MSG_C = 8 };
enum msg_phase { MSG_START = 1, MSG_SERVING = 2, MSG_DRAINING = 4 };

enum msg_type {
#define MSG(name, from, to, item, most, fds, item_fds, phases) MSG_##name,
#include "msg.def"
#undef MSG
	MSG_TYPES
};

enum engine_id { ENGINE_ADAPTIVE, ENGINE_COPY, ENGINE_SPLICE, ENGINE_IO_URING, ENGINE_SOCKMAP, ENGINES };

/* Why a connection ended; the text is what the access log shows. */
#define CONN_ENDS(X)                                                                                                       \
	X(NONE, "open") X(CLIENT_CLOSED, "closed-by-client") X(TARGET_CLOSED, "closed-by-target") X(CLIENT_RESET, "client-reset") \
	X(TARGET_RESET, "target-reset") X(REFUSED, "connect-refused") X(CONNECT_TIMEOUT, "connect-timeout")                     \
	X(UNREACHABLE, "connect-unreachable") X(CONNECT_FAILED, "connect-failed") X(IDLE, "idle-timeout")                       \
	X(HALF_CLOSE, "half-close-timeout") X(KILLED, "killed") X(DRAINED, "drained") X(WORKER_LOST, "worker-lost")              \
	X(ERROR, "error")
enum conn_end {
#define X(name, text) END_##name,
	CONN_ENDS(X)
#undef X
	CONN_ENDS_COUNT
};

struct msg_head {
	uint16_t type;
	uint16_t count;
	uint32_t version;
};

struct msg_hello {
	uint32_t index;			/* of this worker, over all pools */
	uint32_t n_routes;		/* ROUTE items that follow */
	uint32_t n_services;
	uint32_t n_dirs;		/* DIR messages that follow */
	uint32_t max_conns;		/* connections at the same time */
	uint32_t n_pipes;		/* pairs from fd WORKER_FD_PIPES on: reading end, writing end */
	uint32_t log_level;
	uint32_t flags;			/* HELLO_* */
};
#define HELLO_ONE_ID 1u			/* rootless: uid 0 of a namespace that maps one id is as good as it gets */

#define ROUTE_SERVICE_MAX 64		/* bytes, terminator included */

struct msg_route {
	uint32_t index;			/* what CONN names; routes arrive in order */
	uint32_t service;
	uint32_t engine;		/* enum engine_id */
	uint32_t flags;			/* ROUTE_* */
	uint32_t connect_timeout_ms;
	uint32_t user_timeout_ms;	/* 0: none */
	uint32_t keepalive_idle_s;	/* 0: no probes */
	uint32_t keepalive_interval_s;
	uint32_t keepalive_count;
	uint32_t n_ports;		/* ports from target.port on that this route may use */
	uint64_t idle_timeout_ms;	/* 0: none */
	uint64_t half_close_timeout_ms;	/* 0: none */
	struct wire_addr target;
	struct wire_addr source;	/* family 0: the kernel chooses */
	char service_name[ROUTE_SERVICE_MAX];	/* for log lines */
	char unix_name[112];		/* target of family AF_UNIX: "name" in the directory sent by DIR, or "@abstract"; terminated */
};
#define ROUTE_RECORD 1u			/* the access log wants `local` */

struct msg_dir {
	uint32_t route;			/* and all others of its service */
	uint32_t pad;
};

struct msg_ready {
	uint32_t engines;		/* bit per enum engine_id that is open */
	uint32_t layers;		/* bit per enum sandbox_layer in force */
	uint32_t landlock_abi;
	uint32_t pipe_size;		/* bytes of the smallest pipe; 0: no pipes */
	uint32_t syscalls;		/* allowed */
	uint32_t syscalls_checked;	/* of these, with checked arguments */
	uint8_t why[16];		/* errno for each enum sandbox_layer that is not in force; 0: is not for this process */
};

struct msg_ping {
	uint64_t number;
};

struct msg_conn {
	uint64_t id;			/* unique over the parent's life */
	uint32_t route;
	uint16_t port_offset;		/* added to the port of the route's target */
	uint16_t pad;
	struct wire_addr client;
};

struct msg_stop {
	uint64_t within_ms;		/* UINT64_MAX: wait without limit */
};

/* What is known of one connection: a row of the scoreboard while it lives, an item of CLOSED when it has ended. */
struct conn_record {
	uint64_t id;
	uint32_t route;
	uint16_t port_offset;
	uint8_t engine;			/* enum engine_id */
	uint8_t end;			/* enum conn_end; END_NONE while it lives */
	uint64_t start;			/* CLOCK_REALTIME, when the worker took it */
	uint64_t begun;			/* CLOCK_MONOTONIC, the same moment */
	uint64_t connected;		/* CLOCK_MONOTONIC; 0: never */
	uint64_t ended;			/* CLOCK_MONOTONIC; 0: lives */
	uint64_t bytes[2];		/* delivered: [0] client to target (up), [1] target to client (down) */
	struct wire_addr client;
	struct wire_addr local;		/* the private side's own address; family 0: not asked for or not connected */
	uint32_t flags;			/* RECORD_* */
	uint32_t pad;
};
#define RECORD_SHUT_UP 1u		/* the client has ended its sending, and that was passed on */
#define RECORD_SHUT_DOWN 2u		/* likewise the target */

#define RECORD_STATES(X) X(CONNECTING, "connecting") X(OPEN, "open") X(HALF_CLOSED, "half-closed") X(ENDED, "ended")
enum record_state {
#define X(name, text) RECORD_##name,
	RECORD_STATES(X)
#undef X
	RECORD_STATES_COUNT
};

#define MSG_LOG_TEXT 1024
struct msg_log {
	uint32_t level;			/* enum log_level */
	uint32_t pad;
	char text[MSG_LOG_TEXT];	/* terminated; the receiver checks */
};

#define MSG_WORKERS_MOST 4096u		/* that a reporter has places for */
enum access_format { ACCESS_PAIRS, ACCESS_JSON };
struct msg_settings {
	uint32_t access_format;
	uint32_t log_level;
	uint32_t flags;			/* SETTINGS_* */
	uint32_t n_routes;
	uint32_t max_workers;		/* greatest worker index plus one */
	uint32_t pad;
};
#define SETTINGS_ONE_ID 1u		/* as HELLO_ONE_ID */
#define SETTINGS_METRICS 2u		/* a metrics listener will come */

enum output_kind { OUTPUT_STREAM, OUTPUT_JOURNAL, OUTPUT_SYSLOG };	/* plain lines; "<N>" prefixes; RFC 3164 datagrams on /dev/log */
#define OUTPUT_LOG 0u			/* id of the log itself */
#define OUTPUT_NONE UINT32_MAX
#define OUTPUTS_MAX 64u
struct msg_output {
	uint32_t id;			/* OUTPUT_LOG, or a file of the access log (1...) */
	uint32_t kind;
};

struct msg_names {
	uint32_t route;
	uint32_t output;		/* where its access lines go: OUTPUT_LOG, a file's id, OUTPUT_NONE */
	uint32_t flags;			/* NAMES_* */
	uint32_t n_ports;
	uint32_t service_number;	/* as in struct msg_route and in scoreboards */
	uint32_t pad;
	struct wire_addr target;	/* the first port of a range */
	struct wire_addr listener;	/* likewise, with the port the kernel chose where 0 was asked for */
	char service[ROUTE_SERVICE_MAX];
	char public_netns[256];		/* "" when it is the one nsproxy was started in */
	char private_netns[256];
	char listener_unix[112];	/* "" unless a unix listener */
	char target_unix[112];
};
#define NAMES_SKIP_EMPTY 1u		/* log-empty = false */

struct msg_worker {
	uint32_t index;
	uint32_t max_conns;
	uint32_t n_services;
	uint32_t pid;
};

struct msg_gone {
	uint32_t index;
	uint32_t pad;
	uint64_t death;			/* deaths of workers are numbered from 1 on and told in this order */
};

struct msg_folded {
	uint64_t death;			/* the last one; those before it as well */
};

struct msg_totals {
	uint32_t n_services, pad;
};

struct msg_synced {
	uint32_t workers, pad;		/* that live now */
};

enum listen_kind { LISTEN_CONTROL, LISTEN_METRICS };
struct msg_listen {
	uint32_t kind;			/* enum listen_kind */
	uint32_t mode;			/* control: control-mode; r: may ask, w: may change */
	uint32_t uid;			/* control: whom the mode calls the owner, beside root */
	uint32_t gid;			/* control: whom the mode calls the group */
};

#define PARENT_VERSION_MAX 32
struct msg_parent {
	uint32_t pid, uid, gid;
	uint32_t log_level;
	uint64_t started;		/* CLOCK_REALTIME; of the first program, when it was replaced since */
	uint64_t permitted, effective, bounding;	/* capabilities, bit per number */
	uint32_t layers;		/* bit per enum sandbox_layer in force */
	uint32_t syscalls, syscalls_checked;
	uint32_t workers;		/* that there should be */
	uint32_t reloads, upgrades;	/* done */
	uint64_t loaded;		/* CLOCK_REALTIME: when the configuration was read */
	uint64_t netns;			/* inode of its namespace */
	char version[PARENT_VERSION_MAX];
	char file[256];			/* configuration file; "": command line only */
};

struct msg_service {
	uint32_t number;		/* as in ROUTE, NAMES and the scoreboard */
	uint32_t flags;			/* SERVICE_* */
	uint32_t engine;		/* enum engine_id, as configured */
	uint32_t pool;
	uint32_t limit;			/* max-connections; 0: what fits */
	uint32_t pad;
	uint64_t drain_until;		/* CLOCK_MONOTONIC, when SERVICE_DRAINED: what is left then is cut */
	char name[ROUTE_SERVICE_MAX];
};
#define SERVICE_DRAINED 1u		/* takes no clients until it is resumed */
#define SERVICE_MISSING 2u		/* its private namespace is not there: clients are reset */
#define SERVICE_PAUSED 4u		/* at its limit, or no worker has room: clients wait */
#define SERVICE_REMOVED 8u		/* not in the configuration any more, but connections live */

#define WORKER_STATES(X) X(STARTING, "starting") X(SERVING, "serving") X(STOPPING, "stopping") X(RETIRED, "retired")
enum worker_show {
#define X(name, text) SHOW_##name,
	WORKER_STATES(X)
#undef X
	WORKER_STATES_COUNT
};
struct msg_worker_state {
	uint32_t index, pid, uid, gid;
	uint32_t state;			/* enum worker_show */
	uint32_t flags;			/* WORKER_* */
	uint64_t started;		/* CLOCK_REALTIME */
	uint64_t netns;			/* inode of its namespace */
	struct msg_ready ready;		/* zeros while it starts */
	char pool[256];			/* name of its namespace as configured; "": the one nsproxy was started in */
};
#define WORKER_LATE 1u			/* does not answer */

/* What a request may ask for, and what nsproxyctl may. The reporter answers the first ones, the parent does the others. */
#define CTL_VERBS(X)                                                                                                        \
	X(STATUS, "status", false) X(SERVICES, "services", false) X(WORKERS, "workers", false)                                   \
	X(CONNECTIONS, "connections", false) X(PRIVILEGES, "privileges", false) X(METRICS, "metrics", false)                     \
	X(RELOAD, "reload", true) X(UPGRADE, "upgrade", true) X(DRAIN, "drain", true) X(RESUME, "resume", true)                  \
	X(KILL, "kill", true) X(LOG_LEVEL, "log-level", true)
enum ctl_verb {
#define X(name, text, changes) CTL_##name,
	CTL_VERBS(X)
#undef X
	CTL_VERBS_COUNT
};
#define CTL_ANY UINT32_MAX

struct msg_request {
	uint64_t number;		/* the answer repeats it */
	uint32_t verb;			/* enum ctl_verb, one that changes something */
	uint32_t service;		/* DRAIN, RESUME: number, or CTL_ANY for all */
	uint64_t id;			/* KILL: of the connection */
	uint32_t worker, slot;		/* KILL: where the reporter saw it */
	uint32_t level;			/* LOG_LEVEL: enum log_level */
	uint32_t uid, pid;		/* who asks, for the log */
	uint32_t pad;
};

#define CTL_TEXT_MAX 512
enum ctl_code { CTL_DONE = 0, CTL_REFUSED = 1, CTL_BAD = 2 };	/* as nsproxyctl's exit codes */
struct msg_result {
	uint64_t number;
	uint32_t code;			/* enum ctl_code */
	uint32_t pad;
	char text[CTL_TEXT_MAX];
};

struct msg_close {
	uint64_t id;
	uint32_t slot;
	uint32_t pad;
};

struct msg_drain {
	uint64_t within_ms;		/* UINT64_MAX: no deadline any more */
	uint32_t service;
	uint32_t pad;
};

struct msg_level {
	uint32_t level;			/* enum log_level */
	uint32_t pad;
};

/* Which connections; fields at CTL_ANY, 0 or "" do not choose. */
struct msg_ask {
	uint32_t verb;			/* enum ctl_verb */
	uint32_t worker;		/* CONNECTIONS, WORKERS */
	uint32_t state;			/* enum record_state */
	uint32_t engine;		/* enum engine_id */
	uint32_t level;			/* LOG_LEVEL */
	uint32_t client_bits;		/* of the client's address that must be as given, in its family */
	uint64_t id;			/* KILL; CONNECTIONS: this one only */
	struct wire_addr client;	/* family 0: any; port 0: any */
	char service[ROUTE_SERVICE_MAX];	/* CONNECTIONS, SERVICES, DRAIN, RESUME */
};

struct row_status {
	struct msg_parent parent;
	uint64_t now;			/* CLOCK_REALTIME, when this was answered; like the next one */
	uint64_t now_mono;		/* CLOCK_MONOTONIC, on which begun, connected and drain_until are measured */
	uint32_t services, drained;	/* how many; of them drained */
	uint32_t workers;		/* serving */
	uint32_t reporter_pid;
	uint64_t open;			/* connections */
	uint64_t taken, finished;
	uint64_t bytes[2];		/* delivered, of those that live, too */
	uint64_t dropped;		/* records and log lines that were lost */
};

struct row_service {
	struct msg_service service;
	uint64_t open;
	uint64_t taken, finished;
	uint64_t bytes[2];		/* delivered, of those that live, too */
	uint64_t ends[16];		/* by enum conn_end */
};

struct row_worker {
	struct msg_worker_state worker;
	uint32_t max_conns;
	uint32_t pad;
	uint64_t open, taken, finished;
	uint64_t bytes[2];
	uint64_t dropped, turns, pipes_used;
};

struct row_conn {
	struct conn_record rec;
	uint32_t worker;
	uint32_t slot;
};

enum process_role { PROCESS_PARENT, PROCESS_WORKER, PROCESS_REPORTER };
struct row_process {
	uint32_t role;			/* enum process_role */
	uint32_t index;			/* of a worker */
	uint32_t pid, uid, gid;
	uint32_t layers;		/* bit per enum sandbox_layer in force */
	uint64_t permitted, effective, bounding;	/* capabilities */
	uint64_t netns;			/* inode */
	uint32_t landlock_abi, syscalls, syscalls_checked, engines;
	uint8_t why[16];		/* as in READY */
	char place[256];		/* name of the namespace; "": the one nsproxy was started in */
};

struct row_text {
	uint32_t size;			/* bytes in text */
	uint32_t pad;
	char text[4088];
};

struct msg_end {
	uint32_t code;			/* enum ctl_code */
	uint32_t pad;
	char text[CTL_TEXT_MAX];
};

struct msg_leave {
	/* The one that asked for the reload, which is done; 0: none. Said here, so that nobody who has heard it is answered by the old one. */
	uint64_t request;
	uint32_t upgrade;		/* it was one */
	uint32_t pad;
};

/* "CONN"; "?" for what is none. */
const char *msg_name(unsigned type);
const char *engine_name(unsigned engine);
/* -1 when the name is none. */
int engine_by_name(const char *name);
/* "closed-by-client"...; "error" for what is none. */
const char *conn_end_name(unsigned end);
/* "connecting", "open"...; "?" for what is none. */
enum record_state record_state(const struct conn_record *rec);
const char *record_state_name(unsigned state);
/* -1 when the name is none. */
int record_state_by_name(const char *name);
/* "starting"...; "?" for what is none. */
const char *worker_show_name(unsigned state);
/* "status"...; "?" for what is none. */
const char *ctl_verb_name(unsigned verb);
/* Does it need the permission to change? */
bool ctl_verb_changes(unsigned verb);

struct msg_row {
	const char *name;
	uint8_t from, to;		/* enum msg_role bits */
	uint16_t item_size;
	uint16_t most;
	uint8_t fds, item_fds;
	uint8_t phases;			/* enum msg_phase bits */
};
/* The table of msg.def; NULL for a type that does not exist. */
const struct msg_row *msg_row(unsigned type);

#endif
