/* SPDX-License-Identifier: ISC */
/*
 * The configuration in effect as bytes.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_pack.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parent_codec.h"

#define MOST 65536u
#define BYTES_MOST (1u << 30)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static void
code_output(struct codec *codec, struct conf_output *output)
{
	CODE(codec, output->kind);
	codec_text(codec, &output->path);
}

static void
code_endpoint(struct codec *codec, struct conf_endpoint *endpoint)
{
	codec_text(codec, &endpoint->text);
	CODE(codec, endpoint->netns);
	CODE(codec, endpoint->addr);
	CODE(codec, endpoint->port_last);
	CODE(codec, endpoint->any);
}

static void
code_service(struct codec *codec, struct conf_service *service)
{
	codec_text(codec, &service->name);
	codec_text(codec, (char **)(uintptr_t)&service->file);
	CODE(codec, service->line);
	codec_items(codec, (void **)&service->listen, &service->n_listen, sizeof(*service->listen), MOST);
	for (size_t i = 0; i < service->n_listen; i++)
		code_endpoint(codec, &service->listen[i]);
	code_endpoint(codec, &service->connect);
	CODE(codec, service->engine);
	CODE(codec, service->max_connections);
	CODE(codec, service->backlog);
	CODE(codec, service->source);
	CODE(codec, service->connect_timeout_ms);
	CODE(codec, service->idle_timeout_ms);
	CODE(codec, service->half_close_timeout_ms);
	CODE(codec, service->keepalive);
	CODE(codec, service->user_timeout_ms);
	CODE(codec, service->log_empty);
	code_output(codec, &service->access);
	CODE(codec, service->wait_for_netns);
	CODE(codec, service->unix_mode);
	CODE(codec, service->unix_uid);
	CODE(codec, service->unix_gid);
	codec_text(codec, &service->unix_owner);
}

static void
code_conf(struct codec *codec, struct conf *conf)
{
	codec_text(codec, &conf->user);
	CODE(codec, conf->uid);
	CODE(codec, conf->gid);
	CODE(codec, conf->one_id);
	CODE(codec, conf->worker_uid_first);
	CODE(codec, conf->worker_uid_last);
	CODE(codec, conf->workers);
	code_output(codec, &conf->log);
	CODE(codec, conf->log_level);
	code_output(codec, &conf->access);
	CODE(codec, conf->access_format);
	codec_text(codec, &conf->control);
	CODE(codec, conf->control_set);
	CODE(codec, conf->control_mode);
	CODE(codec, conf->control_gid);
	codec_text(codec, &conf->control_group);
	codec_text(codec, &conf->metrics);
	code_endpoint(codec, &conf->metrics_at);
	CODE(codec, conf->metrics_waits);
	CODE(codec, conf->drain_timeout_ms);
	CODE(codec, conf->background);
	codec_text(codec, &conf->pidfile);
	codec_text(codec, &conf->file);
	codec_items(codec, (void **)&conf->netns, &conf->n_netns, sizeof(*conf->netns), MOST);
	for (size_t i = 0; i < conf->n_netns; i++) {
		codec_text(codec, &conf->netns[i].name);
		codec_text(codec, &conf->netns[i].path);
	}
	codec_items(codec, (void **)&conf->services, &conf->n_services, sizeof(*conf->services), MOST);
	for (size_t i = 0; i < conf->n_services; i++)
		code_service(codec, &conf->services[i]);
}

static bool
endpoint_is_sane(const struct conf *conf, const struct conf_endpoint *endpoint)
{
	return endpoint->text != NULL && endpoint->netns < conf->n_netns && endpoint->addr.len <= sizeof(endpoint->addr.u) &&
	    (endpoint->addr.u.sa.sa_family == AF_UNIX || endpoint->port_last >= addr_port(&endpoint->addr));
}

/* What the rest of the parent takes for granted. */
static bool
is_sane(const struct conf *conf)
{
	bool ok = conf->n_services > 0 && conf->n_netns > 0 && conf->workers > 0;

	for (size_t i = 0; i < conf->n_netns && ok; i++)
		ok = conf->netns[i].name != NULL && conf->netns[i].path != NULL;
	for (size_t s = 0; s < conf->n_services && ok; s++) {
		const struct conf_service *service = &conf->services[s];

		ok = service->name != NULL && strlen(service->name) < ROUTE_SERVICE_MAX && service->engine < ENGINES &&
		    endpoint_is_sane(conf, &service->connect);
		for (size_t i = 0; i < service->n_listen && ok; i++)
			ok = endpoint_is_sane(conf, &service->listen[i]);
	}
	if (ok && conf->metrics_at.addr.len > 0)
		ok = endpoint_is_sane(conf, &conf->metrics_at);
	return ok;
}

void *
conf_pack(const struct conf *conf, size_t *size)
{
	struct conf copy = *conf;	/* writing changes nothing, but the description is one for both ways */
	struct codec codec;

	codec_write(&codec);
	code_conf(&codec, &copy);
	*size = codec.at;
	return codec.data;
}

int
conf_unpack(const void *data, size_t size, struct conf *conf)
{
	struct codec codec;

	memset(conf, 0, sizeof(*conf));
	codec_read(&codec, data, size);
	code_conf(&codec, conf);
	if (codec_done(&codec) && is_sane(conf))
		return 0;
	conf_free(conf);
	return -1;
}

int
conf_store(const struct conf *conf, int fd)
{
	size_t size;
	void *data = conf_pack(conf, &size);
	ssize_t n = pwrite(fd, data, size, 0);

	free(data);
	return n == (ssize_t)size ? fcntl(fd, F_ADD_SEALS, SEALS) : -1;
}

bool
conf_is_stored(int fd)
{
	struct stat st;

	return fcntl(fd, F_GET_SEALS) == SEALS && fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= (off_t)BYTES_MOST;
}

int
conf_restore(int fd, struct conf *conf)
{
	struct stat st;
	void *map;
	int r;

	if (!conf_is_stored(fd) || fstat(fd, &st) == -1)
		return -1;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -1;
	r = conf_unpack(map, (size_t)st.st_size, conf);
	(void)munmap(map, (size_t)st.st_size);
	return r;
}
