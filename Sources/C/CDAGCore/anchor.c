// Holds the ABI of rewards and of the trainer in place: if a field moves or changes its type, or a constant changes, this does not
// compile. An appended field gets a line here; then run scripts/abi_gate.sh --accept. (Without a C file in this target, users of the
// header would not be rebuilt after an edit.)
#include "dagcore.h"

#define FIXED(type, size) _Static_assert(sizeof(type) == (size), #type " may not change its size")
#define GROWS(type, size) _Static_assert(sizeof(type) >= (size), #type " has lost a field")
#define AT(type, offset, field, ...) \
    _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved"); \
    _Static_assert(__builtin_types_compatible_p(__typeof__(((type *)0)->field), __VA_ARGS__), #type "." #field " has changed its type")
#define VALUE(name, value) _Static_assert((name) == (value), #name " has changed its value")
#define TEXT(name, text) _Static_assert(__builtin_strcmp(name, text) == 0, #name " has changed its value")

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "the reward ABI is defined for 64-bit platforms");

VALUE(DAG_REWARD_ABI_VERSION, 1);
VALUE(DAG_REWARD_UNWRITTEN, 0x7fc0da61u);
VALUE(DAG_REWARD_OK, 0);
VALUE(DAG_REWARD_INVALID, 1);
VALUE(DAG_REWARD_UNSUPPORTED, 2);
VALUE(DAG_REWARD_IO, 3);
VALUE(DAG_REWARD_MEMORY, 4);
VALUE(DAG_REWARD_INTERNAL, 5);
VALUE(DAG_REWARD_DEADLINE, 6);
VALUE(DAG_REWARD_U8_NHWC, 1);
VALUE(DAG_REWARD_F32_NCHW, 2);
VALUE(DAG_REWARD_DLPACK, 3);
VALUE(DAG_REWARD_SERIALIZED, 0);
VALUE(DAG_REWARD_PER_INSTANCE, 1);
VALUE(DAG_REWARD_CONCURRENT, 2);
VALUE(DAG_REWARD_MAXIMIZE, 1);
VALUE(DAG_REWARD_MINIMIZE, -1);
VALUE(DAG_REWARD_DETERMINISTIC, 1);
VALUE(DAG_REWARD_OPEN_OPTIONS, 2);
TEXT(DAG_REWARD_FINGERPRINT, "dag.fingerprint/1");
TEXT(DAG_REWARD_WHOLE_FINGERPRINT, "dag.fingerprint/2");
TEXT(DAG_REWARD_LOG, "dag.log/1");

FIXED(dag_reward_text, 16);
AT(dag_reward_text, 0, data, const char *);
AT(dag_reward_text, 8, size, size_t);

FIXED(dag_reward_setting, 16);
AT(dag_reward_setting, 0, key, const char *);
AT(dag_reward_setting, 8, value, const char *);

GROWS(dag_reward_error, 16);
AT(dag_reward_error, 0, struct_size, uint32_t);
AT(dag_reward_error, 4, capacity, uint32_t);
AT(dag_reward_error, 8, message, char *);

GROWS(dag_reward_host, 40);
AT(dag_reward_host, 0, struct_size, uint32_t);
AT(dag_reward_host, 4, abi_min, uint32_t);
AT(dag_reward_host, 8, abi_max, uint32_t);
AT(dag_reward_host, 12, reserved, uint32_t);
AT(dag_reward_host, 16, name, const char *);
AT(dag_reward_host, 24, version, const char *);
AT(dag_reward_host, 32, extension, const void *(*)(const char *));

GROWS(dag_reward_objective, 24);
AT(dag_reward_objective, 0, struct_size, uint32_t);
AT(dag_reward_objective, 4, direction, int32_t);
AT(dag_reward_objective, 8, name, const char *);
AT(dag_reward_objective, 16, description, const char *);

