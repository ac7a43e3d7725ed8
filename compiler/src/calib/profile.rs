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
pub const PROFILE_VERSION: u32 = 1;

/// Most doublings that [`Profile::headroom`] counts: a channel with more hardly differs from one that is always 0.
pub const MAX_HEADROOM: u8 = 6;

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
    /// One digit for each channel of a value: how often the extent of the channel's own range (with 0) can be doubled within that of the
    /// value's, at most [`MAX_HEADROOM`]. Values whose channels all fill the range are left out. Optional: without it channels count as equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headroom: BTreeMap<String, String>,
    /// Means of the channels of what layers read, for the correction of their biases; of dense layers' operands, of every element of the
    /// last axis. In the file a line of numbers for each value. Optional: without them no bias is corrected.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "lines")]
    pub means: BTreeMap<String, Vec<f32>>,
}

/// Numbers as one line of text: thousands of them would be as many lines of JSON.
mod lines {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::collections::BTreeMap;

    pub(super) fn serialize<S: Serializer>(
        means: &BTreeMap<String, Vec<f32>>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let line = |m: &Vec<f32>| m.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        s.collect_map(means.iter().map(|(name, m)| (name, line(m))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<String, Vec<f32>>, D::Error> {
        let lines = BTreeMap::<String, String>::deserialize(d)?;
        let numbers = |(name, line): (String, String)| {
            let number =
                |word: &str| word.parse().map_err(|_| D::Error::custom(format!("{name}: the mean {word:?}")));
            Ok((name.clone(), line.split_whitespace().map(number).collect::<Result<_, _>>()?))
        };
        lines.into_iter().map(numbers).collect()
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

    /// Checks what the types do not: the version, at least one sample, every range finite with `min <= max`, the preprocessing's numbers.
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
        for (name, digits) in &self.headroom {
            if !digits.bytes().all(|b| (b'0'..=b'0' + MAX_HEADROOM).contains(&b)) {
                problem(
                    name,
                    format!("its headroom {digits:?} is not digits up to {MAX_HEADROOM}: calibrate again"),
                );
            }
        }
        for (name, means) in &self.means {
            if let Some(x) = means.iter().find(|x| !x.is_finite()) {
                problem(name, format!("its mean {x} is not finite: calibrate again"));
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
        let message =
            format!("the profile belongs to another graph (model {}): calibrate this model", self.model);
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
            headroom: BTreeMap::from([("a".into(), "016".into())]),
            means: BTreeMap::from([("a".into(), vec![0.1, -2e-9, f32::MAX])]),
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
        assert!(of("\"version\": 1", "\"version\": 2").contains("version 2, this program reads 1"));
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
        assert!(of("\"016\"", "\"017\"").contains("a: its headroom \"017\""));
        assert!(of("\"016\"", "\"0é\"").contains("headroom"));
        assert!(of("\"0.1 -", "\"0.1 x ").contains("a: the mean \"x\""));
        assert!(of("\"0.1 -", "\"inf ").contains("a: its mean inf is not finite"));
        for end in 0..text.len() - 2 {
            assert!(Profile::from_text(&text[..end]).is_err());
        }
        assert!(Profile::from_text(&"[".repeat(100_000)).is_err());
    }
}
