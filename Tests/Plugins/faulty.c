// Does what a plugin must not do at the sample whose number is the option `at`; the score of the others is an
// image's first byte. With `once`, a file that does not exist yet, it does so once and writes the file. With
// the fault `farewell` it writes the file when it is destroyed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

#include "dag_reward.h"

typedef struct faulty {
    char fault[32];
    char once[512];
    int at;
} faulty;

static int32_t create(const dag_reward_host *host, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    (void)host;
    faulty *self = calloc(1, sizeof *self);
    snprintf(self->fault, sizeof self->fault, "%s", dag_reward_value(config, "fault"));
    snprintf(self->once, sizeof self->once, "%s", dag_reward_value(config, "once"));
    self->at = atoi(dag_reward_value(config, "at"));
    if (strcmp(self->fault, "create") == 0) return dag_reward_fail(error, DAG_REWARD_IO, "no weights");
    if (strcmp(self->fault, "create_segv") == 0) raise(SIGSEGV);
    if (strcmp(self->fault, "create_hang") == 0) pause();
    *instance = self;
    return DAG_REWARD_OK;
}

// Whether to go wrong now.
static int happens(const faulty *self, uint64_t sample) {
    if (sample != (uint64_t)self->at) return 0;
    if (self->once[0] == '\0') return 1;
    int file = open(self->once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file >= 0) close(file);
    return file >= 0;
}

static int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    const faulty *self = instance;
    for (uint32_t n = 0; n < batch->count; n++) {
        uint8_t *picture = (uint8_t *)dag_reward_pixel(batch->images, n, 0, 0);
        result->scores[n] = picture[0];
        if (!happens(self, batch->sample_ids[n])) continue;
        const char *fault = self->fault;
        if (strcmp(fault, "segv") == 0) *(volatile int *)8 = 1;
        if (strcmp(fault, "abort") == 0) abort();
        if (strcmp(fault, "exit") == 0) exit(0);
        if (strcmp(fault, "hang") == 0) pause();
        if (strcmp(fault, "busy") == 0)
            for (volatile unsigned i = 0;; i++) {
            }
        if (strcmp(fault, "nan") == 0) result->scores[n] = NAN;
        if (strcmp(fault, "too_few") == 0) return memcpy(result->scores + n, &(uint32_t){DAG_REWARD_UNWRITTEN}, 4), DAG_REWARD_OK;
        if (strcmp(fault, "error") == 0) return dag_reward_fail(error, DAG_REWARD_IO, "the service is down");
        if (strcmp(fault, "fork") == 0 && fork() == 0) pause();
        if (strcmp(fault, "stubborn") == 0) signal(SIGTERM, SIG_IGN), fork(), pause();
        if (strcmp(fault, "regroup") == 0) setpgid(0, getpgid(getppid())), pause();
        if (strcmp(fault, "close") == 0)
            for (int i = 3; i < 64; i++) close(i);
        if (strcmp(fault, "noise") == 0) printf("noise on stdout\n"), fflush(stdout), fprintf(stderr, "noise on stderr\n");
        if (strcmp(fault, "write") == 0) picture[0] = 0;
        if (strcmp(fault, "leak") == 0) memset(malloc(1 << 20), 1, 1 << 20);
        if (strcmp(fault, "garbage") == 0 && write(3, "garbage that is no message", 26) != 26) abort();
    }
    return DAG_REWARD_OK;
}

static void destroy(void *instance) {
    const faulty *self = instance;
    if (strcmp(self->fault, "farewell") == 0) {
        FILE *note = fopen(self->once, "w");
        if (note) fclose(note);
    }
    if (strcmp(self->fault, "linger") == 0) pause();
    free(instance);
}

static const dag_reward_objective objectives[] = {{sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "byte", "the first byte"}};
static const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "fault", "none", "what goes wrong"},
    {sizeof(dag_reward_option), 0, "once", "", "a file that is made when it goes wrong; then it does no more"},
    {sizeof(dag_reward_option), 0, "at", "0", "number of the sample at which it goes wrong"},
};
static const int32_t formats[] = {DAG_REWARD_U8_NHWC};
static const char *const devices[] = {"cpu"};
static const dag_reward_info info = {
    .struct_size = sizeof info,
    .flags = DAG_REWARD_DETERMINISTIC,
    .name = "faulty",
    .version = "1",
    .description = "goes wrong",
    .license = "Apache-2.0",
    .source = "the tests",
    .objective_count = 1,
    .option_count = 3,
    .image_format_count = 1,
    .device_count = 1,
    .objectives = objectives,
    .options = options,
    .image_formats = formats,
    .devices = devices,
    .thread_mode = DAG_REWARD_SERIALIZED,
};
DAG_REWARD_PLUGIN(info, create, score, destroy, NULL)
