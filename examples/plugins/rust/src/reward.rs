//! The interface for authors: safe Rust on top of `abi.rs`. All `unsafe` relies on the promises of `dag_reward.h` about the host's
//! pointers.

use crate::abi;
use std::ffi::CStr;
use std::slice;

/// The interface of a reward. The host may call `score` from any number of threads at once, hence `Sync`.
pub trait Reward: Sized + Send + Sync {
    const INFO: Info;
    /// Loads the model.
    fn new(config: &Config) -> Result<Self, Error>;
    /// Writes the scores of image n, one for each objective. An error concerns this sample only.
    fn score(&self, batch: &Batch, n: usize, scores: &mut [f32]) -> Result<(), Error>;
}

/// The description that the host reads before it loads anything. Text is `c"..."`, since C reads it.
pub struct Info {
    pub name: &'static CStr,
    pub version: &'static CStr,
    pub description: &'static CStr,
    pub license: &'static CStr,
    pub source: &'static CStr,
    pub objectives: &'static [Objective],
    pub options: &'static [OptionInfo],
    pub deterministic: bool,
    /// Most images in one call; 0: any number.
    pub largest_batch: u32,
}

#[repr(transparent)]
pub struct Objective(abi::Objective);

#[allow(dead_code)]
impl Objective {
    pub const fn maximize(name: &'static CStr, description: &'static CStr) -> Self {
        Self::new(name, description, abi::MAXIMIZE)
    }
    pub const fn minimize(name: &'static CStr, description: &'static CStr) -> Self {
        Self::new(name, description, abi::MINIMIZE)
    }
    const fn new(name: &'static CStr, description: &'static CStr, direction: i32) -> Self {
        let struct_size = size_of::<abi::Objective>() as u32;
        Objective(abi::Objective {
            struct_size,
            direction,
            name: name.as_ptr(),
            description: description.as_ptr(),
        })
    }
}

#[repr(transparent)]
pub struct OptionInfo(abi::OptionInfo);

impl OptionInfo {
    pub const fn new(
        key: &'static CStr,
        default: &'static CStr,
        description: &'static CStr,
    ) -> Self {
        OptionInfo(abi::OptionInfo {
            struct_size: size_of::<abi::OptionInfo>() as u32,
            reserved: 0,
            key: key.as_ptr(),
            default_value: default.as_ptr(),
            description: description.as_ptr(),
        })
    }
}

/// An error: one line of text.
pub struct Error {
    pub(crate) status: i32,
    pub(crate) message: String,
}

#[allow(dead_code)]
impl Error {
    /// A wrong setting or image: the user has to change something.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error {
            status: abi::INVALID,
            message: message.into(),
        }
    }
    /// A file or a service that could not be reached.
    pub fn io(message: impl Into<String>) -> Self {
        Error {
            status: abi::IO,
            message: message.into(),
        }
    }
    /// Anything else.
    pub fn internal(message: impl Into<String>) -> Self {
        Error {
            status: abi::INTERNAL,
            message: message.into(),
        }
    }
}

/// The settings that an instance is made from.
pub struct Config<'a>(pub(crate) &'a abi::Config);

#[allow(dead_code)]
impl<'a> Config<'a> {
    /// The value of a declared option, the user's or the default. Panics if the option is not declared.
    pub fn value(&self, key: &str) -> &'a str {
        let text = |pointer| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or("");
        let found = (0..self.0.setting_count as usize)
            .map(|i| unsafe { &*self.0.settings.add(i) })
            .find(|setting| text(setting.key) == key);
        found
            .map(|setting| text(setting.value))
            .unwrap_or_else(|| panic!("the option {key} is not declared"))
    }
    /// All settings as a JSON object.
    pub fn json(&self) -> &'a str {
        unsafe { text(&self.0.json) }
    }
}

/// The samples of a call, valid only during it.
pub struct Batch<'a>(pub(crate) &'a abi::Batch);

#[allow(dead_code)]
impl<'a> Batch<'a> {
    pub fn picture(&self, n: usize) -> Picture<'a> {
        let images = unsafe { &*self.0.images };
        assert!(n < self.0.count as usize, "sample {n} of {}", self.0.count);
        let first = unsafe {
            images
                .data
                .cast::<u8>()
                .offset(n as isize * images.strides[0] as isize)
        };
        Picture {
            images,
            first,
            height: images.height as usize,
            width: images.width as usize,
        }
    }
    /// "" for a model without text.
    pub fn prompt(&self, n: usize) -> &'a str {
        unsafe { text(&self.texts(self.0.prompts)[n]) }
    }
    /// A JSON object.
    pub fn metadata(&self, n: usize) -> &'a str {
        unsafe { text(&self.texts(self.0.metadata)[n]) }
    }
    fn texts(&self, pointer: *const abi::Text) -> &'a [abi::Text] {
        unsafe { slice::from_raw_parts(pointer, self.0.count as usize) }
    }
}

/// One image of a batch.
pub struct Picture<'a> {
    images: &'a abi::Images,
    first: *const u8,
    pub height: usize,
    pub width: usize,
}

impl Picture<'_> {
    /// Red, green and blue of a pixel.
    #[inline]
    pub fn rgb(&self, y: usize, x: usize) -> [u8; 3] {
        assert!(y < self.height && x < self.width);
        let [_, row, column, _] = self.images.strides;
        unsafe {
            *self
                .first
                .offset(y as isize * row as isize + x as isize * column as isize)
                .cast()
        }
    }
}

unsafe fn text(text: &abi::Text) -> &str {
    std::str::from_utf8(slice::from_raw_parts(text.data.cast(), text.size)).unwrap_or("")
}
