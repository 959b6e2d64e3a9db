// For memmem.
#define _GNU_SOURCE
#include "transfer.h"

#include <ctype.h>
#include <pthread.h>
#include <strings.h>
#include <time.h>

enum {
    LARGEST_ANSWER = 16 << 20,
    SHOWN = 120,  // characters of a server's answer that a message quotes
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void initialise(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

// Checks the address: http or https, and no password in it, since settings are written to files.
static int32_t check_url(const char *url, const char *path, dag_reward_error *error) {
    if (*url == '\0')
        return dag_reward_fail(error, DAG_REWARD_INVALID, "url is missing: the server's address, such as url=http://127.0.0.1:8000/v1");
    CURLU *parsed = curl_url();
    char *scheme = NULL, *user = NULL;
    bool is_url = parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
    if (is_url) curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
    if (is_url) curl_url_get(parsed, CURLUPART_USER, &user, 0);
    int32_t status = DAG_REWARD_OK;
    bool is_http = scheme && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    if (!is_http && strchr(url, '@'))  // there may be a password in it
        status = dag_reward_fail(error, DAG_REWARD_INVALID, "url is not an address that begins with http:// or https://");
    else if (!is_http)
        status = dag_reward_fail(error, DAG_REWARD_INVALID, "url=%s is not an address that begins with http:// or https://", url);
    else if (user)
        status = dag_reward_fail(error, DAG_REWARD_INVALID,
            "url has a name or password in it, which would be written to config.yaml; put the key into the environment, key_env=NAME");
    else if (*path && strpbrk(url, "?#"))
        status =
            dag_reward_fail(error, DAG_REWARD_INVALID, "url=%s has a ? or #: give the part before it, to which %s is added", url, path);
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(parsed);
    return status;
}

int32_t read_whole(const dag_reward_config *config, const char *key, double low, double high, int *number, dag_reward_error *error) {
    double value;
    int32_t status = dag_reward_number(config, key, low, high, &value, error);
    if (status != DAG_REWARD_OK) return status;
    if (value != (int)value) return dag_reward_fail(error, DAG_REWARD_INVALID, "%s=%g is not a whole number", key, value);
    *number = (int)value;
    return DAG_REWARD_OK;
}

static bool add_header(client *self, const char *line) {
    struct curl_slist *longer = curl_slist_append(self->headers, line);
    if (longer) self->headers = longer;
    return longer != NULL;
}

static int32_t read_key(client *self, const char *name, dag_reward_error *error) {
    if (*name == '\0') return DAG_REWARD_OK;
    const char *key = getenv(name);
    if (!key || *key == '\0')
        return dag_reward_fail(error, DAG_REWARD_INVALID, "key_env=%s: there is no such variable in the environment, or it is empty", name);
    for (const char *c = key; *c; c++)
        if (!isgraph((unsigned char)*c))
            return dag_reward_fail(error, DAG_REWARD_INVALID, "key_env=%s: the key in it has white space or other characters", name);
    self->key = strdup(key);
    bytes line = {0};
    bytes_add_text(&line, "Authorization: Bearer ");
    bytes_add(&line, key, strlen(key) + 1);
    bool made = self->key && !line.failed && add_header(self, (const char *)line.data);
    bytes_free(&line);
    return made ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
}

int32_t client_make(client *self, const dag_reward_config *config, const char *path, const char *content_type, dag_reward_error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialise);
    const char *url = dag_reward_value(config, "url"), *ca_file = dag_reward_value(config, "ca_file");
    int32_t status = check_url(url, path, error);
    if (status == DAG_REWARD_OK) status = dag_reward_number(config, "request_timeout", 0.1, 86400, &self->request_timeout, error);
    if (status == DAG_REWARD_OK) status = read_whole(config, "retries", 0, 100, &self->retries, error);
    if (status == DAG_REWARD_OK) status = read_whole(config, "concurrency", 1, 256, &self->concurrency, error);
    if (status == DAG_REWARD_OK) status = read_key(self, dag_reward_value(config, "key_env"), error);
    if (status != DAG_REWARD_OK) return status;

    bytes address = {0};
    size_t length = strlen(url);
    while (*path && length > 0 && url[length - 1] == '/') length--;
    bytes_add(&address, url, length);
    bytes_add(&address, path, strlen(path) + 1);
    self->url = address.failed ? NULL : (char *)address.data;
    self->ca_file = *ca_file ? strdup(ca_file) : NULL;
    self->multi = curl_multi_init();
    self->idle = calloc((size_t)self->concurrency, sizeof *self->idle);
    // A server that is asked whether a large body may come answers a second later, or not at all.
    bool made = self->url && (self->ca_file || !*ca_file) && self->multi && self->idle && add_header(self, "Expect:");
    char type[128];
    snprintf(type, sizeof type, "Content-Type: %s", content_type);
    made = made && add_header(self, type);
    for (int k = 0; made && k < self->concurrency; k++) {
        made = (self->idle[k] = curl_easy_init()) != NULL;
        if (made) self->idle_count++;
    }
    return made ? DAG_REWARD_OK : dag_reward_fail(error, DAG_REWARD_MEMORY, "out of memory");
}

void client_free(client *self) {
    for (int k = 0; k < self->idle_count; k++) curl_easy_cleanup(self->idle[k]);
    if (self->multi) curl_multi_cleanup(self->multi);
    curl_slist_free_all(self->headers);
    free(self->idle);
    free(self->url);
    free(self->key);
    free(self->ca_file);
    *self = (client){0};
}

// Replaces the key in an answer, so that no message can quote it.
static void hide_key(const client *self, bytes *answer) {
    size_t length = self->key ? strlen(self->key) : 0;
    for (uint8_t *found = answer->data; length && found;) {
        found = memmem(found, answer->size - (size_t)(found - answer->data), self->key, length);
        if (found) memset(found, '*', length);
    }
}

static size_t receive(char *data, size_t size, size_t count, void *pointer) {
    transfer *self = pointer;
    self->is_too_long = self->answer.size + size * count > LARGEST_ANSWER;
    if (self->is_too_long) return 0;
    bytes_add(&self->answer, data, size * count);
    return self->answer.failed ? 0 : size * count;
}

// Hands a request to libcurl. Returns false if that has no memory.
static bool start(client *self, transfer *request, double timeout) {
    CURL *easy = self->idle[--self->idle_count];
    request->answer.size = 0;
    request->easy = easy;
    curl_easy_reset(easy);  // connections stay with the multi handle
    curl_easy_setopt(easy, CURLOPT_URL, self->url);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)request->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);  // images and keys go nowhere but to the address that was given
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(timeout * 1000) + 1);
    if (self->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, self->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);  // or the system's would be trusted beside it
    }
    if (curl_multi_add_handle(self->multi, easy) == CURLM_OK) return true;
    self->idle[self->idle_count++] = easy;
    request->easy = NULL;
    return false;
}

