/* The sections "normalizer", "pre_tokenizer", "post_processor" and "decoder" of tokenizer.json. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "text/tokenizer_parts.h"

balora_status tokenizer_unsupported(const tokenizer *self, const char *format, ...) {
    char found[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(found, sizeof found, format, arguments);
    va_end(arguments);
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "%s: %s; supported is BPE, byte-level as GPT-2, SmolLM2, LLaMA-3 and Qwen have it or with byte "
        "fallback as Gemma, LLaMA 2 and Mistral have it. Any tokenizer works with a token file: --data "
        "FILE.safetensors (input_ids, labels, offsets)",
        self->path, found);
}

balora_status tokenizer_list_components(const tokenizer *self, const json_t *file, const char *key,
                                        const char *list_key, component_list *out) {
    const json_t *value = json_object_get(file, key);
    *out = (component_list){.single = value, .count = 1};
    if (value == NULL || json_is_null(value)) {
        out->count = 0;
        return BALORA_OK;
    }
    if (!json_is_object(value))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": expected an object or null, found %s",
                           self->path, key, json_type_name(value));
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type == NULL || strcmp(type, "Sequence") != 0)
        return BALORA_OK;
    out->list = json_object_get(value, list_key);
    out->count = json_array_size(out->list);
    if (!json_is_array(out->list))
        return status_fail(BALORA_ERROR_FORMAT, "%s: %s: a Sequence must have the array \"%s\"", self->path,
                           key, list_key);
    return BALORA_OK;
}

balora_status tokenizer_component_type(const tokenizer *self, const component_list *components, size_t place,
                                       const char *key, const json_t **component, const char **type) {
    *component = components->list != NULL ? json_array_get(components->list, place) : components->single;
    *type = json_string_value(json_object_get(*component, "type"));
    if (*type == NULL)
        return status_fail(BALORA_ERROR_FORMAT, "%s: %s: component %zu has no \"type\"", self->path, key,
                           place);
    return BALORA_OK;
}

static balora_status read_normalizer(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "normalizer", "normalizers", &components));
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "normalizer", &component, &type));
        if (strcmp(type, "NFC") != 0)
            return tokenizer_unsupported(self, "normalizer.type is \"%s\"", type);
        self->nfc = true;
    }
    return BALORA_OK;
}

static balora_status add_step(tokenizer *self, split_kind kind) {
    if (self->step_count == TOKENIZER_STEP_LIMIT)
        return tokenizer_unsupported(self, "pre_tokenizer has more than %d splits", TOKENIZER_STEP_LIMIT);
    self->steps[self->step_count++] = kind;
    return BALORA_OK;
}

static balora_status read_split(tokenizer *self, const json_t *component) {
    const char *behavior = "",
               *pattern = json_string_value(json_object_get(json_object_get(component, "pattern"), "Regex"));
    bool invert = false;
    STATUS_TRY(json_member_string(component, "behavior", self->path, true, &behavior));
    STATUS_TRY(json_member_boolean(component, "invert", self->path, &invert));
    if (strcmp(behavior, "Isolated") != 0)
        return tokenizer_unsupported(self, "pre_tokenizer Split has the behavior \"%s\"", behavior);
    if (invert)
        return tokenizer_unsupported(self, "pre_tokenizer Split has invert on");
    split_kind kind;
    if (pattern == NULL)
        return tokenizer_unsupported(self, "pre_tokenizer Split has a pattern that is not a Regex");
    if (!split_recognise(pattern, &kind))
        return tokenizer_unsupported(self, "pre_tokenizer Split has the pattern \"%s\"", pattern);
    return add_step(self, kind);
}

static balora_status read_byte_level(tokenizer *self, const json_t *component) {
    bool use_regex = true;
    STATUS_TRY(json_member_boolean(component, "add_prefix_space", self->path, &self->prefix_space));
    STATUS_TRY(json_member_boolean(component, "use_regex", self->path, &use_regex));
    self->byte_level_step = self->step_count;
    return use_regex ? add_step(self, SPLIT_GPT2) : BALORA_OK;
}

static balora_status read_pre_tokenizer(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "pre_tokenizer", "pretokenizers", &components));
    bool byte_level = false;
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "pre_tokenizer", &component, &type));
        if (byte_level)
            return tokenizer_unsupported(self, "pre_tokenizer has \"%s\" behind ByteLevel", type);
        if (strcmp(type, "ByteLevel") == 0) {
            STATUS_TRY(read_byte_level(self, component));
            byte_level = true;
        } else if (strcmp(type, "Split") == 0) {
            STATUS_TRY(read_split(self, component));
        } else if (strcmp(type, "Digits") == 0) {
            bool individual = false;
            STATUS_TRY(json_member_boolean(component, "individual_digits", self->path, &individual));
            STATUS_TRY(add_step(self, individual ? SPLIT_DIGIT : SPLIT_DIGITS));
        } else {
            return tokenizer_unsupported(self, "pre_tokenizer.type is \"%s\"", type);
        }
    }
    return byte_level ? BALORA_OK : tokenizer_unsupported(self, "pre_tokenizer has no ByteLevel");
}

static balora_status read_decoder(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "decoder", "decoders", &components));
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "decoder", &component, &type));
        if (strcmp(type, "ByteLevel") != 0)
            return tokenizer_unsupported(self, "decoder.type is \"%s\"", type);
    }
    return BALORA_OK;
}

/* The ids of one special token of a template. */
static balora_status read_template_token(const tokenizer *self, const json_t *processor, const json_t *piece,
                                         token_buffer *out) {
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *special = json_object_get(processor, "special_tokens");
    const json_t *ids = name != NULL ? json_object_get(json_object_get(special, name), "ids") : NULL;
    if (!json_is_array(ids))
        return status_fail(BALORA_ERROR_FORMAT, "%s: post_processor: no ids for the special token \"%s\"",
                           self->path, name != NULL ? name : "");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value >= VOCABULARY_LIMIT)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: post_processor: \"%s\": ids[%zu] is not an integer from 0 to %d",
                               self->path, name, i, VOCABULARY_LIMIT - 1);
        STATUS_TRY(token_buffer_append(out, (int32_t)value));
    }
    return BALORA_OK;
}

