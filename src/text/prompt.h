/* From the texts of a training row to one sequence of ids with labels. */
#ifndef TEXT_PROMPT_H
#define TEXT_PROMPT_H

#include "format/json.h"
#include "text/label.h"
#include "text/tokenizer.h"

/* Reused from row to row. */
typedef struct prompt_sequence {
    token_buffer ids;
    token_buffer labels; /* the id where it is supervised, else LABEL_NONE */
    text_buffer text;    /* scratch */
} prompt_sequence;

void prompt_sequence_init(prompt_sequence *self, allocator *memory);
void prompt_sequence_free(prompt_sequence *self);

/*
 * Each replaces the sequence. Source, target and the end of text are tokenized as one text; as many ids as
 * the source has alone are not supervised.
 */

/* The target continues the source as it is; without a source everything is supervised but what opens every
 * text. */
balora_status prompt_encode_completion(prompt_sequence *out, const tokenizer *self, const char *source,
                                       const char *target);

/* The same with the source put into the instruction prompt of Alpaca, which BA-LoRA's reference trains with.
 */
balora_status prompt_encode_instruction(prompt_sequence *out, const tokenizer *self, const char *instruction,
                                        const char *target);

/*
 * A conversation, an array of {"role", "content"}, in the form that the vocabulary's special tokens tell:
 * ChatML or LLaMA-3's headers. What the assistant says and the token that ends its turn are supervised. No
 * chat template is evaluated: a default system prompt that a model's template would put in front is not
 * there. Errors: UNSUPPORTED (no known form), FORMAT (naming the message and the key).
 */
balora_status prompt_encode_messages(prompt_sequence *out, const tokenizer *self, const json_t *messages);

#endif
