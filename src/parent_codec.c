/* SPDX-License-Identifier: ISC */
/*
 * One description of a structure that both writes it and reads it back.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_codec.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"

#define FIRST_ROOM 65536u
/* Longer than any path or name. */
#define TEXT_MOST 8192u

void
codec_write(struct codec *codec)
{
	*codec = (struct codec){ .writing = true };
}

void
codec_read(struct codec *codec, const void *data, size_t size)
{
	*codec = (struct codec){ .data = (uint8_t *)(uintptr_t)data, .size = size };
}

void
codec_free(struct codec *codec)
{
	if (codec->writing)
		free(codec->data);
	*codec = (struct codec){ .bad = true };
}

bool
codec_done(const struct codec *codec)
{
	return !codec->bad && (codec->writing || codec->at == codec->size);
}

static void
make_room(struct codec *codec, size_t n)
{
	size_t size = codec->size > 0 ? codec->size : FIRST_ROOM;
	uint8_t *data;

	while (size - codec->at < n)
		size *= 2;
	if (size == codec->size)
		return;
	data = realloc(codec->data, size);
	if (data == NULL)
		fatal(EXIT_MACHINE, "cannot allocate %zu bytes for the state", size);
	codec->data = data;
	codec->size = size;
}

void
codec_bytes(struct codec *codec, void *bytes, size_t n)
{
	if (n == 0)
		return;
	if (codec->writing)
		make_room(codec, n);
	else if (codec->bad || codec->size - codec->at < n)
		codec->bad = true;
	if (codec->bad)
		memset(bytes, 0, n);
	else if (codec->writing)
		memcpy(codec->data + codec->at, bytes, n);
	else
		memcpy(bytes, codec->data + codec->at, n);
	if (!codec->bad)
		codec->at += n;
}

void
codec_count(struct codec *codec, size_t *n, size_t most)
{
	uint64_t count = *n;

	CODE(codec, count);
	/* Each takes a byte at least, so that a count cannot ask for more memory than there was input. */
	if (!codec->writing && (count > most || count > codec->size - codec->at)) {
		codec->bad = true;
		count = 0;
	}
	*n = (size_t)count;
}

static void *
allocate(size_t n, size_t item)
{
	void *memory = calloc(n, item);

	if (memory == NULL)
		fatal(EXIT_MACHINE, "cannot allocate %zu items of the state", n);
	return memory;
}

void
codec_text(struct codec *codec, char **text)
{
	size_t n = codec->writing && *text != NULL ? strlen(*text) + 1 : 0;

	codec_count(codec, &n, TEXT_MOST);
	if (!codec->writing)
		*text = n > 0 ? allocate(n, 1) : NULL;
	if (n == 0)
		return;
	codec_bytes(codec, *text, n);
	if (memchr(*text, '\0', n) != *text + n - 1) {
		codec->bad = true;
		(*text)[n - 1] = '\0';
	}
}

void
codec_items(struct codec *codec, void **items, size_t *n, size_t item, size_t most)
{
	codec_count(codec, n, most);
	if (!codec->writing)
		*items = *n > 0 ? allocate(*n, item) : NULL;
}

void
codec_list(struct codec *codec, void **list, uint32_t *n, size_t item, uint32_t most)
{
	size_t count = *n;

	codec_count(codec, &count, most);
	if (!codec->writing) {
		if (count > (codec->size - codec->at) / item) {
			codec->bad = true;
			count = 0;
		}
		*list = count > 0 ? allocate(count, item) : NULL;
	}
	*n = (uint32_t)count;
	if (count > 0)
		codec_bytes(codec, *list, count * item);
}

void
codec_terminated(struct codec *codec, const char *text, size_t size)
{
	if (memchr(text, '\0', size) == NULL)
		codec->bad = true;
}
