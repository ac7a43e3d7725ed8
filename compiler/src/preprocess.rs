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
