#include "pickle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// --- Writing -------------------------------------------------------------------------------------------------------------

static void add_code(bytes *self, char code) { bytes_add(self, &code, 1); }

static void add_sized(bytes *self, char code, const void *data, size_t size) {
    uint8_t length[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), (uint8_t)(size >> 24)};
    if (size > UINT32_MAX) self->failed = true;
    add_code(self, code);
    bytes_add(self, length, 4);
    bytes_add(self, data, size);
}

void pickle_begin(bytes *self) { bytes_add(self, "\x80\x03", 2); }
void pickle_end(bytes *self) { add_code(self, '.'); }
void pickle_open_dictionary(bytes *self) { bytes_add(self, "}(", 2); }
void pickle_close_dictionary(bytes *self) { add_code(self, 'u'); }
void pickle_open_list(bytes *self) { bytes_add(self, "](", 2); }
void pickle_close_list(bytes *self) { add_code(self, 'e'); }
void pickle_add_text(bytes *self, const char *text, size_t size) { add_sized(self, 'X', text, size); }
void pickle_add_bytes(bytes *self, const uint8_t *data, size_t size) { add_sized(self, 'B', data, size); }

static void add_integer(bytes *self, json_int_t number) {
    uint8_t digits[8];
    for (int k = 0; k < 8; k++) digits[k] = (uint8_t)((uint64_t)number >> 8 * k);
    bytes_add(self, "\x8a\x08", 2);  // LONG1 of 8 bytes, two's complement
    bytes_add(self, digits, 8);
}

static void add_real(bytes *self, double number) {
    uint64_t bits;
    memcpy(&bits, &number, 8);
    add_code(self, 'G');
    for (int k = 7; k >= 0; k--) add_code(self, (char)(bits >> 8 * k));
}

void pickle_add_json(bytes *self, const json_t *value) {
    const char *key;
    json_t *item;
    size_t place;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        pickle_open_dictionary(self);
        json_object_foreach((json_t *)value, key, item) {
            pickle_add_text(self, key, strlen(key));
            pickle_add_json(self, item);
        }
        pickle_close_dictionary(self);
        break;
    case JSON_ARRAY:
        pickle_open_list(self);
        json_array_foreach(value, place, item) pickle_add_json(self, item);
        pickle_close_list(self);
        break;
    case JSON_STRING: pickle_add_text(self, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: add_integer(self, json_integer_value(value)); break;
    case JSON_REAL: add_real(self, json_real_value(value)); break;
    case JSON_TRUE: add_code(self, '\x88'); break;
    case JSON_FALSE: add_code(self, '\x89'); break;
    case JSON_NULL: add_code(self, 'N'); break;
    }
}

// --- Reading -------------------------------------------------------------------------------------------------------------

enum {
    MOST_VALUES = 1 << 17,   // of the stack, and of the memo
    MOST_CONTAINERS = 1000,  // and so the deepest nesting, which is freed by recursion
    MOST_COPIED = 1 << 20,   // values of lists and dictionaries that are there more than once
    MARK_DEPTH = 256,
};

typedef struct reader {
    const uint8_t *data, *end;
    json_t **stack, **memo;
    size_t count, memo_count, containers, copied;
    size_t marks[MARK_DEPTH];
    size_t mark_count;
    const char *reason;
} reader;

static bool fail(reader *self, const char *reason) {
    if (!self->reason) self->reason = reason;
    return false;
}

static const char cut_short[] = "is cut short";
static const char damaged[] = "is no pickle, or a damaged one";

// Takes bytes off the input; NULL if there are not so many.
static const uint8_t *take(reader *self, uint64_t size) {
    if (size > (uint64_t)(self->end - self->data)) {
        fail(self, cut_short);
        return NULL;
    }
    const uint8_t *start = self->data;
    self->data += size;
    return start;
}

// Takes a number of some bytes, little-endian.
static bool take_number(reader *self, int size, uint64_t *number) {
    const uint8_t *data = take(self, (uint64_t)size);
    if (!data) return false;
    *number = 0;
    for (int k = 0; k < size; k++) *number |= (uint64_t)data[k] << 8 * k;
    return true;
}

