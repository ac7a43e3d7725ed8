//! Names, numbers, sums and bytes as tokens.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;
use std::collections::BTreeSet;
use std::fmt::Write;

/// An integer without a suffix.
pub(super) fn number(n: usize) -> Literal {
    Literal::usize_unsuffixed(n)
}

/// A line of documentation; names from a model may hold anything.
pub(super) fn line(text: &str) -> String {
    format!(" {}", text.replace(char::is_control, "?"))
}

/// A source with a blank line between items: in the file, in its modules and implementations. (Texts of assembly have no such lines.)
pub(super) fn spaced(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + source.len() / 64);
    let (mut before, mut documented) = ("", false);
    for line in source.lines() {
        let text = line.trim_start();
        let documents = text.starts_with("///");
        let begins = documents && !documented && !before.ends_with(['{', ',']);
        let follows = matches!(before, "}" | "};" | "    }") && !text.starts_with('}');
        if line.len() - text.len() <= 4 && !before.is_empty() && (begins || follows) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        (before, documented) = (line, documents);
    }
    out
}

/// A text with all but letters, digits and `_` replaced.
fn clean(text: &str) -> String {
    let mut name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || matches!(&name[..], "" | "_") {
        name.insert(0, '_');
    }
    name
}

/// Whether this is an identifier as it is.
fn is_name(text: &str) -> bool {
    syn::parse_str::<Ident>(text).is_ok()
}

/// Whether a type can be called so.
pub(super) fn is_type_name(text: &str) -> bool {
    clean(text) == text && is_name(text)
}

/// Identifiers of one scope, all different.
#[derive(Clone, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A scope in which these are taken.
    pub(super) fn without<'a>(taken: impl IntoIterator<Item = &'a str>) -> Names {
        Names(taken.into_iter().map(String::from).collect())
    }

    /// An identifier like `text`: with `mark` behind it as often as it takes to be one, and a new one.
    pub(super) fn name(&mut self, text: &str, mark: &str) -> Ident {
        let mut name = clean(text);
        while self.0.contains(&name) || !is_name(&name) {
            name.push_str(mark);
        }
        self.0.insert(name.clone());
        Ident::new(&name, Span::call_site())
    }
}

/// `base + Σ coefficient · variable` as an expression of `usize`; it must never be below 0. What is subtracted comes last, so that no part of
/// the sum is below 0 either.
pub(super) fn sum(base: i64, terms: &[(Ident, i64)]) -> TokenStream {
    let mut parts: Vec<(bool, TokenStream)> = Vec::new();
    let term = |name: &Ident, c: u64| match c {
        1 => quote!(#name),
        c => {
            let c = Literal::u64_unsuffixed(c);
            quote!(#c * #name)
        }
    };
    let constant = Literal::u64_unsuffixed(base.unsigned_abs());
    parts.extend(terms.iter().filter(|t| t.1 > 0).map(|t| (true, term(&t.0, t.1.unsigned_abs()))));
    if base > 0 || (base == 0 && parts.is_empty()) {
        parts.push((true, quote!(#constant)));
    }
    parts.extend(terms.iter().filter(|t| t.1 < 0).map(|t| (false, term(&t.0, t.1.unsigned_abs()))));
    if base < 0 {
        parts.push((false, quote!(#constant)));
    }
    let mut out = TokenStream::new();
    for (k, (plus, part)) in parts.into_iter().enumerate() {
        out.extend(match (k, plus) {
            (0, _) => part,
            (_, true) => quote!(+ #part),
            (_, false) => quote!(- #part),
        });
    }
    out
}

/// `pointer` moved by so many bytes, which may be below 0.
pub(super) fn moved(pointer: TokenStream, by: i64) -> TokenStream {
    let bytes = Literal::u64_unsuffixed(by.unsigned_abs());
    match by {
        0 => pointer,
        1.. => quote!(#pointer.wrapping_add(#bytes)),
        _ => quote!(#pointer.wrapping_sub(#bytes)),
    }
}

/// A literal of bytes, 32 a line.
pub(super) fn bytes(data: &[u8]) -> Literal {
    let mut text = String::with_capacity(4 * data.len() + 3);
    text.push_str("b\"");
    for (k, &b) in data.iter().enumerate() {
        if k % 32 == 0 {
            // A backslash at the end of a line takes the line's end and the spaces behind it out of the literal.
            text.push_str("\\\n");
        }
        match b {
            0 => text.push_str("\\0"),
            b'\\' | b'"' => text.extend(['\\', char::from(b)]),
            // A space could stand at the beginning of a line.
            0x21..=0x7e => text.push(char::from(b)),
            _ => write!(text, "\\x{b:02x}").expect("writing to a String"),
        }
    }
    text.push('"');
    text.parse().expect("a literal of bytes")
}

/// A literal of text, whose lines stay lines.
pub(super) fn literal(text: &str) -> Literal {
    let text = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    text.parse().expect("a literal of text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_never_below_zero_on_the_way() {
        let [i, j] = ["i", "j"].map(|n| Ident::new(n, Span::call_site()));
        let text = |base, terms: &[(Ident, i64)]| sum(base, terms).to_string();
        assert_eq!(text(0, &[]), "0");
        assert_eq!(text(7, &[]), "7");
        assert_eq!(text(-2, &[(i.clone(), -4), (j.clone(), 1)]), "j - 4 * i - 2");
        assert_eq!(text(5, &[(i.clone(), 16), (j.clone(), -1)]), "16 * i + 5 - j");
        assert_eq!(text(0, &[(i, 1)]), "i");
        assert_eq!(moved(quote!(x), -3).to_string(), "x . wrapping_sub (3)");
    }

    #[test]
    fn names_are_identifiers_and_differ() {
        let mut names = Names::without(["load"]);
        let all = ["x", "x", "load", "a b", "7x", "fn", "_", ""].map(|n| names.name(n, "v").to_string());
        assert_eq!(all, ["x", "xv", "loadv", "a_b", "_7x", "fnv", "__", "_v"].map(String::from));
        for (name, fits) in
            [("Net", true), ("a1", true), ("1a", false), ("a b", false), ("fn", false), ("", false)]
        {
            assert_eq!(is_type_name(name), fits, "{name}");
        }
    }

    #[test]
    fn literals_hold_all_bytes() {
        let all: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
        let literal: syn::LitByteStr = syn::parse2(quote::ToTokens::to_token_stream(&bytes(&all))).unwrap();
        assert_eq!(literal.value(), all);
    }
}
