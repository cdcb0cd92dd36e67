#include "progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum { MARKS = 20, LINE_SECONDS = 10, WIDEST_BAR = 40, NARROWEST_BAR = 5, TEXT = 128 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void progress_start(progress *self, int64_t first_step, int64_t total_steps) {
    memset(self, 0, sizeof *self);
    self->first_step = first_step;
    self->total_steps = total_steps;
    self->terminal = isatty(STDOUT_FILENO);
    self->last_time = now();
}

static int terminal_columns(void) {
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void print_figures(const progress *self, char text[TEXT]) {
    char left[HUMAN_TEXT];
    double rate = self->seconds > 0 ? (double)self->tokens / self->seconds : 0;
    double remaining =
        (double)(self->total_steps - self->steps) * self->seconds / (double)(self->steps - self->first_step);
    snprintf(text, TEXT, "loss %.4f  %.0f tokens/s  %s left", self->mean_loss, rate,
             human_duration(left, remaining));
}

static void draw_bar(progress *self) {
    char figures[TEXT], bar[WIDEST_BAR + 1];
    print_figures(self, figures);
    int digits = snprintf(NULL, 0, "%" PRId64, self->total_steps);
    int room = terminal_columns() - 1 - (2 * digits + 1) - 2 - (int)strlen(figures) - 4;
    int width = room > WIDEST_BAR ? WIDEST_BAR : room;
    printf("\r%*" PRId64 "/%" PRId64 "  ", digits, self->steps, self->total_steps);
    if (width >= NARROWEST_BAR) {
        int filled = (int)((double)width * (double)self->steps / (double)self->total_steps);
        memset(bar, '.', (size_t)width);
        memset(bar, '#', (size_t)filled);
        bar[width] = '\0';
        printf("[%s]  ", bar);
    }
    printf("%s\033[K", figures);
    fflush(stdout);
    self->drawn = 1;
}

static void print_line(progress *self) {
    char figures[TEXT];
    int64_t mark = self->steps * MARKS / self->total_steps;
    if (self->steps > self->first_step + 1 && mark == self->last_mark &&
        now() - self->last_time < LINE_SECONDS)
        return;
    print_figures(self, figures);
    printf("step %" PRId64 "/%" PRId64 "  %s\n", self->steps, self->total_steps, figures);
    fflush(stdout);
    self->last_mark = mark;
    self->last_time = now();
}

void progress_update(progress *self, const balora_step_metrics *metrics) {
    self->steps = metrics->step;
    self->tokens += metrics->tokens;
    self->seconds += metrics->seconds;
    if (isfinite(metrics->loss))
        self->mean_loss =
            self->steps == self->first_step + 1 ? metrics->loss : 0.9 * self->mean_loss + 0.1 * metrics->loss;
    if (self->terminal)
        draw_bar(self);
    else
        print_line(self);
}

void progress_pause(progress *self) {
    if (self->drawn)
        printf("\r\033[K");
    self->drawn = 0;
    fflush(stdout);
}