static void take_back(client *self, transfer *request) {
    curl_multi_remove_handle(self->multi, request->easy);
    self->idle[self->idle_count++] = request->easy;
    request->easy = NULL;
}

// Ends a request with a message.
__attribute__((format(printf, 3, 4))) static void finish(transfer *request, int32_t status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->message, sizeof request->message, format, arguments);
    va_end(arguments);
    request->status = status;
    request->is_done = true;
}

// The beginning of an answer as one line of printable text.
static void quote(const bytes *answer, char *line) {
    size_t length = answer->size < SHOWN ? answer->size : SHOWN;
    for (size_t k = 0; k < length; k++) {
        unsigned char c = answer->data[k];
        line[k] = (char)(c < 0x20 || c >= 0x7f ? ' ' : c);
    }
    line[length] = '\0';
}

static bool may_pass(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

// Waits before another try, or ends the request if there has been the last one.
__attribute__((format(printf, 4, 5))) static void fail(const client *self, transfer *request, double pause, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->reason, sizeof request->reason, format, arguments);
    va_end(arguments);
    request->failures++;
    if (request->failures <= self->retries) {
        // 0.5, 1, 2, 4, 8, 8... seconds, or what the server asks for.
        double usual = 0.25 * (double)(1 << (request->failures < 5 ? request->failures : 5));
        request->not_before = now() + (pause > 0 ? pause : usual);
        return;
    }
    finish(request, DAG_REWARD_IO, "%s (%d %s)", request->reason, request->failures, request->failures == 1 ? "try" : "tries");
}

