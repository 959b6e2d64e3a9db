// embed CONFIG OUTPUT [CYCLES]: trains with redness() in this process; or makes, starts and destroys a trainer CYCLES times and prints
// the resident memory in KB after the first ten and at the end.
#include <dagcore.h>
#include <stdio.h>
#include <unistd.h>

#include "redness.h"

static int fail(void) { return fprintf(stderr, "embed: %s\n", dag_last_error()), 1; }

static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*s %ld", &pages) != 1) return -1;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int count, char *arguments[]) {
    if (count < 3) return 2;
    const int cycles = count > 3 ? atoi(arguments[3]) : 0;
    const dag_callback reward = {
        .struct_size = sizeof reward, .flags = DAG_REWARD_DETERMINISTIC, .name = "redness", .fingerprint = "1", .score = redness};
    for (int k = 0; k == 0 || k < cycles; k++) {
        dag_trainer *trainer;
        if (dag_trainer_create(arguments[1], arguments[2], &trainer)) return fail();
        if (dag_trainer_add_callback(trainer, &reward)) return fail();
        if (!cycles && (dag_trainer_start(trainer) || dag_trainer_run(trainer))) return fail();
        if (dag_trainer_destroy(trainer)) return fail();
        if (cycles && (k == 9 || k == cycles - 1)) printf("%ld\n", resident());
    }
    return 0;
}
