//! Entropy-coded data: bits with stuffed zeros, Huffman codes, one block of coefficients at a time.

use super::Refusal::Corrupt;
use super::{Result, ZIGZAG};

/// A code table: for every 16 bits that may come, the length of the code they start with and its symbol. Length 0: no code.
pub(super) struct Huffman(Vec<(u8, u8)>);

impl Huffman {
    /// The canonical code of `counts[k]` symbols of k + 1 bits. `None` if there are more codes than fit.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Option<Huffman> {
        let mut table = Vec::with_capacity(1 << 16);
        let mut symbols = symbols.iter();
        for (length, &count) in (1u8..).zip(counts) {
            for &symbol in symbols.by_ref().take(count.into()) {
                table.extend(std::iter::repeat_n((length, symbol), 1 << (16 - length)));
            }
            if table.len() > 1 << 16 {
                return None;
            }
        }
        table.resize(1 << 16, (0, 0));
        Some(Huffman(table))
    }
}

/// Bits of a scan.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Bits read ahead, left-aligned; zeros follow them.
    ahead: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Bits { data, ahead: 0, count: 0 }
    }

    /// What follows the bytes read; up to 7 bytes of the scan may already be gone.
    pub(super) fn rest(self) -> &'a [u8] {
        self.data
    }

    /// Reads ahead up to a marker or the end.
    fn fill(&mut self) {
        while self.count <= 56 {
            let (byte, taken) = match *self.data {
                [0xFF, 0, ..] => (0xFF, 2),
                [0xFF, ..] | [] => return,
                [byte, ..] => (byte, 1),
            };
            self.data = &self.data[taken..];
            self.ahead |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn skip(&mut self, bits: u32) -> Result<()> {
        if bits > self.count {
            return Err(Corrupt("the data is cut off"));
        }
        self.ahead <<= bits;
        self.count -= bits;
        Ok(())
    }

    fn symbol(&mut self, code: &Huffman) -> Result<u8> {
        self.fill();
        let (length, symbol) = code.0[(self.ahead >> 48) as usize];
        if length == 0 {
            return Err(Corrupt("bits that are no code"));
        }
        self.skip(length.into())?;
        Ok(symbol)
    }

    /// A number of `size` bits (at most 15) whose upper half is positive and lower half negative.
    fn number(&mut self, size: u8) -> Result<i32> {
        if size == 0 {
            return Ok(0);
        }
        self.fill();
        let bits = (self.ahead >> (64 - u32::from(size))) as i32;
        self.skip(size.into())?;
        Ok(if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits })
    }

    /// The next block, dequantized, in rows.
    pub(super) fn block(
        &mut self,
        dc: &Huffman,
        ac: &Huffman,
        last_dc: &mut i32,
        quantizer: &[u16; 64],
    ) -> Result<[i32; 64]> {
        let mut block = [0; 64];
        let size = self.symbol(dc)?;
        if size > 15 {
            return Err(Corrupt("a coefficient of more than 15 bits"));
        }
        // Hostile data may add up without end; real sums are of 12 bits. The product with 16 bits fits i32.
        *last_dc = (*last_dc + self.number(size)?).clamp(-(1 << 14), 1 << 14);
        block[0] = *last_dc * i32::from(quantizer[0]);
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += zeros;
                    let value = self.number(size)?;
                    let Some(&natural) = ZIGZAG.get(k) else {
                        return Err(Corrupt("a block of more than 64 coefficients"));
                    };
                    let natural = usize::from(natural);
                    block[natural] = value * i32::from(quantizer[natural]);
                    k += 1;
                }
            }
        }
        Ok(block)
    }

    /// Passes the restart marker that must be next.
    pub(super) fn restart(&mut self) -> Result<()> {
        (self.ahead, self.count) = (0, 0);
        while self.data.starts_with(&[0xFF, 0xFF]) {
            self.data = &self.data[1..];
        }
        match *self.data {
            [0xFF, 0xD0..=0xD7, ref rest @ ..] => {
                self.data = rest;
                Ok(())
            }
            _ => Err(Corrupt("a restart marker is missing")),
        }
    }
}
