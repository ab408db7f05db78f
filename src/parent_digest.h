/* SPDX-License-Identifier: ISC */
/*
 * A number that stands for bytes (FNV-1a): to tell what is the same as before. Nobody who could choose the bytes gains by making two alike.
 * Runs in: parent
 */
#ifndef PARENT_DIGEST_H
#define PARENT_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_FIRST 0xcbf29ce484222325ull

static inline uint64_t
digest_add(uint64_t digest, const void *bytes, size_t n)
{
	for (const unsigned char *byte = bytes; n > 0; byte++, n--)
		digest = (digest ^ *byte) * 0x100000001b3ull;
	return digest;
}

#endif
