#include <ffi.h>

// libffi's types are mutable globals, which Swift refuses to read; it accepts functions that return them.
static inline ffi_type *dag_ffi_void(void) { return &ffi_type_void; }
static inline ffi_type *dag_ffi_pointer(void) { return &ffi_type_pointer; }
static inline ffi_type *dag_ffi_float(void) { return &ffi_type_float; }
static inline ffi_type *dag_ffi_double(void) { return &ffi_type_double; }

/// The integer type of 1, 2, 4 or 8 bytes.
static inline ffi_type *dag_ffi_integer(int bytes, int is_signed) {
    switch (bytes) {
    case 1: return is_signed ? &ffi_type_sint8 : &ffi_type_uint8;
    case 2: return is_signed ? &ffi_type_sint16 : &ffi_type_uint16;
    case 4: return is_signed ? &ffi_type_sint32 : &ffi_type_uint32;
    default: return is_signed ? &ffi_type_sint64 : &ffi_type_uint64;
    }
}
