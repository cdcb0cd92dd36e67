/* The sections of tokenizer.json as SentencePiece's vocabularies with byte fallback have them. */
#include <string.h>

#include "base/status.h"
#include "text/spaces.h"
#include "text/tokenizer_parts.h"

static const char *text_of(const json_t *component, const char *key) {
    const char *text = json_string_value(json_object_get(component, key));
    return text != NULL ? text : "";
}

/* Replace's and Split's pattern, a String. */
static const char *pattern_of(const json_t *component) {
    return text_of(json_object_get(component, "pattern"), "String");
}

static balora_status expect_text(const tokenizer *self, const char *where, const char *key, const char *found,
                                 const char *expected) {
    return strcmp(found, expected) == 0 ? BALORA_OK
                                        : tokenizer_unsupported(self, "%s has the %s \"%s\", expected \"%s\"",
                                                                where, key, found, expected);
}

balora_status spaces_read_normalizer(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "normalizer", "normalizers", &components));
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "normalizer", &component, &type));
        if (strcmp(type, "Replace") == 0) {
            STATUS_TRY(expect_text(self, "normalizer Replace", "pattern", pattern_of(component), " "));
            STATUS_TRY(expect_text(self, "normalizer Replace", "content", text_of(component, "content"),
                                   SPACE_MARK));
            self->mark_spaces = true;
        } else if (strcmp(type, "Prepend") == 0) {
            STATUS_TRY(
                expect_text(self, "normalizer Prepend", "text", text_of(component, "prepend"), SPACE_MARK));
            if (self->prepend_mark)
                return tokenizer_unsupported(self, "normalizer has more than one Prepend");
            self->prepend_mark = true;
        } else {
            return tokenizer_unsupported(self, "normalizer.type is \"%s\" beside byte_fallback", type);
        }
    }
    return self->prepend_mark && !self->mark_spaces
               ? tokenizer_unsupported(self, "normalizer has Prepend without Replace")
               : BALORA_OK;
}

static balora_status read_metaspace(tokenizer *self, const json_t *component) {
    static const struct {
        const char *name;
        metaspace scheme;
    } schemes[] = {{"never", METASPACE_NEVER}, {"first", METASPACE_FIRST}, {"always", METASPACE_ALWAYS}};
    const char *scheme = "always";
    bool split = true, prefix = true;
    STATUS_TRY(expect_text(self, "pre_tokenizer Metaspace", "replacement", text_of(component, "replacement"),
                           SPACE_MARK));
    STATUS_TRY(json_member_string(component, "prepend_scheme", self->path, false, &scheme));
    STATUS_TRY(json_member_boolean(component, "split", self->path, &split));
    STATUS_TRY(json_member_boolean(component, "add_prefix_space", self->path, &prefix));
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strcmp(scheme, schemes[i].name) == 0)
            self->spaces = schemes[i].scheme;
    if (self->spaces == METASPACE_NONE)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: pre_tokenizer: prepend_scheme is \"%.200s\", expected always, first or never",
                           self->path, scheme);
    if (!prefix && self->spaces != METASPACE_NEVER)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: pre_tokenizer: add_prefix_space is false, but prepend_scheme is \"%s\"",
                           self->path, scheme);
    if (self->prepend_mark)
        return tokenizer_unsupported(self, "pre_tokenizer is Metaspace behind a normalizer with Prepend");
    if (split)
        self->steps[self->step_count++] = SPLIT_MARKS;
    return BALORA_OK;
}

/* Gemma's Split at spaces: there are none any more, so that it never cuts. */
static balora_status check_split(const tokenizer *self, const json_t *component) {
    bool invert = false;
    STATUS_TRY(json_member_boolean(component, "invert", self->path, &invert));
    STATUS_TRY(expect_text(self, "pre_tokenizer Split", "pattern", pattern_of(component), " "));
    STATUS_TRY(expect_text(self, "pre_tokenizer Split", "behavior", text_of(component, "behavior"),
                           "MergedWithPrevious"));
    if (invert)
        return tokenizer_unsupported(self, "pre_tokenizer Split has invert on");
    return self->mark_spaces ? BALORA_OK
                             : tokenizer_unsupported(
                                   self, "pre_tokenizer Split cuts at spaces that no normalizer replaces");
}

balora_status spaces_read_pre_tokenizer(tokenizer *self, const json_t *file) {
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "pre_tokenizer", "pretokenizers", &components));
    if (components.count > 1)
        return tokenizer_unsupported(self, "pre_tokenizer has %zu parts beside byte_fallback, at most 1",
                                     components.count);
    if (components.count == 0)
        return BALORA_OK;
    const json_t *component;
    const char *type;
    STATUS_TRY(tokenizer_component_type(self, &components, 0, "pre_tokenizer", &component, &type));
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(self, component);
    if (strcmp(type, "Split") == 0)
        return check_split(self, component);
    return tokenizer_unsupported(self, "pre_tokenizer.type is \"%s\" beside byte_fallback", type);
}

/* How many spaces at the beginning go: as many as there are, up to `start`. */
static balora_status read_strip(tokenizer *self, const json_t *component) {
    STATUS_TRY(expect_text(self, "decoder Strip", "content", text_of(component, "content"), " "));
    const json_t *start = json_object_get(component, "start"), *stop = json_object_get(component, "stop");
    if (!json_is_integer(start) || json_integer_value(start) < 0)
        return status_fail(BALORA_ERROR_FORMAT, "%s: decoder: Strip: \"start\" is not a count", self->path);
    if (!json_is_integer(stop) || json_integer_value(stop) != 0)
        return tokenizer_unsupported(self, "decoder Strip has a stop that is not 0");
    self->strip_left = (size_t)json_integer_value(start);
    return BALORA_OK;
}

balora_status spaces_read_decoder(tokenizer *self, const json_t *file) {
    static const char *const order[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
    component_list components;
    STATUS_TRY(tokenizer_list_components(self, file, "decoder", "decoders", &components));
    for (size_t i = 0; i < components.count; i++) {
        const json_t *component;
        const char *type;
        STATUS_TRY(tokenizer_component_type(self, &components, i, "decoder", &component, &type));
        if (i >= sizeof order / sizeof *order || strcmp(type, order[i]) != 0)
            return tokenizer_unsupported(
                self,
                "decoder has \"%s\" at place %zu, expected Replace, ByteFallback, Fuse and perhaps Strip",
                type, i);
        if (i == 0) {
            STATUS_TRY(expect_text(self, "decoder Replace", "pattern", pattern_of(component), SPACE_MARK));
            STATUS_TRY(expect_text(self, "decoder Replace", "content", text_of(component, "content"), " "));
        }
        if (i == 3)
            STATUS_TRY(read_strip(self, component));
    }
    return components.count == 0 || components.count >= 3
               ? BALORA_OK
               : tokenizer_unsupported(self, "decoder has no Fuse beside byte_fallback");
}