// Takes over a value; NULL means that memory is out, or a text that is no UTF-8.
static bool push(reader *self, json_t *value) {
    if (!value) return fail(self, "has a text that is not UTF-8, or memory is out");
    if (self->count == MOST_VALUES) {
        json_decref(value);
        return fail(self, "has too many values");
    }
    self->stack[self->count++] = value;
    return true;
}

static bool push_container(reader *self, json_t *value) {
    if (++self->containers > MOST_CONTAINERS) {
        json_decref(value);
        return fail(self, "has too many lists and dictionaries");
    }
    return push(self, value);
}

static json_t *pop(reader *self) {
    size_t floor = self->mark_count ? self->marks[self->mark_count - 1] : 0;
    if (self->count <= floor) {
        fail(self, damaged);
        return NULL;
    }
    return self->stack[--self->count];
}

static json_t *top(reader *self) {
    size_t floor = self->mark_count ? self->marks[self->mark_count - 1] : 0;
    if (self->count > floor) return self->stack[self->count - 1];
    fail(self, damaged);
    return NULL;
}

static bool push_text(reader *self, int bytes_of_size) {
    uint64_t size;
    if (!take_number(self, bytes_of_size, &size)) return false;
    const uint8_t *text = take(self, size);
    return text && push(self, json_stringn((const char *)text, (size_t)size));
}

static bool push_bytes(reader *self, int bytes_of_size) {
    uint64_t size;
    return take_number(self, bytes_of_size, &size) && take(self, size) && push(self, json_null());
}

static bool push_real(reader *self) {
    const uint8_t *data = take(self, 8);
    if (!data) return false;
    uint64_t bits = 0;
    for (int k = 0; k < 8; k++) bits = bits << 8 | data[k];
    double number;
    memcpy(&number, &bits, 8);
    // JSON has no other numbers: null is no score either.
    return push(self, isfinite(number) ? json_real(number) : json_null());
}

static bool push_long(reader *self) {
    uint64_t size, number = 0;
    if (!take_number(self, 1, &size)) return false;
    const uint8_t *data = take(self, size);
    if (!data) return false;
    if (size > 8) return push(self, json_null());
    for (uint64_t k = 0; k < size; k++) number |= (uint64_t)data[k] << 8 * k;
    if (size > 0 && size < 8 && data[size - 1] & 0x80) number |= UINT64_MAX << 8 * size;
    return push(self, json_integer((json_int_t)number));
}

// Removes the newest mark. Returns the place of the first value above it.
static bool pop_mark(reader *self, size_t *first) {
    if (self->mark_count == 0) return fail(self, damaged);
    *first = self->marks[--self->mark_count];
    return true;
}

static bool set(reader *self, json_t *dictionary, json_t *key, json_t *value) {
    char text[32];
    const char *name = json_string_value(key);
    if (json_is_integer(key)) {
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(key));
        name = text;
    }
    if (!json_is_object(dictionary) || !name) return fail(self, damaged);
    return json_object_set(dictionary, name, value) == 0 || fail(self, damaged);
}

// Moves the values from `first` on into the list or dictionary below them.
static bool fill(reader *self, size_t first, bool is_list) {
    size_t floor = self->mark_count ? self->marks[self->mark_count - 1] : 0;
    if (first <= floor || first > self->count) return fail(self, damaged);
    json_t *container = self->stack[first - 1];
    bool is_good = is_list ? json_is_array(container) : json_is_object(container) && (self->count - first) % 2 == 0;
    if (!is_good) return fail(self, damaged);
    for (size_t k = first; k < self->count && is_good; k += is_list ? 1 : 2)
        is_good = is_list ? json_array_append(container, self->stack[k]) == 0 : set(self, container, self->stack[k], self->stack[k + 1]);
    while (self->count > first) json_decref(self->stack[--self->count]);
    return is_good || fail(self, damaged);
}

// Replaces the values from `first` on by a list of them.
static bool gather(reader *self, size_t first) {
    size_t floor = self->mark_count ? self->marks[self->mark_count - 1] : 0;
    if (first > self->count || first < floor) return fail(self, damaged);
    json_t *list = json_array();
    for (size_t k = first; list && k < self->count; k++) json_array_append(list, self->stack[k]);
    while (self->count > first) json_decref(self->stack[--self->count]);
    return push_container(self, list);
}

