//! The profile: what calibration found, as a text file that people read, edit and keep.
//!
//! Holds: equal profiles have equal text; a profile that loads is finite and in order. Not here: whether it covers a graph's values (`quant`).

use super::{Range, failure, graph_hash};
use crate::error::{Error, Problem, Result, Stage};
use crate::graph::Graph;
use crate::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the profile format that is written and read.
pub const PROFILE_VERSION: u32 = 2;

/// What calibration found: a readable, reusable file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format version.
    pub version: u32,
    /// Name of the model.
    pub model: String,
    /// Hash of the fused graph it belongs to.
    pub graph: String,
    /// How the ranges were chosen: `naive`, `entropy`, `percentile 99.99`, `mse`, or the name of a collector.
    pub mode: String,
    /// Number of samples seen.
    pub samples: usize,
    /// How images became inputs, if they were images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Ranges by value name, free to be edited: quantization takes what stands here. Pre-activation values are named `{value}/pre`.
    pub ranges: BTreeMap<String, Range>,
    /// What was seen of the channels of images, and of what layers read, by value name. Optional: without it channels count as equal, no bias
    /// is corrected, and all inputs of a layer count as equally large.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, Channels>,
}

/// What was seen of the channels of a value (of what a dense layer reads, of the elements of the last axis): numbers for each, in the file as
/// one line of text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// Smallest elements.
    #[serde(with = "line")]
    pub min: Vec<f32>,
    /// Largest elements.
    #[serde(with = "line")]
    pub max: Vec<f32>,
    /// Means.
    #[serde(with = "line")]
    pub mean: Vec<f32>,
    /// Roots of the mean squares.
    #[serde(with = "line")]
    pub rms: Vec<f32>,
}

impl Channels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.min.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.min.is_empty()
    }

    /// What is wrong with the numbers, if something is.
    fn problem(&self) -> Option<String> {
        let lists = [&self.min, &self.max, &self.mean, &self.rms];
        if lists.iter().any(|list| list.len() != self.len()) {
            return Some(format!("min, max, mean and rms have {:?} numbers", lists.map(Vec::len)));
        }
        if let Some(x) = lists.into_iter().flatten().find(|x| !x.is_finite()) {
            return Some(format!("{x} is not finite"));
        }
        let c = (0..self.len()).find(|&c| self.min[c] > self.max[c] || self.rms[c] < 0.0)?;
        Some(format!("channel {c}: from {} to {} with rms {}", self.min[c], self.max[c], self.rms[c]))
    }
}

/// Numbers as one line of text: thousands of them would be as many lines of JSON.
mod line {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(numbers: &[f32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(" "))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        let number =
            |word: &str| word.parse().map_err(|_| D::Error::custom(format!("{word:?} is not a number")));
        String::deserialize(d)?.split_whitespace().map(number).collect()
    }
}

impl Profile {
    /// The profile as indented JSON, ranges sorted by name: equal profiles have equal text, and floats read back as they were.
    pub fn to_text(&self) -> String {
        // JSON fails for keys that are no strings only.
        serde_json::to_string_pretty(self).expect("a profile is plain data") + "\n"
    }

    /// Reads what [`Profile::to_text`] wrote, or a person did.
    ///
    /// # Errors
    /// Anything [`Profile::validate`] refuses, an unknown or missing field, an unknown version.
    pub fn from_text(text: &str) -> Result<Profile> {
        /// The version alone: another version may have other fields.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let fail =
            |e: serde_json::Error| failure("", format!("not a profile ({e}): calibrate again to make one"));
        let head: Head = serde_json::from_str(text).map_err(fail)?;
        if head.version != PROFILE_VERSION {
            return Err(failure(
                "",
                format!(
                    "a profile of version {}, this program reads {PROFILE_VERSION}: calibrate again",
                    head.version
                ),
            ));
        }
        let profile: Profile = serde_json::from_str(text).map_err(fail)?;
        profile.validate()?;
        Ok(profile)
    }

