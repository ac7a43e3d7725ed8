//! Short lists on the stack: what a run needs per tensor, without allocating.

use std::array::from_fn;

/// Longest list that is not allocated.
const FEW: usize = 32;

/// Gives `f` the list `item(0), item(1), … item(len - 1)`; `none` fills places that are not used.
pub(crate) fn with_list<T, R>(
    len: usize,
    none: impl Fn() -> T,
    mut item: impl FnMut(usize) -> T,
    f: impl FnOnce(&mut [T]) -> R,
) -> R {
    if len <= FEW {
        let mut list: [T; FEW] = from_fn(|k| if k < len { item(k) } else { none() });
        f(&mut list[..len])
    } else {
        f(&mut (0..len).map(item).collect::<Vec<T>>())
    }
}

#[cfg(test)]
mod tests {
    use super::with_list;

    #[test]
    fn lists_of_any_length() {
        for len in [0, 1, 31, 32, 33, 100] {
            let sum = with_list(len, || 0, |k| k + 1, |list| (list.len(), list.iter().sum::<usize>()));
            assert_eq!(sum, (len, len * (len + 1) / 2));
        }
    }
}
