/* Folders as wholes: removed, copied, summed up, compared. In the process itself: the tests do it thousands of times. */
#ifndef TESTS_TREE_H
#define TESTS_TREE_H

#include <stdbool.h>
#include <stdint.h>

void tree_remove(const char *path); /* nothing there is fine */
void tree_copy(const char *from, const char *to);

/* A sum over names, kinds and contents of everything in a folder. */
uint64_t tree_sum(const char *folder);

/* Is every file below `found` the same in `before` or in `after`? A folder "step-..." is as a whole. Names the first
 * that is not. */
bool tree_is_old_or_new(const char *found, const char *before, const char *after);

/* Is there every file of `before`? Names the first that is gone. */
bool tree_holds(const char *found, const char *before);

#endif
