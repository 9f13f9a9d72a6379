//! `.BTF.ext`: what parsing lets through can be walked to its end.

use skep::btf::{Btf, ExtInfo, ExtRecord, ExtSection};

/// The iterators agree with the counts, and no record reaches out of the section.
pub fn ext_info(data: &[u8]) {
    let Ok(info) = ExtInfo::parse(data.to_vec()) else { return };
    assert_eq!(info.bytes().as_ref(), data);
    let records = walk(info.func_info(), data) + walk(info.line_info(), data) + walk(info.core_relos(), data);
    assert!(records <= 3 * data.len() / 8);
    for record in info.core_relos().blocks().flat_map(|block| block.records()) {
        assert!(!record.info.kind.to_string().is_empty());
    }
}

fn walk<R: ExtRecord>(section: ExtSection<'_, R>, data: &[u8]) -> usize {
    // Strings are looked up in BTF that may not have them.
    let btf = Btf::parse(EMPTY).expect("an empty BTF");
    let mut count = 0;
    let mut bytes = 0;
    for block in section.blocks() {
        assert_eq!(block.records().len(), block.len());
        assert!(!block.is_empty());
        assert_eq!(block.section_name(&btf).is_ok(), block.section_name_offset().0 == 0);
        let mut here = 0;
        for record in block.records() {
            assert_eq!(record.raw.len(), block.record_size() as usize);
            assert!(record.raw.len() >= R::SIZE as usize);
            assert_eq!(record.to_native(&record.info).len(), record.raw.len());
            here += 1;
            bytes += record.raw.len();
        }
        assert_eq!(here, block.len());
        count += here;
    }
    assert_eq!(count, section.record_count());
    assert_eq!(section.is_empty(), count == 0);
    assert!(bytes <= data.len());
    count
}

/// A header, no types, the empty string.
const EMPTY: &[u8] = &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
