#include "text/prompt.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "text/unicode.h"

#define INSTRUCTION_BEFORE                                                                                   \
    "Below is an instruction that describes a task. Write a response that appropriately completes the "      \
    "request.\n\n### Instruction:\n"
#define INSTRUCTION_BEHIND "\n\n### Response:"

/* How one turn is written: before + role + after_role + content + end + tail. */
typedef struct turn_form {
    const char *before, *after_role, *end, *tail;
    bool opens_with_bos; /* the conversation, once */
    bool trims;          /* white space around the content goes */
} turn_form;

static const turn_form turn_forms[] = {
    [TOKENIZER_CHAT_CHATML] = {"<|im_start|>", "\n", "<|im_end|>", "\n", false, false},
    [TOKENIZER_CHAT_LLAMA3] = {"<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "", true, true},
};

void prompt_sequence_init(prompt_sequence *self, allocator *memory) {
    *self = (prompt_sequence){.ids.memory = memory, .labels.memory = memory, .text.memory = memory};
}

void prompt_sequence_free(prompt_sequence *self) {
    token_buffer_free(&self->ids);
    token_buffer_free(&self->labels);
    text_buffer_free(&self->text);
}

static balora_status append_text(prompt_sequence *out, const char *text) {
    return text_buffer_append(&out->text, text, strlen(text));
}

/* Label the ids from `begin` on: the first `unsupervised` of them not. */
static balora_status label(prompt_sequence *out, size_t begin, size_t unsupervised) {
    for (size_t i = begin; i < out->ids.count; i++)
        STATUS_TRY(
            token_buffer_append(&out->labels, i - begin < unsupervised ? LABEL_NONE : out->ids.ids[i]));
    return BALORA_OK;
}

/*
 * Encode out->text, of which the first `source_bytes` are the source, and label it. The source goes first and
 * alone: its ids are counted and dropped.
 */
static balora_status encode_pair(prompt_sequence *out, const tokenizer *self, size_t source_bytes,
                                 bool add_special_tokens) {
    size_t begin = out->ids.count;
    STATUS_TRY(tokenizer_encode(self, out->text.bytes, source_bytes, add_special_tokens, &out->ids));
    size_t unsupervised = out->ids.count - begin;
    out->ids.count = begin;
    STATUS_TRY(tokenizer_encode(self, out->text.bytes, out->text.count, add_special_tokens, &out->ids));
    return label(out, begin, unsupervised);
}

/*
 * The text of the token that ends a text, if it is found there, else NULL. A `normalized` one is looked for in
 * its normal form, which may begin with a mark that no text has before it (LLaMA 1).
 */
static balora_status find_end_text(prompt_sequence *scratch, const tokenizer *self, int32_t end,
                                   const char **end_text) {
    *end_text = tokenizer_added_text(self, end);
    if (*end_text == NULL)
        return BALORA_OK;
    STATUS_TRY(append_text(scratch, "a"));
    STATUS_TRY(append_text(scratch, *end_text));
    STATUS_TRY(tokenizer_encode(self, scratch->text.bytes, scratch->text.count, false, &scratch->ids));
    size_t count = scratch->ids.count;
    if (count == 0 || scratch->ids.ids[count - 1] != end)
        *end_text = NULL;
    scratch->ids.count = scratch->text.count = 0;
    return BALORA_OK;
}

static balora_status encode_completion(prompt_sequence *out, const tokenizer *self,
                                       const char *const source[3], const char *target) {
    out->ids.count = out->labels.count = out->text.count = 0;
    int32_t end = tokenizer_eos(self);
    if (end < 0)
        return status_fail(
            BALORA_ERROR_NOT_FOUND,
            "%s: no token ends a text: set eos_token in tokenizer_config.json beside it, or eos_token_id in "
            "generation_config.json",
            tokenizer_path(self));
    const char *end_text;
    STATUS_TRY(find_end_text(out, self, end, &end_text));
    for (int part = 0; part < 3; part++)
        STATUS_TRY(append_text(out, source[part]));
    size_t source_bytes = out->text.count;
    STATUS_TRY(append_text(out, target));
    STATUS_TRY(append_text(out, end_text != NULL ? end_text : ""));
    STATUS_TRY(encode_pair(out, self, source_bytes, true));
    if (end_text != NULL)
        return BALORA_OK;
    STATUS_TRY(token_buffer_append(&out->ids, end));
    return token_buffer_append(&out->labels, end);
}

balora_status prompt_encode_completion(prompt_sequence *out, const tokenizer *self, const char *source,
                                       const char *target) {
    const char *const parts[3] = {source, "", ""};
    return encode_completion(out, self, parts, target);
}

balora_status prompt_encode_instruction(prompt_sequence *out, const tokenizer *self, const char *instruction,
                                        const char *target) {
    const char *const parts[3] = {INSTRUCTION_BEFORE, instruction, INSTRUCTION_BEHIND};
    return encode_completion(out, self, parts, target);
}

static void trim(const char **text, size_t *bytes) {
    const char *begin = *text, *end = *text + *bytes;
    while (begin < end) {
        const char *after = begin;
        if (unicode_class_of(utf8_next(&after)) != UNICODE_SPACE)
            break;
        begin = after;
    }
    while (end > begin) {
        const char *before = end;
        if (unicode_class_of(utf8_previous(&before)) != UNICODE_SPACE)
            break;
        end = before;
    }
    *text = begin;
    *bytes = (size_t)(end - begin);
}

static balora_status encode_turn(prompt_sequence *out, const tokenizer *self, const turn_form *form,
                                 const char *role, const char *content) {
    size_t content_bytes = strlen(content);
    if (form->trims)
        trim(&content, &content_bytes);
    out->text.count = 0;
    STATUS_TRY(append_text(out, form->before));
    STATUS_TRY(append_text(out, role));
    STATUS_TRY(append_text(out, form->after_role));
    size_t header_bytes = out->text.count;
    STATUS_TRY(text_buffer_append(&out->text, content, content_bytes));
    STATUS_TRY(append_text(out, form->end));
    if (strcmp(role, "assistant") == 0)
        STATUS_TRY(encode_pair(out, self, header_bytes, false));
    else
        STATUS_TRY(tokenizer_encode(self, out->text.bytes, out->text.count, false, &out->ids));
    STATUS_TRY(tokenizer_encode(self, form->tail, strlen(form->tail), false, &out->ids));
    return label(out, out->labels.count, SIZE_MAX);
}

static balora_status read_turn(prompt_sequence *out, const tokenizer *self, const turn_form *form,
                               const json_t *message, size_t place) {
    char origin[48];
    snprintf(origin, sizeof origin, "messages[%zu]", place);
    if (!json_is_object(message))
        return status_fail(BALORA_ERROR_FORMAT, "%s: expected an object with role and content, found %s",
                           origin, json_type_name(message));
    const char *role, *content;
    STATUS_TRY(json_member_string(message, "role", origin, true, &role));
    STATUS_TRY(json_member_string(message, "content", origin, true, &content));
    return encode_turn(out, self, form, role, content);
}

balora_status prompt_encode_messages(prompt_sequence *out, const tokenizer *self, const json_t *messages) {
    out->ids.count = out->labels.count = 0;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "\"messages\": expected an array of at least one {\"role\", \"content\"}");
    tokenizer_chat chat = tokenizer_chat_format(self);
    if (chat == TOKENIZER_CHAT_NONE)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: the form of conversations is unknown: there are neither <|im_start|> and <|im_end|> "
            "(ChatML) nor <|start_header_id|>, <|end_header_id|> and <|eot_id|> (LLaMA-3); write the rows "
            "as {\"prompt\", \"completion\"}",
            tokenizer_path(self));
    const turn_form *form = &turn_forms[chat];
    if (form->opens_with_bos && tokenizer_bos(self) >= 0)
        STATUS_TRY(token_buffer_append(&out->ids, tokenizer_bos(self)));
    STATUS_TRY(label(out, 0, SIZE_MAX));
    for (size_t i = 0; i < json_array_size(messages); i++)
        STATUS_TRY(read_turn(out, self, form, json_array_get(messages, i), i));
    return BALORA_OK;
}
