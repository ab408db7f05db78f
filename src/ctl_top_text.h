/* SPDX-License-Identifier: ISC */
/*
 * Short texts for the screen of `nsproxyctl top`: numbers that keep their width, times, graphs, and names that are safe to print.
 * Runs in: ctl
 */
#ifndef CTL_TOP_TEXT_H
#define CTL_TOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "0", "999", "1.2k", "34k", "1.5M"...: at most five characters; steps of 1000, or of 1024 for bytes. */
void top_text_number(char *buf, size_t size, double number, double step);
/* "5s", "12m", "3h15", "4d02": at most six characters. */
void top_text_age(char *buf, size_t size, double seconds);
/* "12:03:05" or "3d 12:03": for one place with room. */
void top_text_uptime(char *buf, size_t size, uint64_t seconds);
/* Copies; what is not printable ASCII becomes '?'. Never trust text of another process to be printable. */
void top_text_printable(char *buf, size_t size, const char *text);
/* `cells` samples, the latest last, each a bar of one cell as high as its share of the greatest; as UTF-8 or in ASCII. */
void top_text_graph(char *buf, size_t size, const float *samples, unsigned cells, bool utf8);
/* A lying bar of `cells` cells filled to share (0 to 1), the rest blank. */
void top_text_bar(char *buf, size_t size, double share, unsigned cells, bool utf8);

#endif
