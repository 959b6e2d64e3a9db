#include <math.h>

#include "pickle.h"
#include "protocol.h"

int32_t pickled_make(pickled *self, const dag_reward_config *config, dag_reward_error *error) {
    const char *only_strict = dag_reward_value(config, "only_strict");
    self->only_strict = strcmp(only_strict, "true") == 0;
    if (!self->only_strict && strcmp(only_strict, "false") != 0)
        return dag_reward_fail(error, DAG_REWARD_INVALID, "only_strict=%s is not true or false", only_strict);
    int32_t status = read_whole(config, "jpeg_quality", 1, 100, &self->jpeg_quality, error);
    if (status != DAG_REWARD_OK) return status;
    self->result = strdup(dag_reward_value(config, "result"));
    return self->result ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
}

void pickled_free(pickled *self) { free(self->result); }

static void add_key(bytes *body, const char *key) { pickle_add_text(body, key, strlen(key)); }

void pickled_ask(const pickled *self, const sample *samples, size_t count, bytes *body) {
    pickle_begin(body);
    pickle_open_dictionary(body);
    add_key(body, "images");
    pickle_open_list(body);
    for (size_t k = 0; k < count; k++) pickle_add_bytes(body, samples[k].file->data, samples[k].file->size);
    pickle_close_list(body);
    add_key(body, "prompts");
    pickle_open_list(body);
    for (size_t k = 0; k < count; k++) pickle_add_text(body, samples[k].prompt->data, samples[k].prompt->size);
    pickle_close_list(body);
    add_key(body, "meta_datas");
    pickle_open_list(body);
    for (size_t k = 0; k < count; k++) {
        json_t *metadata = read_metadata(samples[k].metadata);
        // GenEval's server looks for the prompt here.
        if (metadata && !json_object_get(metadata, "prompt"))
            json_object_set_new(metadata, "prompt", json_stringn(samples[k].prompt->data, samples[k].prompt->size));
        if (metadata) pickle_add_json(body, metadata);
        else body->failed = true;
        json_decref(metadata);
    }
    pickle_close_list(body);
    add_key(body, "only_strict");
    json_t *only_strict = json_boolean(self->only_strict);
    pickle_add_json(body, only_strict);
    pickle_close_dictionary(body);
    pickle_end(body);
}

// The list of scores in an answer; NULL, and a reason, if it cannot be told.
static json_t *scores(const pickled *self, const json_t *root, char *reason, size_t capacity) {
    json_t *outputs = json_object_get(root, "outputs"), *own = json_object_get(root, "scores");
    json_t *list = *self->result ? json_object_get(root, self->result) : outputs ? outputs : own;
    if (!json_is_object(root)) snprintf(reason, capacity, "the answer is no dictionary");
    else if (!*self->result && outputs && own)
        snprintf(reason, capacity, "the answer has both outputs and scores; say which, result=scores");
    else if (!json_is_array(list))
        snprintf(reason, capacity, "the answer has no list `%s`", *self->result ? self->result : "outputs or scores");
    else return list;
    return NULL;
}

void pickled_read(const pickled *self, const bytes *answer, size_t count, verdict *verdicts) {
    const char *damage = NULL;
    char reason[200] = "";
    json_t *root = pickle_read(answer->data, answer->size, &damage);
    json_t *list = root ? scores(self, root, reason, sizeof reason) : NULL;
    if (!root) snprintf(reason, sizeof reason, "the answer %s", damage);
    if (list && json_array_size(list) != count) {
        snprintf(reason, sizeof reason, "the answer has %zu scores for %zu images", json_array_size(list), count);
        list = NULL;
    }
    for (size_t k = 0; k < count; k++) {
        json_t *score = list ? json_array_get(list, k) : NULL;
        if (!list) refuse(&verdicts[k], DAG_REWARD_IO, "%s", reason);
        else if (!json_is_number(score) || !isfinite((float)json_number_value(score)))
            refuse(&verdicts[k], DAG_REWARD_INVALID, "the answer's score %zu is no finite number", k);
        else verdicts[k].score = (float)json_number_value(score);
    }
    json_decref(root);
}
