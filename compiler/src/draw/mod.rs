//! Pictures as text: a network as a diagram, in SVG or DOT; charts in SVG.
//!
//! In: any graph of the compiler. Out: text of one file that needs no other. What holds: the same graph gives the same bytes. Not here: numbers
//! about a network, which whoever draws writes into the [`Node`]s.
//!
//! - `networks`: diagrams of float and integer graphs.
//! - `layout`: where boxes and lines go: layers from top to bottom.
//! - [`chart`]: bars, histograms, curves.
//! - `svg`, `dot`: the text. [`escape`]: what text in markup needs.

pub mod chart;
mod dot;
mod layout;
mod networks;
mod svg;

/// A network to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagram {
    /// The network's name.
    pub title: String,
    /// Nodes stand behind those that they read.
    pub nodes: Vec<Node>,
}

/// A box.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name of the value that it gives.
    pub name: String,
    /// What is written in it: the operator, then what else there is to say.
    pub lines: Vec<String>,
    /// What is shown when the pointer rests on it.
    pub details: Vec<String>,
    /// Its colour.
    pub kind: Kind,
    /// Signal-to-quantization-noise ratio of its value in dB, if known: the colour of its edge.
    pub sqnr_db: Option<f64>,
    /// Indices of the nodes that it reads, all before its own.
    pub from: Vec<usize>,
}

/// In what a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An input or an output of the network.
    Interface,
    /// Reads and gives, or reads or gives, bytes.
    Int8,
    /// f32.
    Float,
    /// Between bytes and f32.
    Conversion,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Interface, Kind::Int8, Kind::Float, Kind::Conversion];

    fn name(self) -> &'static str {
        match self {
            Kind::Interface => "input, output",
            Kind::Int8 => "int8",
            Kind::Float => "float",
            Kind::Conversion => "conversion",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Kind::Interface => "#e4e4e4",
            Kind::Int8 => "#bfdcf5",
            Kind::Float => "#fbd9b0",
            Kind::Conversion => "#f5f0b4",
        }
    }
}

/// Steps of signal-to-noise ratio: from so many dB on, and the colour.
const STEPS: [(f64, &str); 5] = [
    (40.0, "#1a9850"),
    (30.0, "#91cf60"),
    (20.0, "#fee08b"),
    (10.0, "#fc8d59"),
    (f64::NEG_INFINITY, "#d73027"),
];

/// The colour of a signal-to-noise ratio in dB: green from 40 on, red below 10.
pub fn colour_of_db(db: f64) -> &'static str {
    STEPS.iter().find(|s| db >= s.0).map_or(STEPS[STEPS.len() - 1].1, |s| s.1)
}

/// The end of a name of more characters: there long names differ.
fn tail(name: &str, most: usize) -> String {
    match name.chars().count() {
        count if count <= most => name.to_string(),
        count => format!("…{}", name.chars().skip(count - most + 1).collect::<String>()),
    }
}

/// Text as it stands in HTML and SVG, also between quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