static void judge(const client *self, transfer *request, CURL *easy, CURLcode code) {
    hide_key(self, &request->answer);
    long answered = 0;
    curl_off_t pause = 0;
    char *elsewhere = NULL;
    char line[SHOWN + 1];
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answered);
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &pause);
    curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &elsewhere);
    if (code == CURLE_WRITE_ERROR && request->is_too_long) return finish(request, DAG_REWARD_IO, "%s sends more than 16 MB", self->url);
    if (code != CURLE_OK && may_pass(code)) return fail(self, request, 0, "%s: %s", self->url, curl_easy_strerror(code));
    if (code != CURLE_OK) return finish(request, DAG_REWARD_IO, "%s: %s", self->url, curl_easy_strerror(code));
    if (answered / 100 == 2) {
        request->status = DAG_REWARD_OK;
        request->is_done = true;
        return;
    }
    if (answered / 100 == 3)
        return finish(request, DAG_REWARD_IO, "%s sends to %s, which is not followed; set url to where the server is", self->url,
            elsewhere ? elsewhere : "another place");
    quote(&request->answer, line);
    if (answered == 408 || answered == 429 || answered >= 500)
        return fail(self, request, (double)pause, "%s answers %ld: %s", self->url, answered, line);
    finish(request, DAG_REWARD_INVALID, "%s answers %ld: %s", self->url, answered, line);
}

void client_post_all(client *self, transfer *transfers, size_t count, uint64_t deadline) {
    double end = deadline ? (double)deadline * 1e-9 : 1e300;
    for (size_t left = count; left > 0;) {
        double time = now(), wake = time + 1;
        for (size_t k = 0; k < count; k++) {
            transfer *request = &transfers[k];
            if (request->is_done) continue;
            if (time >= end) {
                if (request->easy) take_back(self, request);
                finish(request, DAG_REWARD_DEADLINE, "%s had not answered when the batch's time (timeout=) was over%s%s", self->url,
                    *request->reason ? "; before: " : "", request->reason);
            } else if (request->body.failed) {
                finish(request, DAG_REWARD_MEMORY, "out of memory");
            } else if (!request->easy && request->not_before > time) {
                if (request->not_before < wake) wake = request->not_before;
            } else if (!request->easy && self->idle_count > 0) {
                double timeout = end - time < self->request_timeout ? end - time : self->request_timeout;
                if (!start(self, request, timeout)) finish(request, DAG_REWARD_MEMORY, "out of memory");
            }
        }
        int running = 0, queued = 0;
        curl_multi_perform(self->multi, &running);
        for (CURLMsg *message; (message = curl_multi_info_read(self->multi, &queued)) != NULL;) {
            CURL *easy = message->easy_handle;
            CURLcode code = message->data.result;
            transfer *request = NULL;
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &request);
            judge(self, request, easy, code);
            take_back(self, request);
            wake = 0;  // there is room for another request
        }
        left = 0;
        for (size_t k = 0; k < count; k++) left += !transfers[k].is_done;
        double pause = (wake < end ? wake : end) - now();
        if (left > 0 && pause > 0) curl_multi_poll(self->multi, NULL, 0, (int)(pause * 1000) + 1, NULL);
    }
}
