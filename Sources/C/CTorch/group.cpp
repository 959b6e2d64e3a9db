// Several processes that work on one run: c10d's TCPStore, where they meet, and its ProcessGroupGloo, which
// carries the data.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <set>
#include <thread>

#include "internal.h"

using namespace ctorch;
using Milliseconds = std::chrono::milliseconds;

struct ct_store_impl {
    std::string host;
    int port;
    c10::intrusive_ptr<c10d::Store> shared;
};

struct ct_group_impl {
    c10::intrusive_ptr<c10d::Backend> backend;
    // A second connection to the next rank, on which nothing is ever sent: receiving ends when that process
    // does.
    c10::intrusive_ptr<c10d::Backend> lifeline;
    c10::intrusive_ptr<c10d::Work> life;
    std::thread watcher;
    std::atomic<bool> is_leaving{false};
};

namespace {
Milliseconds milliseconds(double seconds) { return Milliseconds(static_cast<int64_t>(seconds * 1000)); }

// The address of this machine by which others that reach `host` can reach it. The machine's own name, which
// gloo would take, often stands for 127.0.1.1.
std::string own_address(const std::string &host, int port) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_DGRAM;
    if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return "";
    std::string address;
    for (addrinfo *a = found; a && address.empty(); a = a->ai_next) {
        int s = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_storage own{};
        socklen_t length = sizeof own;
        char text[NI_MAXHOST];
        if (s >= 0 && connect(s, a->ai_addr, a->ai_addrlen) == 0 && getsockname(s, reinterpret_cast<sockaddr *>(&own), &length) == 0 &&
            getnameinfo(reinterpret_cast<sockaddr *>(&own), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
            address = text;
        if (s >= 0) close(s);
    }
    freeaddrinfo(found);
    return address;
}

std::set<int> open_files() {
    std::set<int> numbers;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) return numbers;
    while (dirent *entry = readdir(folder)) {
        int number = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && number != dirfd(folder)) numbers.insert(number);
    }
    closedir(folder);
    return numbers;
}

// Runs `body`, and keeps what it opens from child processes: one that outlives this process would hold its
// connections open, so that the others would not see its end. Gloo itself does not see to that.
template <typename Body>
void without_inheritance(Body body) {
    const std::set<int> before = open_files();
    body();
    for (int number : open_files())
        if (!before.count(number)) fcntl(number, F_SETFD, FD_CLOEXEC);
}

c10::intrusive_ptr<c10d::Backend> connect(ct_store store, const std::string &name, int rank, int count, Milliseconds timeout) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    const std::string own = getenv("GLOO_SOCKET_IFNAME") ? "" : own_address(store->host, store->port);
    options->devices.push_back(
        own.empty() ? c10d::ProcessGroupGloo::createDefaultDevice() : c10d::ProcessGroupGloo::createDeviceForHostname(own));
    auto own_keys = c10::make_intrusive<c10d::PrefixStore>(name, store->shared);
    return c10::make_intrusive<c10d::ProcessGroupGloo>(own_keys, rank, count, options);
}

std::vector<uint8_t> bytes(const char *text) { return std::vector<uint8_t>(text, text + strlen(text)); }

at::Tensor flat(const std::vector<int64_t> &sizes) {
    int64_t total = 0;
    for (int64_t size : sizes) total += size;
    return at::empty({total}, at::kByte);
}
}  // namespace

