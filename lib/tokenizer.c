#include "balora/tokenizer.h"

#include <string.h>

#include "facade.h"
#include "options.h"
#include "text/tokenizer.h"

struct balora_tokenizer {
    balora_context *context;
    tokenizer *tokenizer;
};

balora_status balora_tokenizer_open(balora_tokenizer **out, balora_context *context, const char *folder) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(folder);
    STATUS_TRY(context_poll(context));
    balora_tokenizer *self;
    STATUS_TRY(memory_zeroed(&context->memory, &self, 1, sizeof *self, "tokenizer"));
    balora_status status = tokenizer_open(&self->tokenizer, &context->memory, folder);
    if (status != BALORA_OK) {
        memory_free(&context->memory, self);
        return status;
    }
    self->context = context_retain(context);
    *out = self;
    return BALORA_OK;
}

void balora_tokenizer_free(balora_tokenizer *handle) {
    if (handle == NULL)
        return;
    balora_context *context = handle->context;
    tokenizer_free(handle->tokenizer);
    memory_free(&context->memory, handle);
    context_release(context);
}

balora_status balora_tokenizer_encode(const balora_tokenizer *handle, const char *text, int64_t bytes,
                                      int32_t add_special_tokens, int32_t *ids, int64_t capacity,
                                      int64_t *count) {
    FACADE_REQUIRE(count);
    *count = 0;
    FACADE_REQUIRE(handle);
    FACADE_REQUIRE(text);
    if (bytes < -1 || capacity < 0 || (capacity > 0 && ids == NULL))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "%s: bytes is %lld and capacity %lld; expected at least -1 and 0, and ids to hold capacity ids",
            __func__, (long long)bytes, (long long)capacity);
    STATUS_TRY(context_poll(handle->context));
    token_buffer tokens = {.memory = &handle->context->memory};
    size_t length = bytes < 0 ? strlen(text) : (size_t)bytes;
    balora_status status =
        tokenizer_encode(handle->tokenizer, text, length, add_special_tokens != 0, &tokens);
    if (status == BALORA_OK) {
        *count = (int64_t)tokens.count;
        if (*count <= capacity && *count > 0)
            memcpy(ids, tokens.ids, tokens.count * sizeof *ids);
        else if (*count > capacity && capacity > 0)
            status =
                status_fail(BALORA_ERROR_ARGUMENT, "%s: the text has %lld tokens, but there is room for %lld",
                            __func__, (long long)*count, (long long)capacity);
    }
    token_buffer_free(&tokens);
    return status;
}

balora_status balora_tokenizer_decode(const balora_tokenizer *handle, const int32_t *ids, int64_t count,
                                      int32_t skip_special_tokens, char *text, int64_t capacity,
                                      int64_t *bytes) {
    FACADE_REQUIRE(bytes);
    *bytes = 0;
    FACADE_REQUIRE(handle);
    if (count < 0 || (count > 0 && ids == NULL) || capacity < 0 || (capacity > 0 && text == NULL))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "%s: count is %lld and capacity %lld; expected at least 0, and ids and text to hold as many",
            __func__, (long long)count, (long long)capacity);
    STATUS_TRY(context_poll(handle->context));
    allocator *memory = &handle->context->memory;
    char *decoded;
    size_t length;
    STATUS_TRY(tokenizer_decode(handle->tokenizer, ids, (size_t)count, skip_special_tokens != 0, &decoded,
                                &length, memory));
    *bytes = (int64_t)length;
    balora_status status = BALORA_OK;
    if (*bytes < capacity)
        memcpy(text, decoded, length + 1);
    else if (capacity > 0)
        status = status_fail(BALORA_ERROR_ARGUMENT,
                             "%s: the text has %lld bytes and a closing NUL, but there is room for %lld",
                             __func__, (long long)*bytes, (long long)capacity);
    memory_free(memory, decoded);
    return status;
}

static int32_t public_chat_format(tokenizer_chat format) {
    switch (format) {
    case TOKENIZER_CHAT_CHATML:
        return BALORA_CHAT_CHATML;
    case TOKENIZER_CHAT_LLAMA3:
        return BALORA_CHAT_LLAMA3;
    default:
        return BALORA_CHAT_NONE;
    }
}

balora_status balora_tokenizer_describe(const balora_tokenizer *handle, balora_tokenizer_information *out) {
    FACADE_REQUIRE(handle);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_tokenizer_information"));
    balora_tokenizer_information information = BALORA_TOKENIZER_INFORMATION_INIT;
    information.size = tokenizer_size(handle->tokenizer);
    information.begin = tokenizer_bos(handle->tokenizer);
    information.end = tokenizer_eos(handle->tokenizer);
    information.chat_format = public_chat_format(tokenizer_chat_format(handle->tokenizer));
    options_export(out, &information, sizeof information);
    return BALORA_OK;
}