    /// Checks what the types do not: the version, at least one sample, every range finite with `min <= max`, the
    /// numbers of channels, the preprocessing's.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut problem =
            |subject: &str, message: String| problems.push(Problem { subject: subject.into(), message });
        if self.version != PROFILE_VERSION {
            problem("version", format!("{} is not {PROFILE_VERSION}: calibrate again", self.version));
        }
        if self.samples == 0 {
            problem("samples", "a profile of no samples says nothing: calibrate again".into());
        }
        if let Some(Err(what)) = self.preprocess.as_ref().map(Preprocess::validate_numbers) {
            problem("preprocess", what);
        }
        for (name, Range { min, max }) in &self.ranges {
            if !(min.is_finite() && max.is_finite() && min <= max) {
                problem(
                    name,
                    format!("the range {min} to {max} is not finite and in order: calibrate again"),
                );
            }
        }
        for (name, channels) in &self.channels {
            if let Some(what) = channels.problem() {
                problem(name, format!("its channels: {what}: calibrate again"));
            }
        }
        Error::all(Stage::Calibrate, problems)
    }

    /// Whether the profile is of `graph`, by [`graph_hash`].
    ///
    /// # Errors
    /// It is of another graph, or of another version of this one.
    pub fn check_graph(&self, graph: &Graph) -> Result<()> {
        if self.graph == graph_hash(graph) {
            return Ok(());
        }
        let message = format!(
            "the profile belongs to another graph (model {}): calibrate this model, for the same rounding",
            self.model
        );
        Err(failure(&graph.name, message))
    }

    /// Writes [`Profile::to_text`] to a file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = std::fs::write(path, self.to_text());
        write.map_err(|e| failure(&path.display().to_string(), format!("cannot be written ({e})")))
    }

    /// Reads a file with [`Profile::from_text`].
    pub fn load(path: &Path) -> Result<Profile> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            failure(&name, format!("cannot be read ({e}): give a profile made by calibration"))
        })?;
        Profile::from_text(&text).map_err(|e| e.in_file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let range = |min, max| Range { min, max };
        Profile {
            version: PROFILE_VERSION,
            model: "m \"quoted\"".into(),
            graph: "00ff".into(),
            mode: "naive".into(),
            samples: 3,
            preprocess: Some(Preprocess { crop: Some(9), ..Preprocess::default() }),
            ranges: BTreeMap::from([
                ("a".into(), range(-1.5, 0.1)),
                ("a/pre".into(), range(f32::MIN, f32::MAX)),
                ("z".into(), range(f32::MIN_POSITIVE, 1.0)),
            ]),
            channels: BTreeMap::from([(
                "a".into(),
                Channels {
                    min: vec![-1.5, 0.0],
                    max: vec![0.1, f32::MAX],
                    mean: vec![-2e-9, 0.3],
                    rms: vec![0.5, 0.7],
                },
            )]),
        }
    }

    #[test]
    fn text_round_trips() {
        let p = profile();
        let text = p.to_text();
        assert_eq!(Profile::from_text(&text).unwrap(), p);
        assert!(text.contains("\"a/pre\": {\n") && text.ends_with("}\n"), "{text}");
        let none = Profile { preprocess: None, ..p };
        assert!(!none.to_text().contains("preprocess"));
        assert_eq!(Profile::from_text(&none.to_text()).unwrap(), none);
    }

    #[test]
    fn floats_round_trip_bit_for_bit() {
        let mut bits = 1u32;
        let mut p = profile();
        for k in 0..2000 {
            bits = bits.wrapping_mul(1664525).wrapping_add(1013904223);
            let x = f32::from_bits(bits);
            if x.is_finite() {
                p.ranges.insert(format!("v{k}"), Range { min: x, max: x });
            }
        }
        let back = Profile::from_text(&p.to_text()).unwrap();
        for (name, range) in &p.ranges {
            assert_eq!(back.ranges[name].min.to_bits(), range.min.to_bits(), "{name}: {}", range.min);
        }
    }

    #[test]
    fn hostile_text_is_an_error() {
        let text = profile().to_text();
        let of = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Profile::from_text(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(of("\"version\": 2", "\"version\": 1").contains("version 1, this program reads 2"));
        assert!(of("\"samples\": 3", "\"samples\": 0").contains("no samples"));
        assert!(of("\"samples\": 3", "\"samples\": -1").contains("not a profile"));
        assert!(of("\"samples\": 3", "\"samples\": 3, \"more\": 1").contains("unknown field"));
        assert!(of("\"max\": 0.1", "\"max\": 0.1, \"mean\": 0").contains("unknown field"));
        assert!(of("\"max\": 0.1", "\"max\": -2").contains("a: the range -1.5 to -2"));
        // Too large for f32: refused by the parser or as an infinite range.
        of("\"max\": 0.1", "\"max\": 1e39");
        of("\"scale\": 1.0", "\"scale\": 1e99");
        assert!(of("\"max\": 0.1", "\"max\": null").contains("not a profile"));
        assert!(of("\"max\": 0.1", "\"max\": NaN").contains("not a profile"));
        assert!(of("\"crop\": 9", "\"crop\": 0").contains("preprocess: crop is 0"));
        assert!(of("\"0.5 0.7", "\"0.5 x").contains("\"x\" is not a number"));
        assert!(
            of("\"0.5 0.7", "\"0.5").contains("a: its channels: min, max, mean and rms have [2, 2, 2, 1]")
        );
        assert!(of("\"0.5 0.7", "\"0.5 inf").contains("a: its channels: inf is not finite"));
        assert!(of("\"0.5 0.7", "\"0.5 -1").contains("a: its channels: channel 1: from 0 to"));
        assert!(of("\"-1.5 0", "\"1 0").contains("a: its channels: channel 0: from 1 to 0.1"));
        for end in 0..text.len() - 2 {
            assert!(Profile::from_text(&text[..end]).is_err());
        }
        assert!(Profile::from_text(&"[".repeat(100_000)).is_err());
    }
}
