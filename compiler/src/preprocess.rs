//! How an image becomes the input of a network: stated once, stored in the profile and the `.qgraph`, used everywhere.

use serde::{Deserialize, Serialize};

/// Order of the colour channels in the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Axis order of the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputLayout {
    /// Batch, channels, height, width.
    #[default]
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// Steps in this order: decode to 8 bits; resize so that the shorter side is `resize`; cut the centre `crop`×`crop`; if the result still
/// differs from the input's size, resize to it (both axes, no aspect kept); order channels; `x = (u8·scale − mean[c]) / std[c]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Axis order.
    pub layout: InputLayout,
    /// Channel order.
    pub order: ChannelOrder,
    /// Multiplies the 8-bit value first.
    pub scale: f32,
    /// Subtracted, per channel in `order`; one entry for all channels or one each. In units after `scale`.
    pub mean: Vec<f32>,
    /// Divided by, per channel in `order`.
    pub std: Vec<f32>,
    /// Length of the shorter side after resizing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<u32>,
    /// Side of the centre square that is cut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            layout: InputLayout::Nchw,
            order: ChannelOrder::Rgb,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            resize: None,
            crop: None,
        }
    }
}

impl Preprocess {
    /// Checks the numbers for an input of `channels` channels: `mean` and `std` have one entry or one per channel, everything is
    /// finite, no `std` is zero, no side is zero. The error says what is wrong, and the cure.
    pub fn validate(&self, channels: usize) -> Result<(), String> {
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() != 1 && list.len() != channels {
                return Err(format!(
                    "{name} has {} entries for {channels} channels: give one, or one per channel",
                    list.len()
                ));
            }
        }
        self.validate_numbers()
    }

    /// What [`Preprocess::validate`] checks that does not depend on the number of channels.
    pub fn validate_numbers(&self) -> Result<(), String> {
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.is_empty() {
                return Err(format!("{name} is empty: give one entry, or one per channel"));
            }
            if let Some(x) = list.iter().find(|x| !x.is_finite()) {
                return Err(format!("{name} contains {x}: give finite numbers"));
            }
        }
        // A subnormal divisor overflows as zero does.
        if let Some(x) = self.std.iter().find(|x| !x.is_normal()) {
            return Err(format!("std contains {x}: it divides, give a number that is not zero"));
        }
        if !self.scale.is_finite() {
            return Err(format!("scale is {}: give a finite number", self.scale));
        }
        for (name, side) in [("resize", self.resize), ("crop", self.crop)] {
            if side == Some(0) {
                return Err(format!("{name} is 0: give the number of pixels, or leave it out"));
            }
        }
        Ok(())
    }

    /// The number the network sees for an 8-bit value of `channel`, counted in the network's channel order:
    /// `(u8·scale − mean[channel]) / std[channel]`, each step rounded to f32.
    pub fn normalize(&self, value: u8, channel: usize) -> f32 {
        (f32::from(value) * self.scale - self.mean_of(channel)) / self.std_of(channel)
    }

    /// What is subtracted in a channel, counted in the network's order.
    pub fn mean_of(&self, channel: usize) -> f32 {
        if self.mean.len() == 1 { self.mean[0] } else { self.mean[channel] }
    }

    /// What a channel is divided by, counted in the network's order.
    pub fn std_of(&self, channel: usize) -> f32 {
        if self.std.len() == 1 { self.std[0] } else { self.std[channel] }
    }

    /// Which channel of a decoded pixel (red, green, blue) becomes `channel` of the network's input.
    pub fn source(&self, channel: usize, channels: usize) -> usize {
        match self.order {
            ChannelOrder::Rgb => channel,
            ChannelOrder::Bgr => channels - 1 - channel,
        }
    }

    /// The network's input, in its layout, of decoded pixels of the input's size: rows of interleaved channels, one image.
    pub fn tensor(&self, pixels: &[u8], channels: usize) -> Vec<f32> {
        let tables = self.tables(channels);
        let value = |pixel: &[u8], c: usize| tables[c][pixel[self.source(c, channels)] as usize];
        let mut out = Vec::with_capacity(pixels.len());
        match self.layout {
            InputLayout::Nchw => {
                (0..channels).for_each(|c| out.extend(pixels.chunks_exact(channels).map(|p| value(p, c))));
            }
            InputLayout::Nhwc => {
                let pixels = pixels.chunks_exact(channels);
                pixels.for_each(|p| out.extend((0..channels).map(|c| value(p, c))));
            }
        }
        out
    }

    /// [`Preprocess::normalize`] of all 256 values, one table per channel.
    pub fn tables(&self, channels: usize) -> Vec<[f32; 256]> {
        let table = |channel| std::array::from_fn(|value| self.normalize(value as u8, channel));
        (0..channels).map(table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_per_channel() {
        let p = Preprocess { scale: 0.5, mean: vec![1.0, 2.0], std: vec![4.0], ..Preprocess::default() };
        assert_eq!(p.validate(2), Ok(()));
        assert_eq!((p.normalize(10, 0), p.normalize(10, 1)), (1.0, 0.75));
        assert_eq!(p.tables(2)[1][10], 0.75);
    }

    #[test]
    fn refuses_bad_numbers() {
        let of = |change: fn(&mut Preprocess)| {
            let mut p = Preprocess::default();
            change(&mut p);
            p.validate(3).unwrap_err()
        };
        assert!(of(|p| p.mean = vec![1.0, 2.0]).contains("mean has 2 entries for 3 channels"));
        assert!(of(|p| p.std = vec![0.0]).contains("not zero"));
        assert!(of(|p| p.std = vec![1e-40]).contains("not zero"));
        assert!(of(|p| p.mean = vec![f32::NAN]).contains("finite"));
        assert!(of(|p| p.scale = f32::INFINITY).contains("finite"));
        assert!(of(|p| p.crop = Some(0)).contains("crop is 0"));
    }
}