extern "C" {

ct_store ct_store_open(const char *host, int port, bool hosts, const char *prefix, double seconds) {
    return guarded(static_cast<ct_store>(nullptr), [&] {
        // c10d writes pages to the standard error stream about what it also throws.
        setenv("TORCH_CPP_LOG_LEVEL", "FATAL", 0);
        c10::initLogging();
        c10d::TCPStoreOptions options;
        options.port = static_cast<uint16_t>(port);
        options.isServer = hosts;
        options.waitWorkers = false;
        options.timeout = milliseconds(seconds);
        // Whatever listens at that port may be no store and never answer: TCPStore then waits without an end.
        std::promise<c10::intrusive_ptr<c10d::TCPStore>> promise;
        auto opened = promise.get_future();
        without_inheritance([&] {
            std::thread([options, name = std::string(host), promise = std::move(promise)]() mutable {
                try {
                    promise.set_value(c10::make_intrusive<c10d::TCPStore>(name, options));
                } catch (...) {
                    promise.set_exception(std::current_exception());
                }
            }).detach();
            TORCH_CHECK(opened.wait_for(milliseconds(seconds + 5)) == std::future_status::ready, "what listens there does not answer");
        });
        auto store = opened.get();
        return new ct_store_impl{host, store->getPort(), c10::make_intrusive<c10d::PrefixStore>(prefix, store)};
    });
}

int ct_store_port(ct_store s) { return s->port; }

void ct_store_close(ct_store s) { delete s; }

bool ct_store_set(ct_store s, const char *key, const char *text) {
    return guarded(false, [&] {
        s->shared->compareSet(key, {}, bytes(text));
        return true;
    });
}

char *ct_store_get(ct_store s, const char *key) {
    return guarded(static_cast<char *>(nullptr), [&] {
        if (!s->shared->check({key})) return static_cast<char *>(nullptr);
        auto value = s->shared->get(key);
        return strndup(reinterpret_cast<const char *>(value.data()), value.size());
    });
}

ct_group ct_group_join(ct_store s, int rank, int count, double timeout) {
    return guarded(static_cast<ct_group>(nullptr), [&] {
        auto group = std::make_unique<ct_group_impl>();
        without_inheritance([&] {
            group->backend = connect(s, "data", rank, count, milliseconds(timeout));
            group->lifeline = connect(s, "life", rank, count, std::chrono::hours(24 * 365));
        });
        std::vector<at::Tensor> nothing{at::empty({1}, at::kByte)};
        group->life = group->lifeline->recv(nothing, (rank + 1) % count, 0);
        group->watcher = std::thread([raw = group.get(), table = s->shared, next = std::to_string((rank + 1) % count)] {
            try {
                raw->life->wait();
            } catch (const std::exception &) {
            }
            if (raw->is_leaving) return;
            try {
                table->compareSet("ended", {}, bytes(next.c_str()));
            } catch (const std::exception &) {
                // The process that keeps the table has ended: the others see that for themselves.
            }
        });
        return group.release();
    });
}

bool ct_group_exchange(ct_group g, const void *in, const int64_t *in_sizes, void *out, const int64_t *out_sizes,
    void (*waiting)(void *context), void *context) {
    return guarded(false, [&] {
        const int count = g->backend->getSize();
        std::vector<int64_t> given(in_sizes, in_sizes + count), received(out_sizes, out_sizes + count);
        at::Tensor mine = flat(given), theirs = flat(received);
        if (mine.numel() > 0) std::memcpy(mine.mutable_data_ptr(), in, mine.nbytes());
        auto work = g->backend->alltoall_base(theirs, mine, received, given);
        // The first milliseconds are for small messages, later ones for waiting.
        const auto start = std::chrono::steady_clock::now();
        while (!work->isCompleted()) {
            const bool is_long = std::chrono::steady_clock::now() - start > Milliseconds(20);
            std::this_thread::sleep_for(is_long ? std::chrono::microseconds(5000) : std::chrono::microseconds(50));
            if (is_long) waiting(context);
        }
        work->wait();
        if (theirs.numel() > 0) std::memcpy(out, theirs.const_data_ptr(), theirs.nbytes());
        return true;
    });
}

void ct_group_leave(ct_group g) {
    guarded(false, [&] {
        g->is_leaving = true;
        g->life->abort();
        g->watcher.join();
        delete g;
        return true;
    });
}

}  // extern "C"
