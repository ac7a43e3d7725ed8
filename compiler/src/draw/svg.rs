//! Diagrams as SVG: one file, text that can be searched, a tooltip per box.

use super::layout::{Line, layout};
use super::{Diagram, Kind, Node, STEPS, colour_of_db, escape};
use std::fmt::Write;

/// Width of a character, height of a line of text, in pixels: what browsers take for monospaced text of 11 pixels.
const CHARACTER: f64 = 6.7;
const LEADING: f64 = 14.0;

/// Around the text of a box.
const MARGIN: f64 = 8.0;

/// Longer lines lose their middle.
const LONGEST: usize = 44;

/// Around the line that says what colours mean.
const GAP: f64 = 8.0;

/// Height of the line that says what colours mean.
const LEGEND: f64 = 24.0;

const STYLE: &str = "\
text{font:11px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#222;white-space:pre}\
.op{font-weight:bold}.line{fill:none;stroke:#888;stroke-width:1.2}.box{stroke:#666;stroke-width:.8}";

impl Diagram {
    /// The diagram as an SVG document: boxes from the top down, colours for types, on the left of a box one for its signal-to-noise ratio where
    /// that is known, above all what they mean.
    pub fn svg(&self) -> String {
        let texts: Vec<Vec<String>> =
            self.nodes.iter().map(|n| n.lines.iter().map(|l| cut(l)).collect()).collect();
        let size = |lines: &Vec<String>| {
            let longest = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0);
            [longest as f64 * CHARACTER + 2.0 * MARGIN + 4.0, lines.len() as f64 * LEADING + MARGIN]
        };
        let sizes: Vec<[f64; 2]> = texts.iter().map(size).collect();
        let from: Vec<&[usize]> = self.nodes.iter().map(|n| &n.from[..]).collect();
        let placed = layout(&sizes, &from);
        let legend = draw_legend(&self.legend());
        let (width, height) = (placed.width.max(legend.0), placed.height + LEGEND);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"diagram\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\"><title>{}</title><style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}\n\
             <g transform=\"translate(0 {LEGEND})\">\n",
            escape(&self.title),
            legend.1
        );
        for line in &placed.lines {
            let (from, to) = (placed.centres[line.from], placed.centres[line.to]);
            let start = [from[0], from[1] + sizes[line.from][1] / 2.0];
            let end = [to[0], to[1] - sizes[line.to][1] / 2.0];
            let _ = writeln!(svg, "<path class=\"line\" d=\"{}\"/>", path(line, start, end));
        }
        for ((node, lines), (centre, size)) in
            self.nodes.iter().zip(&texts).zip(placed.centres.iter().zip(&sizes))
        {
            let corner = [centre[0] - size[0] / 2.0, centre[1] - size[1] / 2.0];
            svg += &draw(node, lines, corner, *size);
        }
        svg += "</g>\n</svg>\n";
        svg
    }

    /// What colours mean, of those there are.
    pub fn legend(&self) -> Vec<(&'static str, String)> {
        let kinds = Kind::ALL.into_iter().filter(|k| self.nodes.iter().any(|n| n.kind == *k));
        let mut entries: Vec<(&str, String)> = kinds.map(|k| (k.colour(), k.name().to_string())).collect();
        if self.nodes.iter().any(|n| n.sqnr_db.is_some()) {
            let steps = STEPS.iter().map(|(from, colour)| match from.is_finite() {
                true => (*colour, format!("≥ {from} dB")),
                false => (*colour, "less".to_string()),
            });
            entries.extend(steps);
        }
        entries
    }
}

/// A line that says what colours mean, and its width.
fn draw_legend(entries: &[(&str, String)]) -> (f64, String) {
    let (mut x, mut text) = (GAP, String::new());
    for (colour, what) in entries {
        let _ = write!(
            text,
            "<rect x=\"{x:.1}\" y=\"8\" width=\"12\" height=\"12\" fill=\"{colour}\" class=\"box\"/>\
             <text x=\"{:.1}\" y=\"18\">{what}</text>",
            x + 17.0
        );
        x += 17.0 + (what.chars().count() + 3) as f64 * CHARACTER;
    }
    (x + GAP, text)
}

/// From the bottom of one box down to the top of another: straight through layers, curved between them.
fn path(line: &Line, start: [f64; 2], end: [f64; 2]) -> String {
    let mut text = format!("M{:.1} {:.1}V{:.1}", start[0], start[1], line.bottom);
    let mut at = [start[0], line.bottom];
    let stops = line.through.iter().map(|&(x, [top, bottom])| (x, top, bottom));
    for (x, top, bottom) in stops.chain([(end[0], line.top, end[1])]) {
        let middle = (at[1] + top) / 2.0;
        let _ = write!(text, "C{:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {top:.1}V{bottom:.1}", at[0]);
        at = [x, bottom];
    }
    text
}

fn draw(node: &Node, lines: &[String], [x, y]: [f64; 2], [width, height]: [f64; 2]) -> String {
    let name = escape(&node.name);
    let mut text = format!("<g class=\"node\" data-name=\"{name}\">");
    let details: Vec<String> = std::iter::once(&node.name).chain(&node.details).map(|d| escape(d)).collect();
    let _ = write!(text, "<title>{}</title>", details.join("\n"));
    let colour = node.kind.colour();
    let _ = write!(
        text,
        "<rect class=\"box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" fill=\"{colour}\"/>"
    );
    if let Some(db) = node.sqnr_db {
        let colour = colour_of_db(db);
        let _ = write!(
            text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"6\" height=\"{height:.1}\" rx=\"2\" fill=\"{colour}\"/>"
        );
    }
    for (k, line) in lines.iter().enumerate() {
        let class = if k == 0 { " class=\"op\"" } else { "" };
        let (x, y) = (x + MARGIN + 4.0, y + MARGIN / 2.0 + LEADING * (k as f64 + 0.75));
        let _ = write!(text, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(line));
    }
    text + "</g>\n"
}

/// A line of at most [`LONGEST`] characters.
fn cut(line: &str) -> String {
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= LONGEST {
        return line.to_string();
    }
    let (head, tail) = (LONGEST / 2, LONGEST - LONGEST / 2 - 1);
    let ends = [&characters[..head], &['…'][..], &characters[characters.len() - tail..]];
    ends.concat().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let node = Node {
            name: "</text><script>&\"'\u{7}".into(),
            lines: vec!["x".repeat(100), "<b>".into()],
            details: vec!["a < b".into()],
            kind: Kind::Float,
            sqnr_db: Some(f64::NAN),
            from: vec![],
        };
        let svg = Diagram { title: "<&>".into(), nodes: vec![node] }.svg();
        assert!(!svg.contains("<script") && !svg.contains("<b>") && !svg.contains('\u{7}'), "{svg}");
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;&amp;&quot;&#39;\u{fffd}"), "{svg}");
        assert!(svg.contains(&format!(">{}…{}<", "x".repeat(22), "x".repeat(21))), "{svg}");
    }
}
