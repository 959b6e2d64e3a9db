// A network, the names of its classes, and the choice among them.
#ifndef CLASSIFIER_H
#define CLASSIFIER_H

#include "image.h"
#include "resnet.h"

typedef struct classifier {
    resnet network;
    char *names;    ///< of the classes, joined by +
    bool *chosen;   ///< [classes]
    uint64_t hash;  ///< of the weights file
    image_reader reader;
} classifier;

/// Reads the file at `path`, or the built-in weights if it is
/// "fashion_mnist", and marks `classes`, names joined by +.
int32_t classifier_load(classifier *self, const char *path, const char *classes, dag_reward_error *error);

/// Writes everything that the scores depend on: the hash of
/// the weights and the chosen classes, in the weights' order.
void classifier_describe(const classifier *self, char *text, size_t capacity);

void classifier_free(classifier *self);

#endif
