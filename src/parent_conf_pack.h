/* SPDX-License-Identifier: ISC */
/*
 * The configuration in effect as bytes, so that what a trial has read and resolved comes into force, and not what the file says a moment later.
 * Runs in: parent
 */
#ifndef PARENT_CONF_PACK_H
#define PARENT_CONF_PACK_H

#include <stddef.h>

#include "parent_conf.h"

/* Bytes of conf, the caller's to free; *size of them. */
void *conf_pack(const struct conf *conf, size_t *size);
/* 0 and *conf, to be freed with conf_free(); -1: these bytes are none. */
int conf_unpack(const void *data, size_t size, struct conf *conf);
/* Writes it into an empty memfd and seals that. 0 or -1 with errno. */
int conf_store(const struct conf *conf, int fd);
/* Has something been stored there, and can nobody change it any more? */
bool conf_is_stored(int fd);
/* 0, or -1: there is none in it. */
int conf_restore(int fd, struct conf *conf);

#endif
