#include <ctype.h>
#include <math.h>

#include "protocol.h"

// The length of a placeholder, {prompt} or {metadata.KEY}, that begins here; 0: there is none. Other braces are text.
static size_t placeholder(const char *text) {
    size_t length = 1;
    if (*text != '{') return 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_' || text[length] == '.') length++;
    return length > 1 && text[length] == '}' ? length + 1 : 0;
}

static const char metadata_prefix[] = "{metadata.";

static int32_t check_question(const char *question, dag_reward_error *error) {
    for (const char *c = question; *c; c++) {
        size_t length = placeholder(c);
        if (length == 0 || (length == 8 && strncmp(c, "{prompt}", 8) == 0)) continue;
        if (length > sizeof metadata_prefix && strncmp(c, metadata_prefix, sizeof metadata_prefix - 1) == 0) continue;
        return dag_reward_fail(error, DAG_REWARD_INVALID, "question has %.*s; what it can have is {prompt} and {metadata.KEY}",
            (int)(length < 60 ? length : 60), c);
    }
    return DAG_REWARD_OK;
}

int32_t chat_make(chat *self, const dag_reward_config *config, dag_reward_error *error) {
    const char *model = dag_reward_value(config, "model"), *question = dag_reward_value(config, "question");
    const char *answer = dag_reward_value(config, "answer"), *marker = dag_reward_value(config, "marker");
    self->is_probability = strcmp(answer, "yes") == 0;
    if (!self->is_probability && strcmp(answer, "number") != 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "answer=%s is not one of yes, number", answer);
    if (!*model) return dag_reward_fail(error, DAG_REWARD_INVALID, "model is missing: the name of the model as the server knows it");
    if (!self->is_probability && strcmp(question, YES_OR_NO) == 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "answer=number needs a question that asks for a number, question=\"...\"");
    if (self->is_probability && *marker) return dag_reward_fail(error, DAG_REWARD_INVALID, "marker is for answer=number: leave it out");
    int32_t status = check_question(question, error);
    if (status == DAG_REWARD_OK) status = dag_reward_number(config, "lowest", -1e9, 1e9, &self->lowest, error);
    if (status == DAG_REWARD_OK) status = dag_reward_number(config, "highest", -1e9, 1e9, &self->highest, error);
    if (status == DAG_REWARD_OK) status = read_whole(config, "max_tokens", 1, 100000, &self->max_tokens, error);
    if (status != DAG_REWARD_OK) return status;
    if (self->lowest >= self->highest)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "lowest=%g is not below highest=%g", self->lowest, self->highest);
    if (self->is_probability) self->max_tokens = 1;
    self->model = strdup(model);
    self->question = strdup(question);
    self->marker = strdup(marker);
    bool made = self->model && self->question && self->marker;
    return made ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
}

void chat_free(chat *self) {
    free(self->model);
    free(self->question);
    free(self->marker);
}

// Adds a value of the sample's metadata. Returns false if there is none, or it is neither text nor number.
static bool add_metadata(bytes *text, const json_t *metadata, const char *key, size_t length) {
    char *name = strndup(key, length);
    json_t *value = name ? json_object_get(metadata, name) : NULL;
    free(name);
    // 15 digits: 0.1 is 0.1.
    char *number = json_is_number(value) ? json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;
    if (json_is_string(value)) bytes_add(text, json_string_value(value), json_string_length(value));
    if (number) bytes_add_text(text, number);
    bool is_there = json_is_string(value) || number;
    free(number);
    return is_there;
}

static bool fill_question(const chat *self, const sample *sample, bytes *text, verdict *verdict) {
    json_t *metadata = read_metadata(sample->metadata);
    bool is_whole = true;
    for (const char *c = self->question; *c && is_whole;) {
        size_t length = placeholder(c);
        if (length == 0) {
            bytes_add(text, c++, 1);
            continue;
        }
        const char *key = c + sizeof metadata_prefix - 1;
        size_t key_length = length > sizeof metadata_prefix ? length - sizeof metadata_prefix : 0;
        if (length == 8 && strncmp(c, "{prompt}", 8) == 0) bytes_add(text, sample->prompt->data, sample->prompt->size);
        else if (!add_metadata(text, metadata, key, key_length)) {
            refuse(verdict, DAG_REWARD_INVALID, "the prompt's metadata has no text or number `%.*s`", (int)key_length, key);
            is_whole = false;
        }
        c += length;
    }
    json_decref(metadata);
    return is_whole;
}

