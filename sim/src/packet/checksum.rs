//! The Internet checksum, as the kernel's helpers count it: sums of 16-bit words in the machine's byte order.

/// A sum with carries (`__wsum`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) u32);

impl Sum {
    /// `csum_add`.
    pub(crate) fn plus(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Sum(sum.wrapping_add(carry.into()))
    }

    /// `csum_sub`.
    pub(crate) fn minus(self, other: Sum) -> Sum {
        self.plus(Sum(!other.0))
    }

    /// As a part of a sum that begins at an offset, where odd ones exchange the bytes of words (`csum_shift`).
    pub(crate) fn at(self, offset: usize) -> Sum {
        if offset.is_multiple_of(2) { self } else { Sum(self.0.rotate_right(8)) }
    }

    /// `csum_partial`.
    pub(crate) fn add_bytes(self, bytes: &[u8]) -> Sum {
        let mut sum = self;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            let word = word.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
            sum = sum.plus(Sum(word));
        }
        let mut last = [0; 4];
        if let Some(to) = last.get_mut(..words.remainder().len()) {
            to.copy_from_slice(words.remainder());
        }
        sum.plus(Sum(u32::from_ne_bytes(last)))
    }

    /// The sum in 16 bits (`csum_from32to16`).
    pub(crate) fn folded(self) -> u16 {
        let sum = (self.0 & 0xffff) + (self.0 >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16 // 16 bits after two additions of carries
    }
}

/// The checksum of a sum (`csum_fold`).
pub(crate) fn fold(sum: Sum) -> u16 {
    !sum.folded()
}

/// A checksum after four bytes under it have changed (`csum_replace4`).
pub(crate) fn replace(checksum: u16, from: u32, to: u32) -> u16 {
    fold(Sum(u32::from(!checksum)).minus(Sum(from)).plus(Sum(to)))
}

/// A checksum after two bytes under it have changed (`csum_replace2`).
pub(crate) fn replace16(checksum: u16, from: u16, to: u16) -> u16 {
    let add = |a: u16, b: u16| {
        let (sum, carry) = a.overflowing_add(b);
        sum.wrapping_add(carry.into())
    };
    !add(add(!checksum, !from), to)
}

/// A checksum after a difference of what is under it (`csum_replace_by_diff`).
pub(crate) fn replace_by(checksum: u16, diff: u32) -> u16 {
    fold(Sum(diff).plus(Sum(u32::from(!checksum))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that Linux 6.18 gave.
    #[test]
    fn sums_are_those_of_the_kernel() {
        let from: Vec<u8> = [0x0102_0304_u32, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        let to = 0x7fff_ffff_u64.to_le_bytes();
        let diff =
            |from: &[u8], to: &[u8], seed| Sum(seed).add_bytes(to).minus(Sum(0).add_bytes(from)).folded();
        if cfg!(target_endian = "little") {
            assert_eq!(diff(&from[..4], &to[..4], 0), 31737);
            assert_eq!(diff(&from, &to, 1), 31738);
            assert_eq!(Sum(!0).folded(), 65535);
            assert_eq!(Sum(74565).add_bytes(&to).folded(), 41797);
            assert_eq!(Sum(!Sum(!0).add_bytes(&from).0).folded(), 64505);
        }
    }

    #[test]
    fn a_replaced_checksum_is_that_of_the_new_bytes() {
        let mut header = *b"\x45\0\0\x32\0\0\0\0\x40\x11\0\0\x7f\0\0\x01\x7f\0\0\x01";
        let of = |bytes: &[u8]| fold(Sum(0).add_bytes(bytes));
        let before = of(&header);
        let old = u32::from_ne_bytes(*header[12..].first_chunk().unwrap());
        header[12] = 10;
        let new = u32::from_ne_bytes(*header[12..].first_chunk().unwrap());
        assert_eq!(replace(before, old, new), of(&header));
        let diff = Sum(new).minus(Sum(old)).0;
        assert_eq!(replace_by(before, diff), of(&header));
    }
}
