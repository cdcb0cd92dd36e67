#include "tree.h"

#include <dirent.h>
#include <sys/stat.h>

#include "../unit/scratch.h"

#define CONTENT_LIMIT (1 << 20) /* larger files are summed by their size alone */

typedef void (*tree_visit)(const char *name, const char *path, const struct stat *facts, void *user);

static void visit(const char *folder, tree_visit action, void *user) {
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0)
        fail_msg("%s: cannot list the folder", folder);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        char path[512];
        struct stat facts;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            assert_int_equal(lstat(path, &facts), 0);
            action(name, path, &facts, user);
        }
        free(entries[i]);
    }
    free(entries);
}

static void remove_one(const char *name, const char *path, const struct stat *facts, void *user) {
    (void)name;
    (void)user;
    if (S_ISDIR(facts->st_mode))
        tree_remove(path);
    else
        assert_int_equal(unlink(path), 0);
}

void tree_remove(const char *path) {
    struct stat facts;
    if (lstat(path, &facts) != 0)
        return;
    visit(path, remove_one, NULL);
    assert_int_equal(rmdir(path), 0);
}

/* The content, NULL where there is no such file; free() it. */
static char *read_file(const char *path, size_t *bytes) {
    struct stat facts;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &facts) != 0)
        return NULL;
    char *content = malloc((size_t)facts.st_size + 1);
    assert_non_null(content);
    *bytes = fread(content, 1, (size_t)facts.st_size, file);
    fclose(file);
    return content;
}

static void copy_one(const char *name, const char *path, const struct stat *facts, void *user) {
    char target[512];
    snprintf(target, sizeof target, "%s/%s", (const char *)user, name);
    if (S_ISDIR(facts->st_mode)) {
        tree_copy(path, target);
        return;
    }
    size_t bytes;
    char *content = read_file(path, &bytes);
    FILE *file = fopen(target, "wb");
    assert_true(content != NULL && file != NULL);
    assert_int_equal(fwrite(content, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    free(content);
}

void tree_copy(const char *from, const char *to) {
    assert_int_equal(mkdir(to, 0777), 0);
    visit(from, copy_one, (void *)to);
}

static uint64_t sum_bytes(uint64_t sum, const void *data, size_t count) { /* FNV-1a */
    const unsigned char *bytes = data;
    for (size_t i = 0; i < count; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void sum_one(const char *name, const char *path, const struct stat *facts, void *user) {
    uint64_t *sum = user;
    *sum = sum_bytes(*sum, name, strlen(name) + 1);
    *sum = sum_bytes(*sum, &facts->st_mode, sizeof facts->st_mode);
    if (S_ISDIR(facts->st_mode)) {
        uint64_t below = tree_sum(path);
        *sum = sum_bytes(*sum, &below, sizeof below);
        return;
    }
    *sum = sum_bytes(*sum, &facts->st_size, sizeof facts->st_size);
    if (S_ISREG(facts->st_mode) && facts->st_size < CONTENT_LIMIT) {
        size_t bytes;
        char *content = read_file(path, &bytes);
        *sum = content != NULL ? sum_bytes(*sum, content, bytes) : *sum;
        free(content);
    }
}

uint64_t tree_sum(const char *folder) {
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    visit(folder, sum_one, &sum);
    return sum;
}

static bool same_files(const char *left, const char *right) {
    size_t left_bytes, right_bytes;
    char *a = read_file(left, &left_bytes), *b = read_file(right, &right_bytes);
    bool same = a != NULL && b != NULL && left_bytes == right_bytes && memcmp(a, b, left_bytes) == 0;
    free(a);
    free(b);
    return same;
}

static bool same_trees(const char *left, const char *right) {
    struct stat facts;
    return stat(right, &facts) == 0 && tree_sum(left) == tree_sum(right);
}

typedef struct comparison {
    const char *before, *after;
    bool good;
} comparison;

static void compare_one(const char *name, const char *path, const struct stat *facts, void *user) {
    comparison *self = user;
    char before[512], after[512];
    snprintf(before, sizeof before, "%s/%s", self->before, name);
    snprintf(after, sizeof after, "%s/%s", self->after, name);
    if (!self->good)
        return;
    if (S_ISDIR(facts->st_mode)) {
        char *moved = strstr(before + strlen(self->before), ".tmp-");
        if (moved != NULL)
            *moved = '\0';                           /* an old one on its way out */
        bool whole = strncmp(name, "step-", 5) == 0; /* a checkpoint's */
        self->good = whole ? same_trees(path, before) || same_trees(path, after)
                           : tree_is_old_or_new(path, before, after);
        if (whole && !self->good)
            print_message("    %s is neither the old folder nor the new one\n", path);
        return;
    }
    self->good = same_files(path, before) || same_files(path, after);
    if (!self->good)
        print_message("    %s is neither the old file nor the new one\n", path);
}

bool tree_is_old_or_new(const char *found, const char *before, const char *after) {
    comparison self = {before, after, true};
    visit(found, compare_one, &self);
    return self.good;
}

static void find_one(const char *name, const char *path, const struct stat *facts, void *user) {
    comparison *self = user;
    char found[512];
    struct stat there;
    snprintf(found, sizeof found, "%s/%s", self->after, name);
    if (self->good && lstat(found, &there) != 0) {
        print_message("    %s is gone\n", found);
        self->good = false;
    }
    if (self->good && S_ISDIR(facts->st_mode))
        self->good = tree_holds(found, path);
}

bool tree_holds(const char *found, const char *before) {
    comparison self = {before, found, true};
    visit(before, find_one, &self);
    return self.good;
}