bool chat_ask(const chat *self, const sample *sample, bytes *body, verdict *verdict) {
    bytes text = {0}, image = {0};
    bool is_whole = fill_question(self, sample, &text, verdict);
    if (is_whole) {
        bytes_add_text(&image, "data:image/png;base64,");
        bytes_add_base64(&image, sample->file->data, sample->file->size);
        json_t *picture = json_pack("{s:s, s:{s:s%}}", "type", "image_url", "image_url", "url", image.data, image.size);
        json_t *question = json_pack("{s:s, s:s%}", "type", "text", "text", text.data ? (char *)text.data : "", text.size);
        json_t *request = json_pack("{s:s, s:[{s:s, s:[o, o]}], s:i, s:i}", "model", self->model, "messages", "role", "user", "content",
            picture, question, "temperature", 0, "max_tokens", self->max_tokens);
        if (self->is_probability && request) {
            json_object_set_new(request, "logprobs", json_true());
            json_object_set_new(request, "top_logprobs", json_integer(20));
        }
        char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
        if (line) bytes_add_text(body, line);
        if (!line || image.failed || text.failed) body->failed = true;
        free(line);
        json_decref(request);
    }
    bytes_free(&text);
    bytes_free(&image);
    return is_whole;
}

// The probability of Yes against No in the alternatives to the first token of the answer.
static void read_probability(const json_t *choice, verdict *verdict) {
    json_t *alternatives = NULL;
    if (json_unpack((json_t *)choice, "{s:{s:[{s:o}]}}", "logprobs", "content", "top_logprobs", &alternatives) != 0 ||
        !json_is_array(alternatives))
        return refuse(verdict, DAG_REWARD_INVALID, "the answer has no top_logprobs; does the server give them? Else answer=number");
    double yes = 0, no = 0;
    size_t place;
    json_t *alternative;
    json_array_foreach(alternatives, place, alternative) {
        const char *token = json_string_value(json_object_get(alternative, "token"));
        json_t *logprob = json_object_get(alternative, "logprob");
        if (!token || !json_is_number(logprob)) continue;
        while (isspace((unsigned char)*token)) token++;
        if (strcasecmp(token, "yes") == 0) yes += exp(json_number_value(logprob));
        if (strcasecmp(token, "no") == 0) no += exp(json_number_value(logprob));
    }
    if (yes + no < 1e-6 || !isfinite(yes + no))
        return refuse(
            verdict, DAG_REWARD_INVALID, "neither Yes nor No is among the likeliest words of the answer; does the question ask so?");
    verdict->score = (float)(yes / (yes + no));
}

// The number that the answer is, or that follows the marker.
static void read_number(const chat *self, const json_t *choice, verdict *verdict) {
    const char *text = NULL, *reason = json_string_value(json_object_get(choice, "finish_reason"));
    if (json_unpack((json_t *)choice, "{s:{s:s}}", "message", "content", &text) != 0)
        return refuse(verdict, DAG_REWARD_INVALID, "the answer has no text");
    const char *start = text;
    if (*self->marker) {
        const char *found = NULL;
        for (const char *c = text; (c = strstr(c, self->marker)) != NULL; c++) found = c;
        start = found ? found + strlen(self->marker) : NULL;
    }
    char *end = NULL;
    double number = start ? strtod(start, &end) : 0;
    bool is_number = start && end != start && isfinite(number);
    // Without a marker the answer is a number and nothing else.
    for (const char *c = end; is_number && !*self->marker && *c; c++) is_number = isspace((unsigned char)*c);
    if (!is_number) {
        const char *cut = reason && strcmp(reason, "length") == 0 ? " (it was cut off: raise max_tokens)" : "";
        return refuse(verdict, DAG_REWARD_INVALID, "%s in the answer%s: %.80s",
            *self->marker ? "no number after the marker" : "more or less than a number", cut, text);
    }
    if (number < self->lowest || number > self->highest)
        return refuse(verdict, DAG_REWARD_INVALID, "the answer's number, %g, is not from lowest=%g to highest=%g", number, self->lowest,
            self->highest);
    verdict->score = (float)number;
}

void chat_read(const chat *self, const bytes *answer, verdict *verdict) {
    json_error_t problem;
    json_t *root = json_loadb((const char *)answer->data, answer->size, 0, &problem);
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    if (!root) refuse(verdict, DAG_REWARD_IO, "the answer is no JSON: %s", problem.text);
    else if (!choice) refuse(verdict, DAG_REWARD_IO, "the answer has no choices: is this an OpenAI-compatible server?");
    else if (self->is_probability) read_probability(choice, verdict);
    else read_number(self, choice, verdict);
    json_decref(root);
}
