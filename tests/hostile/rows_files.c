/* Files that are not what a file should be. */
#include "hostile.h"

#define ROW(name, call, change, file, value, status, part)                                                   \
    BAD(name, call, change, file, NULL, value, 0, status, file, part)
#define NO_FILE(name, call, file) ROW(name, call, FOLDER, file, NULL, BALORA_ERROR_IO, "regular file")
#define NO_END(name, call, file)  ROW(name, call, PIPE, file, NULL, BALORA_ERROR_IO, "regular file")
#define TO_ITSELF(name, call, file, itself)                                                                  \
    ROW(name, call, LINK, file, itself, BALORA_ERROR_IO, "cannot open")
#define NOT_OURS(name, call, file) ROW(name, call, CLOSED, file, NULL, BALORA_ERROR_IO, "cannot open")

static const bad_input rows[] = {
    BAD("no configuration", OPEN_MODEL, DELETE, "model/config.json", NULL, NULL, 0, BALORA_ERROR_NOT_FOUND,
        "model/config.json"),
    BAD("no weights", OPEN_MODEL, DELETE, "model/model.safetensors", NULL, NULL, 0, BALORA_ERROR_NOT_FOUND,
        "model", "model.safetensors"),
    NO_FILE("a configuration that is a folder", OPEN_MODEL, "model/config.json"),
    NO_FILE("weights that are a folder", OPEN_MODEL, "model/model.safetensors"),
    NO_FILE("an index that is a folder", OPEN_SHARDS, "shards/model.safetensors.index.json"),
    NO_FILE("a tokenizer that is a folder", OPEN_TOKENIZER, "model/tokenizer.json"),
    NO_FILE("a token file that is a folder", OPEN_TOKENS, "tokens.safetensors"),
    NO_FILE("an adapter configuration that is a folder", OPEN_ADAPTER, "adapter/adapter_config.json"),
    NO_END("a configuration that is a pipe", OPEN_MODEL, "model/config.json"),
    NO_END("weights that are a pipe", OPEN_MODEL, "model/model.safetensors"),
    NO_END("a tokenizer that is a pipe", OPEN_TOKENIZER, "model/tokenizer.json"),
    NO_END("rows that are a pipe", OPEN_ROWS, "rows.jsonl"),
    NO_END("a token file that is a pipe", OPEN_TOKENS, "tokens.safetensors"),
    NO_END("an adapter configuration that is a pipe", OPEN_ADAPTER, "adapter/adapter_config.json"),
    NO_END("factors that are a pipe", OPEN_ADAPTER, "adapter/adapter_model.safetensors"),
    TO_ITSELF("a configuration that is a link to itself", OPEN_MODEL, "model/config.json", "config.json"),
    TO_ITSELF("rows that are a link to themselves", OPEN_ROWS, "rows.jsonl", "rows.jsonl"),
    ROW("a configuration that is a link to nothing", OPEN_MODEL, LINK, "model/config.json", "nowhere",
        BALORA_ERROR_NOT_FOUND, "cannot open"),
    BAD("weights that are a link to nothing", OPEN_MODEL, LINK, "model/model.safetensors", NULL, "nowhere", 0,
        BALORA_ERROR_NOT_FOUND, "/model", "model.safetensors"),
    ROW("a tokenizer that is a link to nothing", OPEN_TOKENIZER, LINK, "model/tokenizer.json", "nowhere",
        BALORA_ERROR_NOT_FOUND, "no such file"),
    ROW("rows that are a link to nothing", OPEN_ROWS, LINK, "rows.jsonl", "nowhere", BALORA_ERROR_NOT_FOUND,
        "cannot open"),
    ROW("a configuration that is a device", OPEN_MODEL, LINK, "model/config.json", "/dev/zero",
        BALORA_ERROR_IO, "regular file"),
    ROW("rows that are a device", OPEN_ROWS, LINK, "rows.jsonl", "/dev/zero", BALORA_ERROR_IO,
        "regular file"),
    NOT_OURS("a configuration that nobody may read", OPEN_MODEL, "model/config.json"),
    NOT_OURS("weights that nobody may read", OPEN_MODEL, "model/model.safetensors"),
    NOT_OURS("rows that nobody may read", OPEN_ROWS, "rows.jsonl"),
    NOT_OURS("factors that nobody may read", OPEN_ADAPTER, "adapter/adapter_model.safetensors"),
};

const bad_inputs file_inputs = {rows, sizeof rows / sizeof *rows};
