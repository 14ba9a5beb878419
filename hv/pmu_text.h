/* SPDX-License-Identifier: BSD-2-Clause */
/* What was counted (pmu.h), for programs and for people: docs/output.md has the fields. */
#ifndef HV_PMU_TEXT_H
#define HV_PMU_TEXT_H

#include "hv/pmu.h"

/* The fields "pmu" and "pmu_reason" of a JSON object, without a comma before or after. */
void pmu_print_fields(const struct pmu *pmu, const struct pmu_counts *counts);

/*
 * A table on the console, at most 100 columns wide: its head, whose first 39 columns are `labels`;
 * a row, whose first 39 are `label`, with events an operation, of which there were `ops`; and
 * below, what was counted.
 */
void pmu_print_head(const char *labels);
void pmu_print_row(const struct pmu *pmu, const struct pmu_counts *counts, const char *label,
                   uint64_t ops);
void pmu_print_events(const struct pmu *pmu);

#endif