GROWS(dag_reward_option, 32);
AT(dag_reward_option, 0, struct_size, uint32_t);
AT(dag_reward_option, 4, reserved, uint32_t);
AT(dag_reward_option, 8, key, const char *);
AT(dag_reward_option, 16, default_value, const char *);
AT(dag_reward_option, 24, description, const char *);

GROWS(dag_reward_info, 104);
AT(dag_reward_info, 0, struct_size, uint32_t);
AT(dag_reward_info, 4, flags, uint32_t);
AT(dag_reward_info, 8, name, const char *);
AT(dag_reward_info, 16, version, const char *);
AT(dag_reward_info, 24, description, const char *);
AT(dag_reward_info, 32, license, const char *);
AT(dag_reward_info, 40, source, const char *);
AT(dag_reward_info, 48, objective_count, uint32_t);
AT(dag_reward_info, 52, option_count, uint32_t);
AT(dag_reward_info, 56, image_format_count, uint32_t);
AT(dag_reward_info, 60, device_count, uint32_t);
AT(dag_reward_info, 64, objectives, const dag_reward_objective *);
AT(dag_reward_info, 72, options, const dag_reward_option *);
AT(dag_reward_info, 80, image_formats, const int32_t *);
AT(dag_reward_info, 88, devices, const char *const *);
AT(dag_reward_info, 96, thread_mode, uint32_t);
AT(dag_reward_info, 100, largest_batch, uint32_t);

GROWS(dag_reward_config, 40);
AT(dag_reward_config, 0, struct_size, uint32_t);
AT(dag_reward_config, 4, setting_count, uint32_t);
AT(dag_reward_config, 8, settings, const dag_reward_setting *);
AT(dag_reward_config, 16, json, dag_reward_text);
AT(dag_reward_config, 32, device, const char *);

GROWS(dag_reward_images, 56);
AT(dag_reward_images, 0, struct_size, uint32_t);
AT(dag_reward_images, 4, format, int32_t);
AT(dag_reward_images, 8, data, const void *);
AT(dag_reward_images, 16, height, uint32_t);
AT(dag_reward_images, 20, width, uint32_t);
AT(dag_reward_images, 24, strides, int64_t[4]);

GROWS(dag_reward_batch, 56);
AT(dag_reward_batch, 0, struct_size, uint32_t);
AT(dag_reward_batch, 4, count, uint32_t);
AT(dag_reward_batch, 8, images, const dag_reward_images *);
AT(dag_reward_batch, 16, prompts, const dag_reward_text *);
AT(dag_reward_batch, 24, metadata, const dag_reward_text *);
AT(dag_reward_batch, 32, sample_ids, const uint64_t *);
AT(dag_reward_batch, 40, seeds, const uint64_t *);
AT(dag_reward_batch, 48, deadline, uint64_t);

GROWS(dag_reward_result, 24);
AT(dag_reward_result, 0, struct_size, uint32_t);
AT(dag_reward_result, 4, objective_count, uint32_t);
AT(dag_reward_result, 8, scores, float *);
AT(dag_reward_result, 16, statuses, int32_t *);

GROWS(dag_reward_plugin, 48);
AT(dag_reward_plugin, 0, struct_size, uint32_t);
AT(dag_reward_plugin, 4, abi_version, uint32_t);
AT(dag_reward_plugin, 8, info, const dag_reward_info *);
AT(dag_reward_plugin, 16, create, int32_t (*)(const dag_reward_host *, const dag_reward_config *, void **, dag_reward_error *));
AT(dag_reward_plugin, 24, score, int32_t (*)(void *, const dag_reward_batch *, const dag_reward_result *, dag_reward_error *));
AT(dag_reward_plugin, 32, destroy, void (*)(void *));
AT(dag_reward_plugin, 40, extension, const void *(*)(const char *));

GROWS(dag_reward_fingerprint, 16);
AT(dag_reward_fingerprint, 0, struct_size, uint32_t);
AT(dag_reward_fingerprint, 4, reserved, uint32_t);
AT(dag_reward_fingerprint, 8, write, int32_t (*)(void *, char *, size_t));

