//! The search for a small set: a prefix of a ranking, and then without what it does not need.

use crate::error::Result;

/// Looks for the fewest of `ranked`, at most `most`, that are enough, where the first ones promise most. `enough` says whether a set is, and
/// keeps it if it is the best. Gives whether any was.
///
/// The first 1, 2, 4, … are tried; then the shortest such row, by bisection; then rows of half, a quarter, … of it are left out where the rest is
/// still enough, the least promising first. What is left is a set of which no single one can be left out.
pub(super) fn fewest(
    ranked: &[usize],
    most: usize,
    enough: &mut dyn FnMut(&[usize]) -> Result<bool>,
) -> Result<bool> {
    let most = most.min(ranked.len());
    let mut short = 0;
    let mut long = loop {
        if short == most {
            return Ok(false);
        }
        let next = (2 * short).clamp(1, most);
        if enough(&ranked[..next])? {
            break next;
        }
        short = next;
    };
    while long - short > 1 {
        let middle = short.midpoint(long);
        *(if enough(&ranked[..middle])? { &mut long } else { &mut short }) = middle;
    }
    let mut kept = ranked[..long].to_vec();
    let mut row = long / 2;
    while row > 0 {
        let mut end = kept.len();
        let mut changed = false;
        while end > 0 {
            let start = end.saturating_sub(row);
            let rest = [&kept[..start], &kept[end..]].concat();
            if !rest.is_empty() && enough(&rest)? {
                kept = rest;
                changed = true;
            }
            end = start;
        }
        // Single ones may be spared once others are gone.
        if row > 1 || !changed {
            row /= 2;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found among 0..20 if `enough` says what is, and how many sets were tried.
    fn found(most: usize, enough: impl Fn(&[usize]) -> bool) -> (Option<Vec<usize>>, usize) {
        let ranked: Vec<usize> = (0..20).collect();
        let (mut least, mut tried): (Option<Vec<usize>>, usize) = (None, 0);
        let met = fewest(&ranked, most, &mut |set| {
            assert!(!set.is_empty() && set.len() <= most);
            tried += 1;
            if enough(set) && least.as_ref().is_none_or(|l| l.len() > set.len()) {
                least = Some(set.to_vec());
            }
            Ok(enough(set))
        });
        assert_eq!(met, Ok(least.is_some()));
        (least, tried)
    }

    #[test]
    fn finds_the_shortest_row() {
        for n in 1..=20 {
            let (set, _) = found(20, |s| s.len() >= n);
            assert_eq!(set.map(|s| s.len()), Some(n));
        }
        assert_eq!(found(20, |s| s.contains(&0)), (Some(vec![0]), 1));
    }

    #[test]
    fn leaves_out_what_is_not_needed() {
        let (set, tried) = found(20, |s| s.contains(&3) && s.contains(&11));
        assert_eq!(set, Some(vec![3, 11]));
        assert!(tried < 40, "{tried}");
    }

    #[test]
    fn stops_at_the_most() {
        assert_eq!(found(4, |s| s.contains(&4)), (None, 3));
        assert_eq!(found(5, |s| s.contains(&4)).0, Some(vec![4]));
        assert_eq!(found(0, |_| true), (None, 0));
        assert_eq!(found(usize::MAX, |_| false), (None, 6));
    }

    #[test]
    fn errors_end_it() {
        let fail = || crate::error::Error::new(crate::error::Stage::Data, "x", "is gone");
        assert_eq!(fewest(&[0], 1, &mut |_| Err(fail())), Err(fail()));
    }
}
