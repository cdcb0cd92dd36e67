/* PEFT adapters: read, and what becomes of them where results are written. */
#include "hostile.h"

#define CONFIG  "adapter/adapter_config.json"
#define WEIGHTS "adapter/adapter_model.safetensors"
#define Q_A     "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
#define Q_B     "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

#define SET_ROW(name, key, value, status, ...)                                                               \
    BAD(name, OPEN_ADAPTER, SET, CONFIG, key, value, 0, status, CONFIG, "\"" key "\"", __VA_ARGS__)
#define WRONG(name, key, value, ...) SET_ROW(name, key, value, BALORA_ERROR_FORMAT, __VA_ARGS__)
#define OTHER(name, key, value, ...) SET_ROW(name, key, value, BALORA_ERROR_UNSUPPORTED, __VA_ARGS__)

static const bad_input rows[] = {
    BAD("an empty adapter configuration", OPEN_ADAPTER, TEXT, CONFIG, NULL, "", 0, BALORA_ERROR_FORMAT,
        CONFIG, "not valid JSON"),
    BAD("an adapter configuration that is a list", OPEN_ADAPTER, TEXT, CONFIG, NULL, "[]", 0,
        BALORA_ERROR_FORMAT, CONFIG, "found an array"),
    BAD("an adapter configuration with a key twice", OPEN_ADAPTER, TEXT, CONFIG, NULL, "{\"r\": 2, \"r\": 2}",
        0, BALORA_ERROR_FORMAT, CONFIG, "duplicate"),
    BAD("an adapter of no kind", OPEN_ADAPTER, REMOVE, CONFIG, "peft_type", NULL, 0, BALORA_ERROR_FORMAT,
        CONFIG, "\"peft_type\"", "missing"),
    OTHER("an adapter of another kind", "peft_type", "\"IA3\"", "IA3"),
    WRONG("an adapter's kind as a number", "peft_type", "3", "found a number"),
    WRONG("a rank of 0", "r", "0", "is 0"),
    WRONG("a negative rank", "r", "-1", "is -1"),
    WRONG("a rank as a text", "r", "\"2\"", "found a string"),
    WRONG("a rank beyond every matrix", "r", "65537", "expected 1 to 65536"),
    WRONG("a rank beyond 64 bits", "r", "1e300", "expected an integer"),
    BAD("a rank that the factors lack", OPEN_ADAPTER, SET, CONFIG, "r", "3", 0, BALORA_ERROR_MISMATCH,
        WEIGHTS, "lora_A.weight", "expected [3,"),
    WRONG("an alpha of 0", "lora_alpha", "0", "is 0"),
    WRONG("an alpha as a text", "lora_alpha", "\"4\"", "found a string"),
    WRONG("rsLoRA as a number", "use_rslora", "1", "expected true or false"),
    WRONG("dropout as a text", "lora_dropout", "\"0\"", "found a string"),
    WRONG("targets that are a number", "target_modules", "7", "found a number"),
    WRONG("a target that is a number", "target_modules", "[\"q_proj\", 7]", "[1]"),
    OTHER("tensors of another library", "megatron_config", "{\"a\": 1}", "Megatron"),
    OTHER("repeated layers", "layer_replication", "[[0, 1]]", "more than once"),
    OTHER("a key from the future", "use_telepathy", "true", "newer"),
    OTHER("a start that changes the base", "init_lora_weights", "\"olora\"", "olora"),
    BAD("no adapter configuration", OPEN_ADAPTER, DELETE, CONFIG, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND,
        CONFIG),
    BAD("no factors", OPEN_ADAPTER, DELETE, WEIGHTS, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND, "adapter",
        "adapter_model.safetensors"),
    BAD("factors that are a folder", OPEN_ADAPTER, FOLDER, WEIGHTS, NULL, NULL, 0, BALORA_ERROR_IO, WEIGHTS,
        "regular file"),
    BAD("factors that were cut", OPEN_ADAPTER, CUT, WEIGHTS, NULL, NULL, -4, BALORA_ERROR_FORMAT, WEIGHTS,
        "data_offsets"),
    BAD("factors that hold nothing", OPEN_ADAPTER, TEXT, WEIGHTS, NULL, "", 0, BALORA_ERROR_FORMAT, WEIGHTS,
        "too few"),
    BAD("a factor of another shape", OPEN_ADAPTER, HEADER_SET, WEIGHTS, Q_A "/shape", "[4, 2]", 0,
        BALORA_ERROR_MISMATCH, WEIGHTS, Q_A, "expected [2, 4]"),
    BAD("a factor of another rank", OPEN_ADAPTER, HEADER_SET, WEIGHTS, Q_A "/shape", "[8]", 0,
        BALORA_ERROR_MISMATCH, WEIGHTS, Q_A, "expected [2, 4]"),
    BAD("a factor of integers", OPEN_ADAPTER, HEADER_SET, WEIGHTS, Q_A "/dtype", "\"I32\"", 0,
        BALORA_ERROR_UNSUPPORTED, WEIGHTS, Q_A, "I32"),
    BAD("a factor that is not finite", OPEN_ADAPTER, ELEMENT, WEIGHTS, Q_B, "nan", 5, BALORA_ERROR_NUMERIC,
        WEIGHTS, Q_B, "element 5"),
    BAD("a factor that is infinite", OPEN_ADAPTER, ELEMENT, WEIGHTS, Q_A, "-inf", 0, BALORA_ERROR_NUMERIC,
        WEIGHTS, Q_A, "element 0"),
    BAD("a factor that is not finite, saved", SAVE, ELEMENT, WEIGHTS, Q_B, "inf", 0, BALORA_ERROR_NUMERIC,
        WEIGHTS, Q_B),
    BAD("a factor that is not finite, merged", MERGE, ELEMENT, WEIGHTS, Q_A, "nan", 7, BALORA_ERROR_NUMERIC,
        WEIGHTS, Q_A, "element 7"),
    BAD("a base that is not finite, merged", MERGE, ELEMENT, "model/model.safetensors",
        "model.layers.0.self_attn.q_proj.weight", "nan", 2, BALORA_ERROR_NUMERIC, "q_proj", NULL),
    BAD("an adapter of another rank, merged", MERGE, SET, CONFIG, "r", "1", 0, BALORA_ERROR_MISMATCH, WEIGHTS,
        "expected [1,"),
    BAD("an adapter beside a broken model", SAVE, CUT, "model/model.safetensors", NULL, NULL, -1,
        BALORA_ERROR_FORMAT, "model/model.safetensors"),
    BAD("tokens that do not fit, trained", TRAIN, ELEMENT, "tokens.safetensors", "input_ids", "100", 1,
        BALORA_ERROR_MISMATCH, "tokens.safetensors", "input_ids[1]"),
    BAD("tokens that do not fit, evaluated", EVALUATE, ELEMENT, "tokens.safetensors", "offsets", "9", 1,
        BALORA_ERROR_FORMAT, "tokens.safetensors", "offsets[1]"),
};

const bad_inputs adapter_inputs = {rows, sizeof rows / sizeof *rows};
