//! The functions that the host calls. Errors and panics become a status and a message; they never cross into the host.

use crate::abi;
use crate::reward::{Batch, Config, Error, Reward};
use std::ffi::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;

/// Defines the one exported function.
#[macro_export]
macro_rules! export_reward {
    ($reward:ty) => {
        static DESCRIPTION: $crate::abi::Info = $crate::entry::describe::<$reward>();
        static PLUGIN: $crate::abi::Plugin = $crate::entry::plugin::<$reward>(&DESCRIPTION);

        /// # Safety
        /// Called by the host, as `dag_reward.h` says.
        #[no_mangle]
        pub unsafe extern "C" fn dag_reward_entry(
            host: *const $crate::abi::Host,
            plugin: *mut *const $crate::abi::Plugin,
            error: *mut $crate::abi::ErrorBuffer,
        ) -> i32 {
            $crate::entry::enter(host, &PLUGIN, plugin, error)
        }
    };
}

pub const fn describe<R: Reward>() -> abi::Info {
    abi::Info {
        struct_size: size_of::<abi::Info>() as u32,
        flags: if R::INFO.deterministic {
            abi::DETERMINISTIC
        } else {
            0
        },
        name: R::INFO.name.as_ptr(),
        version: R::INFO.version.as_ptr(),
        description: R::INFO.description.as_ptr(),
        license: R::INFO.license.as_ptr(),
        source: R::INFO.source.as_ptr(),
        objective_count: R::INFO.objectives.len() as u32,
        option_count: R::INFO.options.len() as u32,
        image_format_count: 1,
        device_count: 1,
        objectives: R::INFO.objectives.as_ptr().cast(),
        options: R::INFO.options.as_ptr().cast(),
        image_formats: &abi::U8_NHWC,
        devices: &abi::CPU.0,
        thread_mode: abi::CONCURRENT,
        largest_batch: R::INFO.largest_batch,
    }
}

pub const fn plugin<R: Reward>(info: &'static abi::Info) -> abi::Plugin {
    abi::Plugin {
        struct_size: size_of::<abi::Plugin>() as u32,
        abi_version: abi::VERSION,
        info,
        create: create::<R>,
        score: score::<R>,
        destroy: destroy::<R>,
        extension: None,
    }
}

/// # Safety
/// The pointers are the host's, as `dag_reward.h` says.
pub unsafe fn enter(
    host: *const abi::Host,
    table: &'static abi::Plugin,
    plugin: *mut *const abi::Plugin,
    error: *mut abi::ErrorBuffer,
) -> i32 {
    let (oldest, newest) = ((*host).abi_min, (*host).abi_max);
    if !(oldest..=newest).contains(&abi::VERSION) {
        let message = format!(
            "speaks reward ABI {}, the host speaks {oldest} to {newest}",
            abi::VERSION
        );
        return fail(
            error,
            Error {
                status: abi::UNSUPPORTED,
                message,
            },
        );
    }
    *plugin = table;
    abi::OK
}

unsafe extern "C" fn create<R: Reward>(
    _host: *const abi::Host,
    config: *const abi::Config,
    instance: *mut *mut c_void,
    error: *mut abi::ErrorBuffer,
) -> i32 {
    match guarded(|| R::new(&Config(unsafe { &*config }))) {
        Ok(reward) => {
            *instance = Box::into_raw(Box::new(reward)).cast();
            abi::OK
        }
        Err(reason) => fail(error, reason),
    }
}

unsafe extern "C" fn score<R: Reward>(
    instance: *mut c_void,
    batch: *const abi::Batch,
    result: *const abi::Scores,
    error: *mut abi::ErrorBuffer,
) -> i32 {
    let (reward, count, objectives) = (
        &*instance.cast::<R>(),
        (*batch).count as usize,
        R::INFO.objectives.len(),
    );
    let scores = slice::from_raw_parts_mut((*result).scores, count * objectives);
    let statuses = slice::from_raw_parts_mut((*result).statuses, count);
    for (n, scores) in scores.chunks_exact_mut(objectives).enumerate() {
        if let Err(reason) = guarded(|| reward.score(&Batch(unsafe { &*batch }), n, scores)) {
            statuses[n] = fail(error, reason);
        }
    }
    abi::OK
}

unsafe extern "C" fn destroy<R: Reward>(instance: *mut c_void) {
    // A panic in a destructor cannot be reported.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        drop(unsafe { Box::from_raw(instance.cast::<R>()) })
    }));
}

/// Turns a panic into an error.
fn guarded<T>(body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref().copied());
        Err(Error::internal(format!(
            "panic: {}",
            text.unwrap_or("no reason given")
        )))
    })
}

/// Writes the message, cut to the host's buffer at a character's end, and returns the status.
unsafe fn fail(error: *mut abi::ErrorBuffer, reason: Error) -> i32 {
    let buffer =
        slice::from_raw_parts_mut((*error).message.cast::<u8>(), (*error).capacity as usize);
    let longest = reason.message.len().min(buffer.len() - 1);
    let size = (0..=longest)
        .rev()
        .find(|&end| reason.message.is_char_boundary(end))
        .unwrap_or(0);
    buffer[..size].copy_from_slice(&reason.message.as_bytes()[..size]);
    buffer[size] = 0;
    reason.status
}
