//! Headers of TCP.

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
/// Length of a header without options.
pub(crate) const HEADER: usize = 20;
/// Most bytes of options.
pub(crate) const OPTIONS_MAX: usize = 40;
/// Options that end all, and that say nothing.
const END: u8 = 0;
const NOP: u8 = 1;
/// What a header offers of a window; nothing here is ever full.
const WINDOW: u16 = 65_535;

/// What stands in a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
}

impl Header {
    /// The header with options, which are a multiple of four bytes.
    pub(crate) fn bytes(&self, options: &[u8]) -> Vec<u8> {
        let words = (HEADER + options.len()) / 4;
        let mut bytes = Vec::with_capacity(words * 4);
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        bytes.extend([(words as u8) << 4, self.flags]); // 15 at most
        bytes.extend(WINDOW.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes
    }

    /// The options that a kernel sends by itself: sizes and abilities with the first segment, times with all.
    pub(crate) fn options(&self, mss: u32, now: u32) -> Vec<u8> {
        let mss = u16::try_from(mss).unwrap_or(u16::MAX).to_be_bytes();
        let mut options = Vec::with_capacity(OPTIONS_MAX);
        if self.flags & SYN != 0 {
            options.extend([2, 4, mss[0], mss[1], 4, 2]);
        } else {
            options.extend([NOP, NOP]);
        }
        options.extend([8, 10]);
        options.extend(now.to_be_bytes());
        options.extend([0; 4]);
        if self.flags & SYN != 0 {
            options.extend([NOP, 3, 3, 7]);
        }
        options
    }
}

/// What a search for an option found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It begins there.
    At(usize),
    /// It is not there; whether the options were ended before their end.
    Missing {
        ended: bool,
    },
    Broken,
}

/// Looks for an option by its kind, and by the number that shared kinds begin with.
pub(crate) fn find_option(options: &[u8], kind: u8, magic: &[u8]) -> Found {
    let mut at = 0;
    while let Some(&found) = options.get(at) {
        match found {
            END => return Found::Missing { ended: true },
            NOP => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let len = options.get(at + 1).map_or(0, |len| usize::from(*len));
        let Some(option) = options.get(at..at + len).filter(|_| len >= 2) else { return Found::Broken };
        if found == kind {
            match option.get(2..2 + magic.len()) {
                None => return Found::Missing { ended: false },
                Some(number) if number == magic => return Found::At(at),
                Some(_) => {}
            }
        }
        at += len;
    }
    Found::Missing { ended: false }
}

/// Whether there is an option that a kernel makes nothing of.
pub(crate) fn has_unknown_option(options: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            END => return false,
            NOP => 1,
            _ => options.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        // Sizes, abilities, times, signatures, multipath, fast open.
        if len == 0 || !matches!(kind, NOP | 2..=5 | 8 | 19 | 29 | 30 | 34) {
            return len != 0;
        }
        at += len;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found() {
        let options = [1, 2, 4, 5, 180, 254, 6, 0xeb, 0x9f, 1, 2, 253, 4, 7, 7];
        assert_eq!(find_option(&options, 2, &[]), Found::At(1));
        assert_eq!(find_option(&options, 254, &[0xeb, 0x9f]), Found::At(5));
        assert_eq!(find_option(&options, 254, &[0xeb, 0x90]), Found::Missing { ended: false });
        assert_eq!(find_option(&options, 253, &[7, 7, 7, 7]), Found::Missing { ended: false });
        assert_eq!(find_option(&[0, 2, 4, 0, 0], 2, &[]), Found::Missing { ended: true });
        assert_eq!(find_option(&[5, 9, 0], 2, &[]), Found::Broken);
        assert_eq!(find_option(&[5, 1, 0], 2, &[]), Found::Broken);
        assert!(has_unknown_option(&options));
        assert!(!has_unknown_option(&[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn headers_have_the_length_that_they_say() {
        let header = Header { source: 1, destination: 2, sequence: 3, acknowledged: 4, flags: SYN };
        let options = header.options(1460, 1);
        assert_eq!(options.len(), 20);
        let bytes = header.bytes(&options);
        assert_eq!((bytes.len(), bytes[12] >> 4), (40, 10));
    }
}
