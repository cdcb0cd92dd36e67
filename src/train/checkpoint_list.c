#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/status.h"
#include "train/checkpoint_files.h"

void checkpoint_name(char name[CHECKPOINT_NAME_BYTES], int64_t step) {
    snprintf(name, CHECKPOINT_NAME_BYTES, "step-%08lld", (long long)step);
}

balora_status checkpoint_path(allocator *memory, char **out, const char *folder, int64_t step) {
    char name[CHECKPOINT_NAME_BYTES];
    checkpoint_name(name, step);
    return file_join(memory, out, folder, name);
}

/* The step that a name begins with, exactly as checkpoint_name writes it; *end is what follows. 0: another name. */
static int64_t parse_step(const char *name, const char **end) {
    static const char prefix[] = "step-";
    const char *digits = name + sizeof prefix - 1;
    int64_t step = 0;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return 0;
    for (*end = digits; **end >= '0' && **end <= '9' && step < CHECKPOINT_STEP_LIMIT; ++*end)
        step = 10 * step + (**end - '0');
    char exact[CHECKPOINT_NAME_BYTES];
    checkpoint_name(exact, step);
    size_t length = (size_t)(*end - name);
    return strlen(exact) == length && memcmp(exact, name, length) == 0 ? step : 0;
}

static balora_status remove_stale(allocator *memory, const char *folder, const char *name) {
    char *path;
    STATUS_TRY(file_join(memory, &path, folder, name));
    folder_discard(path); /* it is in nobody's way but takes room */
    memory_free(memory, path);
    return BALORA_OK;
}

static int falling(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

balora_status checkpoint_list_read(checkpoint_list *out, allocator *memory, const char *folder, bool clean) {
    *out = (checkpoint_list){.memory = memory};
    folder_names held;
    STATUS_TRY(folder_read(&held, memory, folder));
    balora_status status;
    STATUS_GOTO(
        memory_new(memory, &out->steps, (size_t)held.count, sizeof *out->steps, "a list of checkpoints"));
    for (int64_t i = 0; i < held.count; i++) {
        const char *end;
        int64_t step = parse_step(held.names[i], &end);
        if (step > 0 && *end == '\0')
            out->steps[out->count++] = step;
        else if (step > 0 && clean && folder_is_stale(end))
            STATUS_GOTO(remove_stale(memory, folder, held.names[i]));
    }
    qsort(out->steps, (size_t)out->count, sizeof *out->steps, falling);
fail:
    folder_names_free(&held);
    if (status != BALORA_OK)
        checkpoint_list_free(out);
    return status;
}

void checkpoint_list_free(checkpoint_list *self) {
    if (self->memory == NULL)
        return;
    memory_free(self->memory, self->steps);
    *self = (checkpoint_list){0};
}
