//! The collector `naive`: the smallest and the largest element of every value, and of every channel.

use super::run::Collector;
use super::{MAX_HEADROOM, Range};
use crate::graph::Graph;
use std::collections::{BTreeMap, HashMap};

/// Nothing seen yet.
const EMPTY: Range = Range { min: f32::INFINITY, max: f32::NEG_INFINITY };

/// What was seen of every value.
pub struct Naive {
    /// Number of channels, and of elements that follow each other in one; of values that have channels (axis 1 of an image).
    channels: HashMap<String, (usize, usize)>,
    seen: BTreeMap<String, Seen>,
}

/// What was seen of one value.
struct Seen {
    all: Range,
    channels: Vec<Range>,
}

impl Naive {
    /// For the values of a graph.
    pub fn new(graph: &Graph) -> Self {
        let of = |v: &crate::graph::Value| match v.shape[..] {
            [_, c, h, w] if c > 1 => Some((v.name.clone(), (c, h * w))),
            _ => None,
        };
        Naive { channels: graph.values.iter().filter_map(of).collect(), seen: BTreeMap::new() }
    }
}

fn widen(range: &mut Range, data: &[f32]) {
    let (mut min, mut max) = (range.min, range.max);
    for &x in data {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
    }
    // −0 would make the result depend on which zero came first.
    *range = Range { min: min + 0.0, max: max + 0.0 };
}

impl Collector for Naive {
    fn mode(&self) -> &'static str {
        "naive"
    }

    fn see(&mut self, name: &str, data: &[f32]) {
        // What stands before an activation has the shape of the value behind it.
        let channels = |name: &str| self.channels.get(name).copied();
        let channels = channels(name).or_else(|| channels(name.strip_suffix("/pre")?));
        let (count, length) = channels.unwrap_or((0, 1));
        if !self.seen.contains_key(name) {
            let seen = Seen { all: EMPTY, channels: vec![EMPTY; count] };
            self.seen.insert(name.to_string(), seen);
        }
        let Some(seen) = self.seen.get_mut(name) else { return };
        if seen.channels.is_empty() {
            widen(&mut seen.all, data);
            return;
        }
        for (k, run) in data.chunks(length.max(1)).enumerate() {
            widen(&mut seen.channels[k % count], run);
        }
        for c in &seen.channels {
            seen.all = Range { min: seen.all.min.min(c.min), max: seen.all.max.max(c.max) };
        }
    }

    fn ranges(&self) -> BTreeMap<String, Range> {
        self.seen.iter().map(|(name, seen)| (name.clone(), seen.all)).collect()
    }

    fn headroom(&self) -> BTreeMap<String, String> {
        let text = |seen: &Seen| {
            let digit = |c: &Range| char::from(b'0' + doublings(seen.all, *c));
            seen.channels.iter().map(digit).collect::<String>()
        };
        let equal = |text: &String| text.bytes().all(|b| b == b'0');
        let all = self.seen.iter().map(|(name, seen)| (name.clone(), text(seen)));
        all.filter(|(_, text)| !equal(text)).collect()
    }
}

/// How often the extent of `channel` can be doubled within that of `all`, both taken with 0.
fn doublings(all: Range, channel: Range) -> u8 {
    let extent = |r: Range| f64::from(r.max.max(0.0)) - f64::from(r.min.min(0.0));
    let fits = |e: &u8| extent(channel) * f64::from(1u16 << e) <= extent(all);
    (1..=MAX_HEADROOM).take_while(fits).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: &[[f32; 6]]) -> Naive {
        let mut graph = Graph::new("g");
        graph.add_input("x", [1, 3, 1, 2]);
        let mut naive = Naive::new(&graph);
        samples.iter().for_each(|s| naive.see("x", s));
        naive
    }

    #[test]
    fn headroom_is_what_every_channel_leaves_free() {
        let a = [-1.0, 8.0, 0.5, 0.9, -0.2, 0.0];
        let naive = after(&[a]);
        // An extent of 9 against 0.9 and 0.2.
        assert_eq!(naive.headroom()["x"], "035");
        assert_eq!(naive.ranges()["x"], Range { min: -1.0, max: 8.0 });
        let b = [0.0, 0.0, 0.0, 1.1, -1.6, 0.0];
        // 9.6 against 1.1 and 1.6.
        assert_eq!(after(&[a, b]).headroom()["x"], "032");
        assert_eq!(after(&[a, b]).headroom(), after(&[b, a]).headroom());
        // Nothing to say of equal channels, nor of a channel that is 0 more than the most.
        assert!(after(&[[1.0; 6]]).headroom().is_empty());
        assert_eq!(after(&[[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]).headroom()["x"], format!("0{MAX_HEADROOM}0"));
    }
}
