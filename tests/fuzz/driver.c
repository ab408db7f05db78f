/* SPDX-License-Identifier: ISC */
/*
 * Stands in for libFuzzer where that is not used: gives each file named on the command line, once, to the fuzz target it is linked with.
 * Runs in: any
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The target sees a block of exactly the file's size, so that a sanitizer notices a read beyond it. */
static int
replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	long size;
	int result = -1;

	if (file == NULL)
		return -1;
	if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0 &&
	    (data = malloc(size > 0 ? (size_t)size : 1)) != NULL && fread(data, 1, (size_t)size, file) == (size_t)size) {
		LLVMFuzzerTestOneInput(data, (size_t)size);
		result = 0;
	}
	free(data);
	fclose(file);
	return result;
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i]) == -1) {
			perror(argv[i]);
			return 1;
		}
	}
	printf("%d inputs\n", argc - 1);
	return argc > 1 ? 0 : 1;
}
