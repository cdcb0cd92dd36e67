#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

/*
 * Write OUT_PATH, one HTML page that needs nothing else: the curves of a run's metrics.jsonl as SVG, and its figures.
 * `model` and `data` are shown as the run's inputs. Exit code.
 */
int report_write(const char *metrics_path, const char *out_path, const char *model, const char *data);

#endif
