#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* A curve's frame in SVG units, and the most points that it is drawn with. */
enum { WIDTH = 640, HEIGHT = 150, POINTS = 640 };

static const struct {
    const char *key, *title;
} curves[] = {
    {"loss", "Loss"},
    {"task", "Task loss (cross entropy, nats)"},
    {"consistency", "Consistency (T² KL to the pre-trained model, nats)"},
    {"diversity", "Diversity (minus the entropy of the top K, nats)"},
    {"svd", "SVD term (minus the energy share of the first k directions)"},
    {"grad_norm", "Gradient norm before clipping"},
    {"learning_rate", "Learning rate"},
};

static void write_escaped(FILE *file, const char *text) {
    for (; *text != '\0'; text++)
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*text, file);
        }
}

/* All lines of a metrics.jsonl as an array; owned, NULL after a message. */
static json_t *read_lines(const char *path) {
    FILE *file = fopen(path, "r");
    json_t *lines = json_array(), *line;
    if (file == NULL || lines == NULL) {
        tool_fail(EXIT_FAILED, "cannot read %s: %s", path, strerror(errno));
        json_decref(lines);
        lines = NULL;
    }
    while (lines != NULL && (line = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL)) != NULL)
        json_array_append_new(lines, line);
    if (file != NULL)
        fclose(file);
    return lines;
}

static double value_at(const json_t *lines, size_t index, const char *key) {
    const json_t *value = json_object_get(json_array_get(lines, index), key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Lowest and highest finite value; 0 when there is none. */
static int find_range(const json_t *lines, const char *key, double *low, double *high) {
    int found = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        double value = value_at(lines, i, key);
        if (!isfinite(value))
            continue;
        *low = found ? fmin(*low, value) : value;
        *high = found ? fmax(*high, value) : value;
        found = 1;
    }
    return found;
}

static void write_curve(FILE *file, const json_t *lines, const char *key, const char *title) {
    double low = 0, high = 0;
    size_t count = json_array_size(lines), stride = count / POINTS + 1;
    if (!find_range(lines, key, &low, &high))
        return;
    double span = high > low ? high - low : 1;
    fprintf(file, "<figure><figcaption>%s: %.6g to %.6g, last %.6g</figcaption>\n", title, low, high,
            value_at(lines, count - 1, key));
    fprintf(file, "<svg viewBox=\"0 0 %d %d\" role=\"img\"><polyline points=\"", WIDTH, HEIGHT);
    for (size_t i = 0; i < count; i += stride) {
        double value = value_at(lines, i, key), place = count > 1 ? (double)i / (double)(count - 1) : 0.5;
        if (isfinite(value))
            fprintf(file, "%.1f,%.1f ", place * WIDTH, HEIGHT - 4 - (value - low) / span * (HEIGHT - 8));
    }
    fputs("\"/></svg></figure>\n", file);
}

static void write_head(FILE *file, const json_t *lines, const char *model, const char *data) {
    int64_t tokens = 0;
    double seconds = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        tokens += json_integer_value(json_object_get(json_array_get(lines, i), "tokens"));
        seconds += value_at(lines, i, "seconds");
    }
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>balora: training "
          "run</title>\n"
          "<style>body{font:15px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
          "figure{margin:1.5em 0}svg{width:100%;border:1px solid #999}"
          "polyline{fill:none;stroke:#1465b8;stroke-width:1.5}td{padding-right:1.5em}</style></head><body>\n"
          "<h1>Training run</h1>\n<table>\n<tr><td>model</td><td>",
          file);
    write_escaped(file, model);
    fputs("</td></tr>\n<tr><td>data</td><td>", file);
    write_escaped(file, data);
    fprintf(file,
            "</td></tr>\n<tr><td>steps</td><td>%zu</td></tr>\n<tr><td>tokens</td><td>%" PRId64
            "</td></tr>\n<tr><td>seconds</td><td>%.1f</td></tr>\n</table>\n",
            json_array_size(lines), tokens, seconds);
}

/* Non-zero: the whole page was written. */
static int write_page(const char *path, const json_t *lines, const char *model, const char *data) {
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return 0;
    write_head(file, lines, model, data);
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        write_curve(file, lines, curves[i].key, curves[i].title);
    fputs("</body></html>\n", file);
    int written = ferror(file) == 0;
    return fclose(file) == 0 && written;
}

int report_write(const char *metrics_path, const char *out_path, const char *model, const char *data) {
    json_t *lines = read_lines(metrics_path);
    if (lines == NULL)
        return EXIT_FAILED;
    size_t bytes = strlen(out_path) + 8;
    char *beside = malloc(bytes); /* the page appears whole */
    if (beside != NULL)
        snprintf(beside, bytes, "%s.new", out_path);
    int written = beside != NULL && write_page(beside, lines, model, data) && rename(beside, out_path) == 0;
    free(beside);
    json_decref(lines);
    return written ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot write %s: %s", out_path, strerror(errno));
}