/* The template for one text: special tokens around the sequence A. */
static balora_status read_template(tokenizer *self, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    int sequences = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken");
        if (token == NULL)
            sequences++;
        else
            STATUS_TRY(
                read_template_token(self, processor, token, sequences == 0 ? &self->before : &self->behind));
    }
    return sequences == 1 ? BALORA_OK
                          : tokenizer_unsupported(
                                self, "post_processor.single names the text %d times, not once", sequences);
}

static balora_status read_post_processor(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "post_processor", "processors", &components));
    int templates = 0;
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "post_processor", &component, &type));
        if (strcmp(type, "ByteLevel") == 0)
            continue; /* it only trims offsets */
        if (strcmp(type, "TemplateProcessing") != 0)
            return tokenizer_unsupported(self, "post_processor.type is \"%s\"", type);
        if (++templates > 1)
            return tokenizer_unsupported(self, "post_processor has more than one TemplateProcessing");
        STATUS_TRY(read_template(self, component));
    }
    return BALORA_OK;
}

balora_status tokenizer_read_pipeline(tokenizer *self, const json_t *file) {
    bool spaces = self->model.byte_fallback;
    STATUS_TRY(spaces ? spaces_read_normalizer(self, file) : read_normalizer(self, file));
    STATUS_TRY(spaces ? spaces_read_pre_tokenizer(self, file) : read_pre_tokenizer(self, file));
    STATUS_TRY(spaces ? spaces_read_decoder(self, file) : read_decoder(self, file));
    return read_post_processor(self, file);
}
