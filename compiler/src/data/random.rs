//! Seeded noise: SplitMix64, uniform in (−1, 1). The same numbers on every machine, forever: results that were made from noise can
//! be made again.

use super::{Input, Options, Pick, Sample, Samples, Source};
use crate::error::Result;

/// The seed of `random` samples.
pub const RANDOM_SEED: u64 = 0x5EED_0001_5EED_0001;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in the open interval (−1, 1): one of 2^23 odd multiples of 2^-23, each exact in f32; never 0.
    pub fn uniform(&mut self) -> f32 {
        let k = (self.next_u64() >> 41) as i32;
        (2 * k + 1 - (1 << 23)) as f32 / (1u32 << 23) as f32
    }
}

/// Samples of noise.
pub(super) struct Noise {
    inputs: Vec<Input>,
    count: usize,
}

impl Noise {
    pub(super) fn new(options: &Options) -> Self {
        let count = match options.pick {
            Pick::All => Samples::RANDOM_COUNT,
            Pick::First(n) | Pick::Spread(n) => n,
        };
        Noise { inputs: options.inputs.clone(), count }
    }
}

impl Source for Noise {
    fn len(&self) -> usize {
        self.count
    }

    fn labelled(&self) -> bool {
        false
    }

    fn get(&mut self, index: usize) -> Result<Sample> {
        // A seed of its own for each sample: it does not depend on how many came before, or on their size.
        let seed = Random::new(RANDOM_SEED.wrapping_add(index as u64)).next_u64();
        let mut random = Random::new(seed);
        let inputs =
            self.inputs.iter().map(|i| (0..i.elements()).map(|_| random.uniform()).collect()).collect();
        Ok(Sample { name: format!("random#{index}"), label: None, inputs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's first outputs for seed 1234567.
    #[test]
    fn is_splitmix64() {
        let mut random = Random::new(1234567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn is_uniform_in_the_open_interval() {
        let mut random = Random::new(1);
        let x: Vec<f32> = (0..100_000).map(|_| random.uniform()).collect();
        assert!(x.iter().all(|x| x.abs() < 1.0 && *x != 0.0));
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
    }
}
