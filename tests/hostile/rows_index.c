/* Sharded weights. */
#include "hostile.h"

#define INDEX "shards/model.safetensors.index.json"
#define NORM  "model.norm.weight"

#define MAP_ROW(name, value, status, part)                                                                   \
    BAD(name, OPEN_SHARDS, SET, INDEX, "weight_map/" NORM, value, 0, status, INDEX, NORM, part)

static const bad_input rows[] = {
    BAD("an empty index", OPEN_SHARDS, TEXT, INDEX, NULL, "", 0, BALORA_ERROR_FORMAT, INDEX,
        "not valid JSON"),
    BAD("an index that is an array", OPEN_SHARDS, TEXT, INDEX, NULL, "[]", 0, BALORA_ERROR_FORMAT, INDEX,
        "found an array"),
    BAD("an index without a map", OPEN_SHARDS, REMOVE, INDEX, "weight_map", NULL, 0, BALORA_ERROR_FORMAT,
        INDEX, "\"weight_map\""),
    BAD("a map that is an array", OPEN_SHARDS, SET, INDEX, "weight_map", "[\"a.safetensors\"]", 0,
        BALORA_ERROR_FORMAT, INDEX, "\"weight_map\""),
    BAD("a map that is null", OPEN_SHARDS, SET, INDEX, "weight_map", "null", 0, BALORA_ERROR_FORMAT, INDEX,
        "\"weight_map\""),
    BAD("an empty map", OPEN_SHARDS, SET, INDEX, "weight_map", "{}", 0, BALORA_ERROR_NOT_FOUND, "shards",
        "model.embed_tokens.weight"),
    MAP_ROW("a shard in the folder above", "\"../model/model.safetensors\"", BALORA_ERROR_FORMAT,
            "plain name"),
    MAP_ROW("a shard with an absolute path", "\"/etc/passwd\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard in a folder below", "\"x/b.safetensors\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard with a backslash", "\"..\\\\b.safetensors\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard that is the folder", "\".\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard that is the folder above", "\"..\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard without a name", "\"\"", BALORA_ERROR_FORMAT, "plain name"),
    MAP_ROW("a shard that is a number", "3", BALORA_ERROR_FORMAT, "found a number"),
    MAP_ROW("a shard that is null", "null", BALORA_ERROR_FORMAT, "found null"),
    MAP_ROW("a tensor in another shard than its own", "\"a.safetensors\"", BALORA_ERROR_NOT_FOUND,
            "a.safetensors"),
    BAD("a shard that is not there", OPEN_SHARDS, SET, INDEX, "weight_map/" NORM, "\"c.safetensors\"", 0,
        BALORA_ERROR_NOT_FOUND, INDEX, "c.safetensors"),
    BAD("a tensor that no shard has", OPEN_SHARDS, SET, INDEX, "weight_map/no.such", "\"a.safetensors\"", 0,
        BALORA_ERROR_NOT_FOUND, "a.safetensors", "no.such", INDEX),
    BAD("a tensor that the index leaves out", OPEN_SHARDS, REMOVE, INDEX, "weight_map/" NORM, NULL, 0,
        BALORA_ERROR_NOT_FOUND, "shards", NORM),
    BAD("a shard that was deleted", OPEN_SHARDS, DELETE, "shards/b.safetensors", NULL, NULL, 0,
        BALORA_ERROR_NOT_FOUND, INDEX, "b.safetensors"),
    BAD("a shard that was cut", OPEN_SHARDS, CUT, "shards/b.safetensors", NULL, NULL, -3, BALORA_ERROR_FORMAT,
        INDEX, "b.safetensors"),
    BAD("a shard that is empty", OPEN_SHARDS, CUT, "shards/a.safetensors", NULL, NULL, 0, BALORA_ERROR_FORMAT,
        INDEX, "a.safetensors", "too few"),
    BAD("a shard that is a folder", OPEN_SHARDS, FOLDER, "shards/b.safetensors", NULL, NULL, 0,
        BALORA_ERROR_IO, INDEX, "b.safetensors", "regular file"),
    BAD("an index of two maps", OPEN_SHARDS, TEXT, INDEX, NULL, "{\"weight_map\": {}, \"weight_map\": {}}", 0,
        BALORA_ERROR_FORMAT, INDEX, "duplicate"),
    BAD("an index that names a tensor twice", OPEN_SHARDS, TEXT, INDEX, NULL,
        "{\"weight_map\": {\"a\": \"a.safetensors\", \"a\": \"b.safetensors\"}}", 0, BALORA_ERROR_FORMAT,
        INDEX, "duplicate"),
    BAD("neither weights nor an index", OPEN_SHARDS, DELETE, INDEX, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND,
        "shards", "model.safetensors"),
};

const bad_inputs index_inputs = {rows, sizeof rows / sizeof *rows};
