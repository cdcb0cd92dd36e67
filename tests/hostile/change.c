/* One change of the valid folder. */
#include "hostile.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "format/safetensors.h"

/* The container that holds the last part of "a/b/c", which *name gets; members on the way must be there. */
static json_t *find_container(json_t *root, const char *key, char name[128]) {
    json_t *at = root;
    for (const char *slash; (slash = strchr(key, '/')) != NULL; key = slash + 1) {
        snprintf(name, 128, "%.*s", (int)(slash - key), key);
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(name)) : json_object_get(at, name);
        assert_non_null(at);
    }
    snprintf(name, 128, "%s", key);
    return at;
}

/* `value` NULL: remove. */
static char *change_json(const char *text, size_t bytes, const char *key, const char *value) {
    json_t *root = json_loadb(text, bytes, 0, NULL);
    assert_non_null(root);
    char name[128];
    json_t *container = find_container(root, key, name);
    if (value == NULL) {
        assert_int_equal(json_object_del(container, name), 0);
    } else {
        json_t *changed = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(changed);
        int failed = json_is_array(container) ? json_array_set_new(container, (size_t)atoi(name), changed)
                                              : json_object_set_new(container, name, changed);
        assert_int_equal(failed, 0);
    }
    char *out = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return out;
}

static void write_header(scratch *self, const char *name, const char *header, const char *data,
                         size_t data_bytes) {
    size_t length = strlen(header);
    char *whole = malloc(8 + length + data_bytes);
    assert_non_null(whole);
    for (int i = 0; i < 8; i++)
        whole[i] = (char)(length >> (8 * i));
    memcpy(whole + 8, header, length);
    memcpy(whole + 8 + length, data, data_bytes);
    put_file(self, name, whole, 8 + length + data_bytes);
    free(whole);
}

static size_t header_length(const char *whole) {
    size_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | (unsigned char)whole[i];
    return length;
}

static void change_header(scratch *self, const bad_input *row, const char *whole, size_t bytes) {
    size_t length = header_length(whole);
    if (row->change == HEADER_TEXT) {
        write_header(self, row->file, row->value, whole + 8 + length, bytes - 8 - length);
        return;
    }
    char *header = change_json(whole + 8, length, row->key, row->change == HEADER_SET ? row->value : NULL);
    write_header(self, row->file, header, whole + 8 + length, bytes - 8 - length);
    free(header);
}

static void change_element(scratch *self, const bad_input *row, char *whole, size_t bytes) {
    safetensors_file file;
    expect_ok(safetensors_open(&file, &self->memory, scratch_path(self, row->file)));
    const safetensors_entry *entry = safetensors_find(&file, row->key);
    assert_non_null(entry);
    char *place = whole + entry->offset;
    if (entry->dtype == BALORA_I64) {
        int64_t number = strtoll(row->value, NULL, 10);
        memcpy(place + row->number * 8, &number, sizeof number);
    } else if (entry->dtype == BALORA_I32) {
        int32_t number = (int32_t)strtol(row->value, NULL, 10);
        memcpy(place + row->number * 4, &number, sizeof number);
    } else {
        float number = strtof(row->value, NULL);
        memcpy(place + row->number * 4, &number, sizeof number);
    }
    safetensors_close(&file);
    put_file(self, row->file, whole, bytes);
}

static void change_content(scratch *self, const bad_input *row, char *whole, size_t bytes) {
    char *text;
    switch (row->change) {
    case SET:
    case REMOVE:
        text = change_json(whole, bytes, row->key, row->change == SET ? row->value : NULL);
        put_file(self, row->file, text, strlen(text));
        free(text);
        break;
    case HEADER_SET:
    case HEADER_REMOVE:
    case HEADER_TEXT:
        change_header(self, row, whole, bytes);
        break;
    case ELEMENT:
        change_element(self, row, whole, bytes);
        break;
    case CUT:
        put_file(self, row->file, whole,
                 row->number < 0 ? bytes - (size_t)-row->number : (size_t)row->number);
        break;
    case LENGTH:
        for (int i = 0; i < 8; i++)
            whole[i] = (char)((uint64_t)row->number >> (8 * i));
        put_file(self, row->file, whole, bytes);
        break;
    default:
        fail_msg("%s: no such change", row->name);
    }
}

static void write_repeated(scratch *self, const bad_input *row) {
    size_t length = strlen(row->value), count = (size_t)row->number;
    char *text = malloc(length * count + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * length, row->value, length);
    put_file(self, row->file, text, length * count);
    free(text);
}

static void append(const char *path, const char *value) {
    FILE *file = fopen(path, "ab");
    assert_non_null(file);
    assert_true(fputs(value, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

bool change_folder(scratch *self, const bad_input *row) {
    const char *path = scratch_path(self, row->file);
    char *whole;
    uint64_t bytes;
    switch (row->change) {
    case TEXT:
        put_file(self, row->file, row->value, strlen(row->value));
        return true;
    case APPEND:
        append(path, row->value);
        return true;
    case SIZE:
        assert_int_equal(truncate(path, row->number), 0);
        return true;
    case DEEP:
        write_repeated(self, row);
        return true;
    case DELETE:
    case FOLDER:
    case PIPE:
    case LINK:
        assert_int_equal(unlink(path), 0);
        assert_true(row->change == DELETE || (row->change == FOLDER && mkdir(path, 0777) == 0) ||
                    (row->change == PIPE && mkfifo(path, 0666) == 0) ||
                    (row->change == LINK && symlink(row->value, path) == 0));
        return true;
    case CLOSED:
        return geteuid() != 0 && chmod(path, 0) == 0;
    default:
        expect_ok(file_read_all(&whole, &bytes, &self->memory, path, 1 << 20));
        change_content(self, row, whole, (size_t)bytes);
        memory_free(&self->memory, whole);
        return true;
    }
}