static bool remember(reader *self, uint64_t place) {
    json_t *value = top(self);
    if (!value) return false;
    if (place >= MOST_VALUES) return fail(self, "has too many values");
    json_decref(self->memo[place]);
    self->memo[place] = json_incref(value);
    if (place >= self->memo_count) self->memo_count = (size_t)place + 1;
    return true;
}

// Pushes what has been remembered; a list or dictionary as a copy, so that none can come to be inside itself.
static bool recall(reader *self, uint64_t place) {
    json_t *value = place < self->memo_count ? self->memo[place] : NULL;
    if (!value) return fail(self, damaged);
    bool is_container = json_is_array(value) || json_is_object(value);
    if (!is_container) return push(self, json_incref(value));
    self->copied += json_is_array(value) ? json_array_size(value) : json_object_size(value);
    return self->copied <= MOST_COPIED ? push_container(self, json_copy(value)) : fail(self, "repeats itself too often");
}

static bool step(reader *self, uint8_t code) {
    uint64_t number;
    size_t first;
    switch (code) {
    case 0x80: return take(self, 1) != NULL;  // PROTO
    case 0x95: return take(self, 8) != NULL;  // FRAME
    case '}': return push_container(self, json_object());
    case ']':
    case ')': return push_container(self, json_array());
    case '(':
        if (self->mark_count == MARK_DEPTH) return fail(self, damaged);
        self->marks[self->mark_count++] = self->count;
        return true;
    case 'X': return push_text(self, 4);
    case 0x8c: return push_text(self, 1);
    case 0x8d: return push_text(self, 8);
    case 'B': return push_bytes(self, 4);
    case 'C': return push_bytes(self, 1);
    case 0x8e: return push_bytes(self, 8);
    case 'G': return push_real(self);
    case 0x8a: return push_long(self);
    case 'J': return take_number(self, 4, &number) && push(self, json_integer((int32_t)(uint32_t)number));
    case 'K': return take_number(self, 1, &number) && push(self, json_integer((json_int_t)number));
    case 'M': return take_number(self, 2, &number) && push(self, json_integer((json_int_t)number));
    case 'N': return push(self, json_null());
    case 0x88: return push(self, json_true());
    case 0x89: return push(self, json_false());
    case 'e': return pop_mark(self, &first) && fill(self, first, true);
    case 'u': return pop_mark(self, &first) && fill(self, first, false);
    case 'a': return self->count >= 1 ? fill(self, self->count - 1, true) : fail(self, damaged);
    case 's': return self->count >= 2 ? fill(self, self->count - 2, false) : fail(self, damaged);
    case 't': return pop_mark(self, &first) && gather(self, first);
    case 0x85:
    case 0x86:
    case 0x87: first = (size_t)(code - 0x84); return self->count >= first ? gather(self, self->count - first) : fail(self, damaged);
    case 0x94: return remember(self, self->memo_count);
    case 'q': return take_number(self, 1, &number) && remember(self, number);
    case 'r': return take_number(self, 4, &number) && remember(self, number);
    case 'h': return take_number(self, 1, &number) && recall(self, number);
    case 'j': return take_number(self, 4, &number) && recall(self, number);
    case 'c':
    case 0x93: return fail(self, "has objects that are not plain numbers, such as numpy's; have the server send .tolist()");
    default: return fail(self, damaged);
    }
}

json_t *pickle_read(const uint8_t *data, size_t size, const char **reason) {
    reader self = {.data = data, .end = data + size};
    self.stack = calloc(MOST_VALUES, sizeof *self.stack);
    self.memo = calloc(MOST_VALUES, sizeof *self.memo);
    json_t *value = NULL;
    if (!self.stack || !self.memo) fail(&self, "takes more memory than there is");
    while (!self.reason) {
        const uint8_t *code = take(&self, 1);
        if (!code) break;
        if (*code == '.') {
            if (self.count == 1 && self.mark_count == 0) value = pop(&self);
            if (!value) fail(&self, damaged);
            break;
        }
        step(&self, *code);
    }
    for (size_t k = 0; self.stack && k < self.count; k++) json_decref(self.stack[k]);
    for (size_t k = 0; self.memo && k < self.memo_count; k++) json_decref(self.memo[k]);
    free(self.stack);
    free(self.memo);
    *reason = self.reason;
    return value;
}
