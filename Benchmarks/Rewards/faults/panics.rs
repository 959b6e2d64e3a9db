// A Rust cdylib called through the C functions of panics.c: a panic that nobody catches.
#[no_mangle]
pub extern "C" fn first_byte(byte: u8, sample: u64, at: u64) -> f32 {
    if sample == at {
        panic!("out of ideas");
    }
    byte as f32
}
