// How colourful an image is: Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003).
//
// With rg = R - G and yb = (R + G) / 2 - B, in 0 to 255, over the pixels:
//     M = sqrt(std(rg)^2 + std(yb)^2) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)
// The score is M / 100: a grey image has 0, a vivid photograph about 0.8.
#include <cmath>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "dag_reward.h"

namespace {

class Colourfulness {
public:
    // Throws std::invalid_argument for a setting that is wrong.
    explicit Colourfulness(const dag_reward_config &config) : crop_(number(config, "crop")) {
        if (!(crop_ > 0 && crop_ <= 1)) throw std::invalid_argument("crop must be above 0 and at most 1");
    }

    float score(const dag_reward_images &images, uint32_t n) const {
        const uint32_t top = margin(images.height), left = margin(images.width);
        const uint32_t bottom = images.height - top, right = images.width - left;
        Moments rg, yb;
        for (uint32_t y = top; y < bottom; y++)
            for (uint32_t x = left; x < right; x++) {
                const uint8_t *pixel = dag_reward_pixel(&images, n, y, x);
                rg.add(pixel[0] - pixel[1]);
                yb.add(0.5 * (pixel[0] + pixel[1]) - pixel[2]);
            }
        const double pixels = double(bottom - top) * (right - left);
        const double spread = std::sqrt(rg.variance(pixels) + yb.variance(pixels));
        return static_cast<float>((spread + 0.3 * std::hypot(rg.mean(pixels), yb.mean(pixels))) / 100);
    }

private:
    struct Moments {
        double sum = 0, squares = 0;
        void add(double value) { sum += value, squares += value * value; }
        double mean(double count) const { return sum / count; }
        double variance(double count) const { return std::fmax(0, squares / count - mean(count) * mean(count)); }
    };

    static double number(const dag_reward_config &config, const char *key) {
        const std::string text = dag_reward_value(&config, key);
        std::size_t read = 0;
        try {
            const double value = std::stod(text, &read);
            if (read == text.size()) return value;
        } catch (const std::logic_error &) {  // what stod throws, without telling which setting it was
        }
        throw std::invalid_argument(key + ("=" + text) + " is not a number");
    }

    // Pixels to leave out on either side; at least one pixel stays.
    uint32_t margin(uint32_t length) const { return static_cast<uint32_t>((length - 1) * (1 - crop_) / 2); }

    double crop_;
};

// No exception may leave the library: here they become a status and a message.
template <typename Body>
int32_t guarded(dag_reward_error *error, Body body) noexcept {
    try {
        body();
        return DAG_REWARD_OK;
    } catch (const std::bad_alloc &) {
        return dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
    } catch (const std::invalid_argument &reason) {
        return dag_reward_fail(error, DAG_REWARD_INVALID, "%s", reason.what());
    } catch (const std::exception &reason) {
        return dag_reward_fail(error, DAG_REWARD_INTERNAL, "%s", reason.what());
    } catch (...) {
        return dag_reward_fail(error, DAG_REWARD_INTERNAL, "an exception of unknown type");
    }
}

int32_t create(const dag_reward_host *, const dag_reward_config *config, void **instance, dag_reward_error *error) {
    return guarded(error, [&] { *instance = std::make_unique<Colourfulness>(*config).release(); });
}

int32_t score(void *instance, const dag_reward_batch *batch, const dag_reward_result *result, dag_reward_error *error) {
    return guarded(error, [&] {
        const auto &reward = *static_cast<const Colourfulness *>(instance);
        for (uint32_t n = 0; n < batch->count; n++) result->scores[n] = reward.score(*batch->images, n);
    });
}

void destroy(void *instance) { delete static_cast<Colourfulness *>(instance); }

const dag_reward_objective objectives[] = {
    {sizeof(dag_reward_objective), DAG_REWARD_MAXIMIZE, "colourfulness", "Hasler and Suesstrunk's M / 100: 0 is grey, 0.8 vivid"},
};
const dag_reward_option options[] = {
    {sizeof(dag_reward_option), 0, "crop", "1", "share of height and width, in the middle, that counts: above 0, at most 1"},
};
const int32_t formats[] = {DAG_REWARD_U8_NHWC};
const char *const devices[] = {"cpu"};

dag_reward_info describe() {
    dag_reward_info info{};
    info.struct_size = sizeof info;
    info.flags = DAG_REWARD_DETERMINISTIC;
    info.name = "colourfulness";
    info.version = "1.0.0";
    info.description = "how colourful a picture is";
    info.license = "Apache-2.0";
    info.source = "Hasler and Suesstrunk 2003, doi:10.1117/12.477378";
    info.objective_count = 1;
    info.objectives = objectives;
    info.option_count = 1;
    info.options = options;
    info.image_format_count = 1;
    info.image_formats = formats;
    info.device_count = 1;
    info.devices = devices;
    info.thread_mode = DAG_REWARD_CONCURRENT;
    return info;
}
const dag_reward_info info = describe();

}  // namespace

DAG_REWARD_PLUGIN(info, create, score, destroy, nullptr)
