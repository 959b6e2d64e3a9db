//! How much detail an image has: the entropy of its histogram of grey values, as a share of the largest that it could be.
//!
//! This file is yours to change. The others are the C interface: `reward.rs` has the types used here, `entry.rs` the functions that the host calls,
//! `abi.rs` the structs of `dag_reward.h`.

mod abi;
mod entry;
mod reward;

use reward::{Batch, Config, Error, Info, Objective, OptionInfo, Reward};

struct Detail {
    bins: usize,
}

impl Reward for Detail {
    const INFO: Info = Info {
        name: c"detail",
        version: c"1.0.0",
        description: c"entropy of the histogram of grey values",
        license: c"Apache-2.0",
        source: c"Shannon 1948",
        objectives: &[Objective::maximize(
            c"detail",
            c"0 to 1; a plain picture has 0",
        )],
        options: &[OptionInfo::new(
            c"bins",
            c"64",
            c"bars of the histogram, 2 to 256",
        )],
        deterministic: true,
        largest_batch: 0,
    };

    fn new(config: &Config) -> Result<Self, Error> {
        let text = config.value("bins");
        match text.parse() {
            Ok(bins @ 2..=256) => Ok(Detail { bins }),
            _ => Err(Error::invalid(format!(
                "bins={text} is not a whole number from 2 to 256"
            ))),
        }
    }

    fn score(&self, batch: &Batch, n: usize, scores: &mut [f32]) -> Result<(), Error> {
        let picture = batch.picture(n);
        let mut histogram = vec![0u32; self.bins];
        for y in 0..picture.height {
            for x in 0..picture.width {
                let [red, green, blue] = picture.rgb(y, x).map(usize::from);
                let grey = (299 * red + 587 * green + 114 * blue) / 1000;
                histogram[grey * self.bins / 256] += 1;
            }
        }
        let pixels = (picture.height * picture.width) as f64;
        let shares = histogram
            .iter()
            .filter(|&&count| count > 0)
            .map(|&count| f64::from(count) / pixels);
        let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
        scores[0] = (entropy / (self.bins as f64).log2()) as f32;
        Ok(())
    }
}

export_reward!(Detail);
