// A network, the names of its classes, and which of them are chosen.
#ifndef CLASSIFIER_H
#define CLASSIFIER_H

#include "picture.h"
#include "resnet.h"

typedef struct classifier {
    resnet network;
    char *names;    ///< of the classes, joined by +
    bool *chosen;   ///< [classes]
    uint64_t hash;  ///< of the weights file
    picture_reader reader;
} classifier;

/// Reads the file at `path`, or the weights that are built in if it is "fashion_mnist", and marks `classes`, names joined by +.
int32_t classifier_load(classifier *self, const char *path, const char *classes, dag_reward_error *error);

/// Writes the hash of the weights and the names of the chosen classes, in the weights' order: what the scores depend on.
void classifier_describe(const classifier *self, char *text, size_t capacity);

void classifier_free(classifier *self);

#endif
