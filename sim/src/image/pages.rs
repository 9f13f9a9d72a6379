//! Memory by pages, of the kernel or of one process.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const PAGE: usize = 4096;

/// The pages that there are. A clone shares them until one of the two writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages(BTreeMap<u64, Arc<[u8; PAGE]>>);

/// The page that an address lies in, and the place inside of it.
fn split(address: u64) -> (u64, usize) {
    (address / PAGE as u64, (address % PAGE as u64) as usize)
}

impl Pages {
    /// Makes sure that the pages of a range are there.
    pub(crate) fn map(&mut self, address: u64, len: usize) {
        let (first, _) = split(address);
        let (last, _) = split(address.saturating_add((len as u64).saturating_sub(1)));
        for page in first..=last {
            self.0.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
        }
    }

    /// Reads bytes. `None` when not all of them are there; what was there is read then.
    pub(crate) fn read(&self, address: u64, to: &mut [u8]) -> Option<()> {
        let mut done = 0;
        while done < to.len() {
            let (page, skip) = split(address.checked_add(done as u64)?);
            let bytes = self.0.get(&page)?.get(skip..)?;
            let count = bytes.len().min(to.len() - done);
            to.get_mut(done..done + count)?.copy_from_slice(bytes.get(..count)?);
            done += count;
        }
        Some(())
    }

    /// Writes bytes where pages are. `None`, and nothing is written, when not all of them are there.
    pub(crate) fn write(&mut self, address: u64, from: &[u8]) -> Option<()> {
        let (first, _) = split(address);
        let (last, _) = split(address.checked_add((from.len() as u64).saturating_sub(1))?);
        if !(first..=last).all(|page| self.0.contains_key(&page)) {
            return None;
        }
        let mut done = 0;
        while done < from.len() {
            let (page, skip) = split(address.checked_add(done as u64)?);
            let bytes = Arc::make_mut(self.0.get_mut(&page)?).get_mut(skip..)?;
            let count = bytes.len().min(from.len() - done);
            bytes.get_mut(..count)?.copy_from_slice(from.get(done..done + count)?);
            done += count;
        }
        Some(())
    }

    /// Copies a string up to its NUL or until `to` is full. Answers its length with the NUL, the whole of `to` for one
    /// that was cut; none when it leads to where nothing is.
    pub(crate) fn string(&self, address: u64, to: &mut [u8]) -> Option<usize> {
        let max = to.len();
        let mut done = 0;
        while done < max {
            let (page, skip) = split(address.checked_add(done as u64)?);
            let bytes = self.0.get(&page)?.get(skip..)?;
            let count = bytes.len().min(max - done);
            let bytes = bytes.get(..count)?;
            let end = bytes.iter().position(|byte| *byte == 0);
            let taken = end.map_or(count, |end| end + 1);
            to.get_mut(done..done + taken)?.copy_from_slice(bytes.get(..taken)?);
            done += taken;
            if end.is_some() {
                return Some(done);
            }
        }
        if let Some(last) = to.last_mut() {
            *last = 0;
        }
        Some(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_pages_and_end_where_nothing_is() {
        let mut pages = Pages::default();
        assert_eq!(pages.write(0x1ffe, b"abcd"), None);
        pages.map(0x1ffe, 4);
        assert_eq!(pages.write(0x1ffe, b"abcd"), Some(()));
        let mut four = [0; 4];
        assert_eq!(pages.read(0x1ffe, &mut four), Some(()));
        assert_eq!(&four, b"abcd");
        assert_eq!(pages.read(0x2ffe, &mut four), None);
        assert_eq!(pages.read(u64::MAX - 1, &mut four), None);
    }

    #[test]
    fn strings_are_cut_and_told_with_their_end() {
        let mut pages = Pages::default();
        pages.map(0x1000, PAGE);
        let text = [b'x'; 6];
        assert_eq!(pages.write(0x1ffa, &text), Some(()));
        let mut to = [0xff; 4];
        assert_eq!(pages.string(0x1ffa, &mut to), Some(4));
        assert_eq!(&to, b"xxx\0");
        // It leaves the page before its end.
        assert_eq!(pages.string(0x1ffa, &mut [0; 8]), None);
        pages.map(0x2000, 1);
        let mut to = [0xff; 8];
        assert_eq!(pages.string(0x1ffa, &mut to), Some(7));
        assert_eq!(&to, b"xxxxxx\0\xff");
        assert_eq!(pages.string(0x1000, &mut []), Some(0));
    }
}
