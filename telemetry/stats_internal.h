// stats_internal.h -- what the files of the statistics share: stats.c collects,
// stats_report.c writes.
#ifndef TCX_TELEMETRY_STATS_INTERNAL_H_
#define TCX_TELEMETRY_STATS_INTERNAL_H_

#include "telemetry/stats.h"

TCX_BEGIN_DECLS

// All NULL before the start; constant afterwards.
extern TCX_HIDDEN struct tcx_stats_sources tcx_stats_from;

// Obeys the settings `stats_signal`, `stats_file` and `stats`.
void tcx_stats_report_start(void);

TCX_END_DECLS

#endif  // TCX_TELEMETRY_STATS_INTERNAL_H_
