// A library from whose debug information abidw reads the ABI: every struct of both headers is reached from what it exports.
#include "dagcore.h"

int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    (void)host, (void)plugin, (void)error;
    return DAG_REWARD_UNSUPPORTED;
}

// Extensions are found by name, as void pointers.
DAG_REWARD_EXPORT const dag_reward_fingerprint *fingerprint_extension(void);
DAG_REWARD_EXPORT const dag_reward_log *log_extension(void);
const dag_reward_fingerprint *fingerprint_extension(void) { return NULL; }
const dag_reward_log *log_extension(void) { return NULL; }

// The trainer's functions: one that is appended to dagcore.h gets a line here.
uint32_t dag_api_version(void) { return 0; }
const char *dag_version(void) { return NULL; }
const char *dag_torch_version(void) { return NULL; }
const char *dag_last_error(void) { return NULL; }
const char *dag_default_config(void) { return NULL; }
int32_t dag_trainer_create(
    const char *config, const char *output, dag_trainer **trainer) {
    (void)config, (void)output, (void)trainer; return 0;
}
int32_t dag_trainer_resume(
    const char *output, const char *config, dag_trainer **trainer) {
    (void)output, (void)config, (void)trainer; return 0;
}
int32_t dag_trainer_add_plugin(dag_trainer *trainer, const char *specification) { (void)trainer, (void)specification; return 0; }
int32_t dag_trainer_add_callback(dag_trainer *trainer, const dag_callback *callback) { (void)trainer, (void)callback; return 0; }
int32_t dag_trainer_set_observer(dag_trainer *trainer, const dag_observer *observer) { (void)trainer, (void)observer; return 0; }
int32_t dag_trainer_join(
    dag_trainer *trainer, uint32_t rank, uint32_t count, const char *host, uint32_t port) {
    (void)trainer, (void)rank, (void)count, (void)host, (void)port; return 0;
}
int32_t dag_trainer_start(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_run(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_run_epoch(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_roll_out(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_score(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_update(dag_trainer *trainer, int32_t *epoch_done) { (void)trainer, (void)epoch_done; return 0; }
int32_t dag_trainer_save(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_cancel(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_destroy(dag_trainer *trainer) { (void)trainer; return 0; }
int32_t dag_trainer_status(dag_trainer *trainer, dag_status *status) { (void)trainer, (void)status; return 0; }
int32_t dag_trainer_config(dag_trainer *trainer, const char **json) { (void)trainer, (void)json; return 0; }
int32_t dag_trainer_metrics(dag_trainer *trainer, const char **json) { (void)trainer, (void)json; return 0; }
int32_t dag_trainer_metric(
    dag_trainer *trainer, const char *key, double *value) {
    (void)trainer, (void)key, (void)value; return 0;
}
int32_t dag_trainer_samples(dag_trainer *trainer, dag_samples *samples) { (void)trainer, (void)samples; return 0; }
int32_t dag_trainer_sample(
    dag_trainer *trainer, const char *const *prompts, const uint64_t *seeds, uint32_t count, dag_pictures *pictures) {
    (void)trainer, (void)prompts, (void)seeds, (void)count, (void)pictures; return 0;
}
int32_t dag_trainer_evaluate(dag_trainer *trainer, const char **json) { (void)trainer, (void)json; return 0; }

// The scorer's.
int32_t dag_scorer_create(const char *specification, dag_scorer **scorer) { (void)specification, (void)scorer; return 0; }
int32_t dag_scorer_info(dag_scorer *scorer, const char **json) { (void)scorer, (void)json; return 0; }
int32_t dag_scorer_score(dag_scorer *scorer, const dag_reward_batch *batch, float *rewards, float *scores) {
    (void)scorer, (void)batch, (void)rewards, (void)scores; return 0;
}
int32_t dag_scorer_destroy(dag_scorer *scorer) { (void)scorer; return 0; }
