// A library from whose debug information abidw reads the reward ABI: every struct of dag_reward.h is reached from what it exports.
#include "dag_reward.h"

int32_t dag_reward_entry(const dag_reward_host *host, const dag_reward_plugin **plugin, dag_reward_error *error) {
    (void)host, (void)plugin, (void)error;
    return DAG_REWARD_UNSUPPORTED;
}

// Extensions are found by name, as void pointers.
DAG_REWARD_EXPORT const dag_reward_fingerprint *fingerprint_extension(void) { return NULL; }
DAG_REWARD_EXPORT const dag_reward_log *log_extension(void) { return NULL; }
