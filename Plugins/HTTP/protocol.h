// What is said to a server, and how its answers are read.
#pragma once
#include <jansson.h>

#include "transfer.h"

// An image, with what a server is told beside it.
typedef struct sample {
    const bytes *file;  // PNG or JPEG
    const dag_reward_text *prompt, *metadata;
} sample;

// Reads metadata. Where an integer is too large for 64 bits, all numbers become real ones. Returns NULL if memory is out.
static inline json_t *read_metadata(const dag_reward_text *text) {
    json_t *object = json_loadb(text->data, text->size, JSON_ALLOW_NUL, NULL);
    return object ? object : json_loadb(text->data, text->size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
}

// A score, or a status and a message.
typedef struct verdict {
    float score;
    int32_t status;
    char message[256];
} verdict;

__attribute__((format(printf, 3, 4))) static inline void refuse(verdict *verdict, int32_t status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict->message, sizeof verdict->message, format, arguments);
    va_end(arguments);
    verdict->status = status;
}

// The question that is asked if the user has none.
#define YES_OR_NO "Does this image show: {prompt}? Answer Yes or No."

// An OpenAI-compatible chat endpoint: a question about each image.
typedef struct chat {
    char *model, *question, *marker;
    bool is_probability;  // of Yes, else the answer's number
    double lowest, highest;
    int max_tokens;
} chat;

int32_t chat_make(chat *self, const dag_reward_config *config, dag_reward_error *error);
void chat_free(chat *self);
// Writes the request about a sample. Returns false, and a verdict, if the question cannot be asked.
bool chat_ask(const chat *self, const sample *sample, bytes *body, verdict *verdict);
void chat_read(const chat *self, const bytes *answer, verdict *verdict);

// The servers of flow_grpo: all images at once, as a pickle.
typedef struct pickled {
    bool only_strict;
    int jpeg_quality;
    char *result;  // the key of the scores, or "" for outputs or scores
} pickled;

int32_t pickled_make(pickled *self, const dag_reward_config *config, dag_reward_error *error);
void pickled_free(pickled *self);
void pickled_ask(const pickled *self, const sample *samples, size_t count, bytes *body);
// verdicts: [count]
void pickled_read(const pickled *self, const bytes *answer, size_t count, verdict *verdicts);
