/* SPDX-License-Identifier: ISC */
/*
 * The metrics as text: OpenMetrics 1.0, or the older text format 0.0.4 of Prometheus.
 * Runs in: reporter
 */
#ifndef REPORTER_METRICS_H
#define REPORTER_METRICS_H

#include <stdint.h>

#include "reporter_doc.h"
#include "reporter_workers.h"
#include "totals.h"

enum metrics_format { METRICS_OPENMETRICS, METRICS_PLAIN };

/* Everything they are made of. Nothing is owned. */
struct metrics_source {
	const struct totals_view *totals;
	const struct workers *workers;
};

/* The whole text, with its last line. */
void metrics_write(struct doc *doc, const struct metrics_source *source, enum metrics_format format);
/* Counters of a service over all workers, those that are gone included, and its connections that are open. */
void metrics_sum(const struct metrics_source *source, uint32_t service, struct sb_service *sum, uint64_t *open);
/* Is this number a service's that this reporter was told of? Then it has a name. NULL: no. */
const char *metrics_service(const struct metrics_source *source, uint32_t service);

#endif
