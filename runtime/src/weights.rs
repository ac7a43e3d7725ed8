//! Weights of compiled models: bytes that a program hands over, checked, and copies in large pages.
//!
//! The sum is SHA-256 (FIPS 180-4), as `sha256sum` prints it: it tells a damaged file as well as another one. No crate does it here because
//! there are none.

#[cfg(feature = "std")]
use crate::blob::Bytes;
use core::fmt;
#[cfg(feature = "std")]
use std::sync::OnceLock;

/// What was given is not the file that the model was compiled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongFile {
    /// Another number of bytes.
    Length {
        /// Bytes of the right file.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// Other bytes.
    Content,
}

impl fmt::Display for WrongFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongFile::Length { expected, found } => write!(
                f,
                "weights: the model's file has {expected} bytes, {found} were given: give the one it was compiled from"
            ),
            WrongFile::Content => write!(
                f,
                "weights: the file is damaged, or another than the model was compiled from: its SHA-256 differs"
            ),
        }
    }
}

impl core::error::Error for WrongFile {}

/// Checks a file.
pub fn check(file: &[u8], len: usize, expected: &[u8; 32]) -> Result<(), WrongFile> {
    if file.len() != len {
        return Err(WrongFile::Length { expected: len, found: file.len() });
    }
    if sha256(file) == *expected { Ok(()) } else { Err(WrongFile::Content) }
}

/// A copy of a program's weights in large pages, made when it is first asked for: in the program's file they lie in pages of 4 KiB, of which
/// networks that stream their weights miss so many in the translation cache that they run 6 to 10 % slower.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct Copied(OnceLock<Bytes>);

#[cfg(feature = "std")]
impl Copied {
    /// No copy yet.
    #[must_use]
    pub const fn new() -> Self {
        Copied(OnceLock::new())
    }

    /// The copy, from a multiple of 64 bytes; `weights` are the same in every call.
    pub fn get(&self, weights: &[u8]) -> &[u8] {
        self.0.get_or_init(|| Bytes::from(weights))
    }
}

#[cfg(feature = "std")]
impl Default for Copied {
    fn default() -> Self {
        Copied::new()
    }
}

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The sum.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut state: [u32; 8] =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
    let (whole, rest) = bytes.as_chunks::<64>();
    whole.iter().for_each(|b| block(&mut state, b));
    // A one bit, zeros, and the number of bits: in one more block, or two.
    let mut last = [0u8; 128];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    last[end - 8..end].copy_from_slice(&(8 * bytes.len() as u64).to_be_bytes());
    last[..end].as_chunks::<64>().0.iter().for_each(|b| block(&mut state, b));
    let mut sum = [0; 32];
    for (to, word) in sum.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    sum
}

fn block(state: &mut [u32; 8], bytes: &[u8; 64]) {
    let mut w = [0u32; 64];
    for (w, bytes) in w.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *w = u32::from_be_bytes(*bytes);
    }
    for t in 16..64 {
        let (a, b) = (w[t - 15], w[t - 2]);
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ a >> 3;
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ b >> 10;
        w[t] = w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (k, w) in K.iter().zip(w) {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let one = h.wrapping_add(s1).wrapping_add(e & f ^ !e & g).wrapping_add(*k).wrapping_add(w);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let two = s0.wrapping_add(a & b ^ a & c ^ b & c);
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(one), c, b, a, one.wrapping_add(two));
    }
    for (s, x) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *s = s.wrapping_add(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::{format, vec};

    #[test]
    fn sums_are_those_of_the_standard() {
        let hex = |bytes: &[u8]| sha256(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(hex(two_blocks), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        let million = vec![b'a'; 1_000_000];
        assert_eq!(hex(&million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    #[test]
    #[cfg(feature = "std")]
    fn weights_are_copied_once() {
        let (weights, copied) = (vec![7; 3 << 20], Copied::default());
        let first = copied.get(&weights);
        assert_eq!((first, first.as_ptr() as usize % (2 << 20)), (&weights[..], 0));
        assert_eq!(first.as_ptr(), copied.get(&weights).as_ptr());
    }

    #[test]
    fn another_file_is_refused() {
        let sum = sha256(b"weights");
        assert_eq!(check(b"weights", 7, &sum), Ok(()));
        assert_eq!(check(b"weightS", 7, &sum), Err(WrongFile::Content));
        assert_eq!(check(b"weight", 7, &sum), Err(WrongFile::Length { expected: 7, found: 6 }));
    }
}
