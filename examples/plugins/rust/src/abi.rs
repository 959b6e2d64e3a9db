//! `dag_reward.h`, version 1, in Rust; see there for the fields' meaning. The assertions below hold the layout in place.

use std::ffi::{c_char, c_void};

pub const VERSION: u32 = 1;

pub const OK: i32 = 0;
pub const INVALID: i32 = 1;
pub const UNSUPPORTED: i32 = 2;
pub const IO: i32 = 3;
pub const INTERNAL: i32 = 5;

pub const MAXIMIZE: i32 = 1;
pub const MINIMIZE: i32 = -1;
pub const DETERMINISTIC: u32 = 1;
pub const CONCURRENT: u32 = 2;

pub static U8_NHWC: i32 = 1;
pub static CPU: Constant<*const c_char> = Constant(c"cpu".as_ptr());

/// Pointers to constants may be shared between threads.
#[repr(transparent)]
pub struct Constant<T>(pub T);
unsafe impl<T> Sync for Constant<T> {}
unsafe impl Sync for Info {}
unsafe impl Sync for Plugin {}

#[repr(C)]
pub struct Text {
    pub data: *const c_char,
    pub size: usize,
}

#[repr(C)]
pub struct Setting {
    pub key: *const c_char,
    pub value: *const c_char,
}

#[repr(C)]
pub struct ErrorBuffer {
    pub struct_size: u32,
    pub capacity: u32,
    pub message: *mut c_char,
}

#[repr(C)]
pub struct Host {
    pub struct_size: u32,
    pub abi_min: u32,
    pub abi_max: u32,
    pub reserved: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub extension: unsafe extern "C" fn(*const c_char) -> *const c_void,
}

#[repr(C)]
pub struct Objective {
    pub struct_size: u32,
    pub direction: i32,
    pub name: *const c_char,
    pub description: *const c_char,
}

#[repr(C)]
pub struct OptionInfo {
    pub struct_size: u32,
    pub reserved: u32,
    pub key: *const c_char,
    pub default_value: *const c_char,
    pub description: *const c_char,
}

#[repr(C)]
pub struct Info {
    pub struct_size: u32,
    pub flags: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub description: *const c_char,
    pub license: *const c_char,
    pub source: *const c_char,
    pub objective_count: u32,
    pub option_count: u32,
    pub image_format_count: u32,
    pub device_count: u32,
    pub objectives: *const Objective,
    pub options: *const OptionInfo,
    pub image_formats: *const i32,
    pub devices: *const *const c_char,
    pub thread_mode: u32,
    pub largest_batch: u32,
}

#[repr(C)]
pub struct Config {
    pub struct_size: u32,
    pub setting_count: u32,
    pub settings: *const Setting,
    pub json: Text,
    pub device: *const c_char,
}

#[repr(C)]
pub struct Images {
    pub struct_size: u32,
    pub format: i32,
    pub data: *const c_void,
    pub height: u32,
    pub width: u32,
    pub strides: [i64; 4],
}

#[repr(C)]
pub struct Batch {
    pub struct_size: u32,
    pub count: u32,
    pub images: *const Images,
    pub prompts: *const Text,
    pub metadata: *const Text,
    pub sample_ids: *const u64,
    pub seeds: *const u64,
    pub deadline: u64,
}

/// `dag_reward_result`; `Result` has a meaning of its own here.
#[repr(C)]
pub struct Scores {
    pub struct_size: u32,
    pub objective_count: u32,
    pub scores: *mut f32,
    pub statuses: *mut i32,
}

#[repr(C)]
pub struct Plugin {
    pub struct_size: u32,
    pub abi_version: u32,
    pub info: *const Info,
    pub create:
        unsafe extern "C" fn(*const Host, *const Config, *mut *mut c_void, *mut ErrorBuffer) -> i32,
    pub score:
        unsafe extern "C" fn(*mut c_void, *const Batch, *const Scores, *mut ErrorBuffer) -> i32,
    pub destroy: unsafe extern "C" fn(*mut c_void),
    pub extension: Option<unsafe extern "C" fn(*const c_char) -> *const c_void>,
}

macro_rules! layout {
    ($type:ident, $size:literal, $($field:ident $offset:literal),+) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(std::mem::offset_of!($type, $field) == $offset);)+
        };
    };
}

layout!(Text, 16, data 0, size 8);
layout!(Setting, 16, key 0, value 8);
layout!(ErrorBuffer, 16, struct_size 0, capacity 4, message 8);
layout!(Host, 40, struct_size 0, abi_min 4, abi_max 8, reserved 12, name 16, version 24, extension 32);
layout!(Objective, 24, struct_size 0, direction 4, name 8, description 16);
layout!(OptionInfo, 32, struct_size 0, reserved 4, key 8, default_value 16, description 24);
layout!(
    Info, 104, struct_size 0, flags 4, name 8, version 16, description 24, license 32, source 40, objective_count 48,
    option_count 52, image_format_count 56, device_count 60, objectives 64, options 72, image_formats 80, devices 88,
    thread_mode 96, largest_batch 100
);
layout!(Config, 40, struct_size 0, setting_count 4, settings 8, json 16, device 32);
layout!(Images, 56, struct_size 0, format 4, data 8, height 16, width 20, strides 24);
layout!(
    Batch, 56, struct_size 0, count 4, images 8, prompts 16, metadata 24, sample_ids 32, seeds 40, deadline 48
);
layout!(Scores, 24, struct_size 0, objective_count 4, scores 8, statuses 16);
layout!(Plugin, 48, struct_size 0, abi_version 4, info 8, create 16, score 24, destroy 32, extension 40);
