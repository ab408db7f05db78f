/* SPDX-License-Identifier: ISC */
/*
 * One description of a structure that both writes it and reads it back, so that the two cannot differ.
 * Runs in: parent
 *
 * What is read is checked as if a stranger had written it: lengths against what is left, counts against a bound, texts for their terminator. The
 * first thing that is wrong makes the codec bad: nothing is read any more, and what was asked for is zero.
 */
#ifndef PARENT_CODEC_H
#define PARENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codec {
	uint8_t *data;			/* owned when writing */
	size_t size;			/* bytes that there are; room, when writing */
	size_t at;
	bool writing;
	bool bad;
};

void codec_write(struct codec *codec);
/* data stays the caller's. */
void codec_read(struct codec *codec, const void *data, size_t size);
void codec_free(struct codec *codec);
/* True when all was well and, when reading, nothing is left. */
bool codec_done(const struct codec *codec);

/* n bytes as they are. */
void codec_bytes(struct codec *codec, void *bytes, size_t n);
/* A text on the heap; NULL stays NULL. */
void codec_text(struct codec *codec, char **text);
/* How many of something follow; more than `most` is wrong. */
void codec_count(struct codec *codec, size_t *n, size_t most);
/* How many items of that size follow one by one; when reading, room for them is on the heap, zeroed. NULL when there is none. */
void codec_items(struct codec *codec, void **items, size_t *n, size_t item, size_t most);
/* *n items of that size each as they are, on the heap when they were read. NULL when there is none. */
void codec_list(struct codec *codec, void **list, uint32_t *n, size_t item, uint32_t most);
/* A text in an array of that size must end in it. */
void codec_terminated(struct codec *codec, const char *text, size_t size);

#define CODE(codec, value) codec_bytes((codec), &(value), sizeof(value))

#endif
