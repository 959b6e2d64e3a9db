#include "fixtures.h"

#include <unistd.h>

#include <stdexcept>

int32_t fixture_score(void *context, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    fixture *f = static_cast<fixture *>(context);
    // Two callbacks of a trainer may share a fixture, and be called at the same time.
    const int32_t call = __atomic_add_fetch(&f->calls, 1, __ATOMIC_RELAXED);
    usleep(f->delay);
    if (call == f->cancels_at) dag_trainer_cancel(f->trainer);
    dag_status status = {};
    status.struct_size = sizeof status;
    __atomic_store_n(&f->reentered, dag_trainer_status(f->trainer, &status), __ATOMIC_RELAXED);
    if (call == f->fail_at) {
        if (f->throws == 1) throw std::runtime_error("no such model");
        if (f->throws == 2) throw 7;
        if (f->throws == 3) return dag_reward_fail(error, DAG_REWARD_IO, "the service\r\n\tis\x1b[31m down\n");
        return dag_reward_fail(error, DAG_REWARD_IO, "the service is down");
    }
    for (uint32_t n = 0; n < batch->count; n++) {
        double sum = 0;
        for (uint32_t y = 0; y < batch->images->height; y++)
            for (uint32_t x = 0; x < batch->images->width; x++)
                for (int c = 0; c < 3; c++) sum += dag_reward_pixel(batch->images, n, y, x)[c];
        result->scores[n] = static_cast<float>(sum / batch->images->height / batch->images->width / 3 / 255);
    }
    return DAG_REWARD_OK;
}

void fixture_release(void *context) { static_cast<fixture *>(context)->released++; }

int32_t fixture_progress(void *context, int32_t, uint64_t, uint64_t) {
    fixture *f = static_cast<fixture *>(context);
    f->progress_calls++;
    f->busy = dag_trainer_save(f->trainer);
    return 0;
}

int32_t fixture_log(void *context, int32_t, const char *) {
    static_cast<fixture *>(context)->logs++;
    return 0;
}

int32_t fixture_step(void *context, const char *) {
    fixture *f = static_cast<fixture *>(context);
    f->steps++;
    if (f->steps != f->stop_at) return 0;
    if (f->observer_throws) throw std::logic_error("enough");
    return 1;
}
