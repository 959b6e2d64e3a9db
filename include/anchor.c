// Holds the reward ABI in place: a field that moves does not compile. A field that is appended gets a line here, and its
// struct's SIZE grows. (Without a C file, what includes the header would not be rebuilt after an edit.)
#include "dag_reward.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " has changed its size")

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "the reward ABI is defined for 64-bit platforms");

SIZE(dag_reward_text, 16);
AT(dag_reward_text, size, 8);

SIZE(dag_reward_setting, 16);
AT(dag_reward_setting, value, 8);

SIZE(dag_reward_error, 16);
AT(dag_reward_error, capacity, 4);
AT(dag_reward_error, message, 8);

SIZE(dag_reward_host, 40);
AT(dag_reward_host, abi_min, 4);
AT(dag_reward_host, abi_max, 8);
AT(dag_reward_host, reserved, 12);
AT(dag_reward_host, name, 16);
AT(dag_reward_host, version, 24);
AT(dag_reward_host, extension, 32);

SIZE(dag_reward_objective, 24);
AT(dag_reward_objective, direction, 4);
AT(dag_reward_objective, name, 8);
AT(dag_reward_objective, description, 16);

SIZE(dag_reward_option, 32);
AT(dag_reward_option, reserved, 4);
AT(dag_reward_option, key, 8);
AT(dag_reward_option, default_value, 16);
AT(dag_reward_option, description, 24);

SIZE(dag_reward_info, 104);
AT(dag_reward_info, flags, 4);
AT(dag_reward_info, name, 8);
AT(dag_reward_info, version, 16);
AT(dag_reward_info, description, 24);
AT(dag_reward_info, license, 32);
AT(dag_reward_info, source, 40);
AT(dag_reward_info, objective_count, 48);
AT(dag_reward_info, option_count, 52);
AT(dag_reward_info, image_format_count, 56);
AT(dag_reward_info, device_count, 60);
AT(dag_reward_info, objectives, 64);
AT(dag_reward_info, options, 72);
AT(dag_reward_info, image_formats, 80);
AT(dag_reward_info, devices, 88);
AT(dag_reward_info, thread_mode, 96);
AT(dag_reward_info, largest_batch, 100);

SIZE(dag_reward_config, 40);
AT(dag_reward_config, setting_count, 4);
AT(dag_reward_config, settings, 8);
AT(dag_reward_config, json, 16);
AT(dag_reward_config, device, 32);

SIZE(dag_reward_images, 56);
AT(dag_reward_images, format, 4);
AT(dag_reward_images, data, 8);
AT(dag_reward_images, height, 16);
AT(dag_reward_images, width, 20);
AT(dag_reward_images, strides, 24);

SIZE(dag_reward_batch, 56);
AT(dag_reward_batch, count, 4);
AT(dag_reward_batch, images, 8);
AT(dag_reward_batch, prompts, 16);
AT(dag_reward_batch, metadata, 24);
AT(dag_reward_batch, sample_ids, 32);
AT(dag_reward_batch, seeds, 40);
AT(dag_reward_batch, deadline, 48);

SIZE(dag_reward_result, 24);
AT(dag_reward_result, objective_count, 4);
AT(dag_reward_result, scores, 8);
AT(dag_reward_result, statuses, 16);

SIZE(dag_reward_plugin, 48);
AT(dag_reward_plugin, abi_version, 4);
AT(dag_reward_plugin, info, 8);
AT(dag_reward_plugin, create, 16);
AT(dag_reward_plugin, score, 24);
AT(dag_reward_plugin, destroy, 32);
AT(dag_reward_plugin, extension, 40);

SIZE(dag_reward_fingerprint, 16);
AT(dag_reward_fingerprint, reserved, 4);
AT(dag_reward_fingerprint, write, 8);

SIZE(dag_reward_log, 16);
AT(dag_reward_log, reserved, 4);
AT(dag_reward_log, write, 8);
