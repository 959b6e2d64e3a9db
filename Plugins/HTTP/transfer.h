// Requests to one address: several at a time, over connections that are kept, again after a failure that may pass.
#pragma once
#include <curl/curl.h>

#include "bytes.h"
#include "dag_reward.h"

typedef struct client {
    CURLM *multi;
    CURL **idle;  // [idle_count]; a request takes one and gives it back
    int idle_count, concurrency;
    struct curl_slist *headers;
    char *url;
    char *key;      // from the environment, or NULL
    char *ca_file;  // or NULL
    double request_timeout;
    int retries;
} client;

// One request and what came of it.
typedef struct transfer {
    bytes body;
    bytes answer;
    int32_t status;     // DAG_REWARD_OK if the answer is whole and the server calls it a success
    char message[256];  // otherwise, one line
    // The work of client_post_all.
    CURL *easy;
    int failures;
    char reason[200];  // of the newest failure
    double not_before;
    bool is_done, is_too_long;
} transfer;

// Reads an option as a whole number from low to high.
int32_t read_whole(const dag_reward_config *config, const char *key, double low, double high, int *number, dag_reward_error *error);

// Makes a client. Options: url, key_env, ca_file, request_timeout, retries, concurrency.
int32_t client_make(client *self, const dag_reward_config *config, const char *path, const char *content_type, dag_reward_error *error);
void client_free(client *self);

// Posts all bodies, and fills in answers or statuses and messages.
// deadline: CLOCK_MONOTONIC nanoseconds; 0: none.
void client_post_all(client *self, transfer *transfers, size_t count, uint64_t deadline);
