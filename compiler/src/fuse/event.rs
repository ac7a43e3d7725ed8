//! What the passes report: one event per rewrite made and per pattern seen but declined.

use std::fmt;

/// What a pass did or declined, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Name of the pass.
    pub pass: &'static str,
    /// The node that was changed or left.
    pub node: String,
    /// What was fused into it, or why not.
    pub message: String,
    /// True if the rewrite was made.
    pub done: bool,
}

/// `fused conv1 [activation]: applies relu`, `declined: conv3 [residual]: %conv3 has a second consumer, pool_4`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.done { "fused" } else { "declined:" };
        write!(f, "{verb} {} [{}]: {}", self.node, self.pass, self.message)
    }
}

/// The text of a whole report: a line of counts, then every fusion in the order in which it was made, then what was declined.
pub fn report(events: &[Event]) -> String {
    let (done, declined): (Vec<&Event>, Vec<&Event>) = events.iter().partition(|e| e.done);
    let counts = |events: &[&Event]| {
        let of = |name| events.iter().filter(|e| e.pass == name).count();
        let counts = super::PASSES.iter().map(|p| (p.name, of(p.name))).filter(|c| c.1 > 0);
        let list: Vec<String> = counts.map(|(name, n)| format!("{name} {n}")).collect();
        if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
    };
    let mut text = format!("{} fused{}, ", done.len(), counts(&done));
    text += &format!("{} declined{}\n", declined.len(), counts(&declined));
    for event in done.into_iter().chain(declined) {
        text += &format!("  {event}\n");
    }
    text
}

/// Reports a rewrite.
pub(super) fn made(events: &mut Vec<Event>, pass: &'static str, node: &str, message: impl Into<String>) {
    events.push(Event { pass, node: node.to_owned(), message: message.into(), done: true });
}

/// Reports a pattern that was seen and left.
pub(super) fn left(events: &mut Vec<Event>, pass: &'static str, node: &str, message: impl Into<String>) {
    events.push(Event { pass, node: node.to_owned(), message: message.into(), done: false });
}