GROWS(dag_reward_log, 16);
AT(dag_reward_log, 0, struct_size, uint32_t);
AT(dag_reward_log, 4, reserved, uint32_t);
AT(dag_reward_log, 8, write, void (*)(const char *));

_Static_assert(__builtin_types_compatible_p(
                   __typeof__(dag_reward_entry), int32_t(const dag_reward_host *, const dag_reward_plugin **, dag_reward_error *)),
    "dag_reward_entry has changed its type");

// The trainer: dagcore.h.
VALUE(DAG_API_VERSION, 1);
VALUE(DAG_OK, 0);
VALUE(DAG_INVALID, 1);
VALUE(DAG_ORDER, 2);
VALUE(DAG_BUSY, 3);
VALUE(DAG_CANCELLED, 4);
VALUE(DAG_FAILED, 5);
VALUE(DAG_SAMPLING, 1);
VALUE(DAG_TRAINING, 2);
VALUE(DAG_EVALUATING, 3);
VALUE(DAG_LOG_NOTE, 1);
VALUE(DAG_LOG_WARNING, 2);

GROWS(dag_callback, 72);
AT(dag_callback, 0, struct_size, uint32_t);
AT(dag_callback, 4, flags, uint32_t);
AT(dag_callback, 8, name, const char *);
AT(dag_callback, 16, settings, const char *);
AT(dag_callback, 24, fingerprint, const char *);
AT(dag_callback, 32, largest_batch, uint32_t);
AT(dag_callback, 36, objective_count, uint32_t);
AT(dag_callback, 40, objectives, const dag_reward_objective *);
AT(dag_callback, 48, context, void *);
AT(dag_callback, 56, score, int32_t (*)(void *, const dag_reward_batch *, const dag_reward_result *, dag_reward_error *));
AT(dag_callback, 64, release, void (*)(void *));

GROWS(dag_observer, 40);
AT(dag_observer, 0, struct_size, uint32_t);
AT(dag_observer, 4, reserved, uint32_t);
AT(dag_observer, 8, context, void *);
AT(dag_observer, 16, progress, int32_t (*)(void *, int32_t, uint64_t, uint64_t));
AT(dag_observer, 24, log, int32_t (*)(void *, int32_t, const char *));
AT(dag_observer, 32, step, int32_t (*)(void *, const char *));

GROWS(dag_status, 64);
AT(dag_status, 0, struct_size, uint32_t);
AT(dag_status, 4, started, uint32_t);
AT(dag_status, 8, epoch, uint64_t);
AT(dag_status, 16, update, uint64_t);
AT(dag_status, 24, step, uint64_t);
AT(dag_status, 32, epochs, uint64_t);
AT(dag_status, 40, updates_per_epoch, uint64_t);
AT(dag_status, 48, trajectories_per_epoch, uint64_t);
AT(dag_status, 56, height, uint32_t);
AT(dag_status, 60, width, uint32_t);

GROWS(dag_samples, 80);
AT(dag_samples, 0, struct_size, uint32_t);
AT(dag_samples, 4, count, uint32_t);
AT(dag_samples, 8, height, uint32_t);
AT(dag_samples, 12, width, uint32_t);
AT(dag_samples, 16, images, const uint8_t *);
AT(dag_samples, 24, prompts, const dag_reward_text *);
AT(dag_samples, 32, sample_ids, const uint64_t *);
AT(dag_samples, 40, seeds, const uint64_t *);
AT(dag_samples, 48, rewards, const float *);
AT(dag_samples, 56, scores, const float *);
AT(dag_samples, 64, objectives, const char *const *);
AT(dag_samples, 72, objective_count, uint32_t);
AT(dag_samples, 76, epoch, uint32_t);

GROWS(dag_pictures, 24);
AT(dag_pictures, 0, struct_size, uint32_t);
AT(dag_pictures, 4, count, uint32_t);
AT(dag_pictures, 8, height, uint32_t);
AT(dag_pictures, 12, width, uint32_t);
AT(dag_pictures, 16, images, const uint8_t *);
