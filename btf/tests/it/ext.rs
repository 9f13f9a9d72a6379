//! `.BTF.ext`.

use skep_asm::Endian;
use skep_btf::{CoreReloKind, ExtInfo, StrOffset, TypeId};

use crate::BOTH;

fn word(endian: Endian, value: u32) -> [u8; 4] {
    match endian {
        Endian::Little => value.to_le_bytes(),
        Endian::Big => value.to_be_bytes(),
    }
}

/// A blob with the given words behind its header, which has the words of `header`.
fn blob(endian: Endian, header: &[u32], words: &[u32]) -> Vec<u8> {
    let mut out = match endian {
        Endian::Little => vec![0x9f, 0xeb, 1, 0],
        Endian::Big => vec![0xeb, 0x9f, 1, 0],
    };
    out.extend(word(endian, 8 + header.len() as u32 * 4));
    out.extend(header.iter().chain(words).flat_map(|&value| word(endian, value)));
    out
}

const FUNC: [u32; 7] = [8, 10, 2, 0, 1, 8, 2];
const LINE: [u32; 7] = [16, 10, 1, 0, 30, 40, 5 << 10 | 3];
const CORE: [u32; 7] = [16, 10, 1, 16, 3, 50, 8];

#[test]
fn all_records_are_read_in_both_byte_orders() {
    for endian in BOTH {
        // Two blocks of functions, one with two records.
        let func = [&FUNC[..], &[20, 1, 64, 7]].concat();
        let words = [&func[..], &LINE, &CORE].concat();
        let bytes = blob(endian, &[0, 44, 44, 28, 72, 28], &words);
        let ext = ExtInfo::parse(bytes).expect("it is right");
        assert_eq!(ext.endian(), endian);
        assert_eq!((ext.func_info().record_size(), ext.func_info().record_count()), (8, 3));
        let found: Vec<_> = ext
            .func_info()
            .blocks()
            .map(|block| {
                let records = block.records().map(|record| (record.info.insn_off, record.info.type_id.0));
                (block.section_name_offset().0, records.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(found, [(10, vec![(0, 1), (8, 2)]), (20, vec![(64, 7)])]);
        let block = ext.line_info().blocks().next().expect("there is one");
        let line = block.records().next().expect("there is one").info;
        assert_eq!((line.insn_off, line.file_off, line.line_off), (0, StrOffset(30), StrOffset(40)));
        assert_eq!((line.line, line.col), (5, 3));
        let block = ext.core_relos().blocks().next().expect("there is one");
        assert_eq!((block.len(), block.record_size()), (1, 16));
        let record = block.records().next().expect("there is one");
        let relo = record.info;
        assert_eq!((relo.insn_off, relo.type_id, relo.access_str_off), (16, TypeId(3), StrOffset(50)));
        assert_eq!((relo.kind, relo.kind.to_string()), (CoreReloKind::TYPE_EXISTS, "type_exists".into()));
        let native: Vec<u8> = [16u32, 3, 50, 8].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(record.to_native(&relo), native);
    }
}

#[test]
fn larger_records_keep_their_tails() {
    let words = [12, 10, 2, 0, 1, 0xaaaa, 8, 2, 0xbbbb];
    let bytes = blob(Endian::NATIVE, &[0, 36, 0, 0], &words);
    let ext = ExtInfo::parse(bytes).expect("it is right");
    let block = ext.func_info().blocks().next().expect("there is one");
    let records: Vec<_> = block.records().collect();
    assert_eq!((records.len(), records[1].raw.len()), (2, 12));
    let mut info = records[1].info;
    info.insn_off = 1;
    let native: Vec<u8> = [1u32, 2, 0xbbbb].iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(records[1].to_native(&info), native);
    // In the other byte order nobody knows what to swap.
    let other = BOTH.into_iter().find(|endian| !endian.is_native()).expect("there are two");
    let said = ExtInfo::parse(blob(other, &[0, 36, 0, 0], &words)).expect_err("it cannot be read");
    assert_eq!(
        said.to_string(),
        "func_info at offset 24: its records are of unknown form in foreign byte order"
    );
}

#[test]
fn short_headers_have_no_relocations_and_long_ones_are_fine() {
    let ext = ExtInfo::parse(blob(Endian::NATIVE, &[0, 28, 0, 0], &FUNC)).expect("24 bytes are enough");
    assert!(ext.core_relos().is_empty() && ext.line_info().is_empty());
    assert_eq!(ext.core_relos().record_count(), 0);
    let long = blob(Endian::NATIVE, &[0, 28, 0, 0, 0, 0, 9, 9, 9], &FUNC);
    assert_eq!(ExtInfo::parse(long).map(|ext| ext.func_info().record_count()), Ok(2));
}

fn refusal(bytes: Vec<u8>) -> String {
    ExtInfo::parse(bytes).map(|_| "parsed".to_owned()).unwrap_or_else(|error| error.to_string())
}

#[test]
fn what_is_wrong_is_refused() {
    let good = || blob(Endian::NATIVE, &[0, 28, 0, 0], &FUNC);
    assert_eq!(refusal(good()), "parsed");
    let set = |at: usize, value: u32| {
        let mut bytes = good();
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        refusal(bytes)
    };
    let set_byte = |at: usize, value: u8| {
        let mut bytes = good();
        bytes[at] = value;
        refusal(bytes)
    };
    for len in 0..8 {
        assert_eq!(
            refusal(good()[..len].to_vec()),
            format!("{len} bytes are too few for a header of 8 bytes")
        );
    }
    assert!(set_byte(0, 0).contains("is not the BTF magic"));
    assert_eq!(set_byte(2, 2), "unsupported version 2");
    assert_eq!(set_byte(3, 1), "unsupported flags 1");
    assert_eq!(set(4, 20), "header length 20 is impossible: it is less than 24");
    assert_eq!(set(4, 53), "header length 53 is impossible: it is more than there are bytes");
    assert_eq!(set(4, 52), "header length 52 is impossible: nothing follows the header");
    assert_eq!(set(8, 2), "func_info at offset 26: it is not 4-byte aligned");
    assert_eq!(set(8, 4), "func_info at offset 28: it runs past the end of the data");
    assert_eq!(set(8, 0xffff_fffc), "func_info at offset 4294967316: it runs past the end of the data");
    assert_eq!(set(12, u32::MAX), "func_info at offset 24: it runs past the end of the data");
    assert_eq!(set(12, 3), "func_info at offset 24: it is too short for a record size");
    assert_eq!(set(12, 4), "func_info at offset 28: it has no records");
    assert_eq!(set(12, 10), "func_info at offset 28: a block's header runs past the end");
    assert_eq!(set(24, 4), "func_info at offset 24: its record size is too small or not a multiple of 4");
    assert_eq!(set(24, 10), "func_info at offset 24: its record size is too small or not a multiple of 4");
    // The largest records there can be: none of them fits, and nothing is set aside for them.
    assert_eq!(set(24, 0xffff_fffc), "func_info at offset 28: a block's records run past the end");
    assert_eq!(set(32, 0), "func_info at offset 28: a block has no records");
    assert_eq!(set(32, 3), "func_info at offset 28: a block's records run past the end");
    assert_eq!(set(32, u32::MAX), "func_info at offset 28: a block's records run past the end");
    let small = |header: &[u32], at: u32| refusal(blob(Endian::NATIVE, header, &[at, 1, 1, 0, 0, 0, 0]));
    assert_eq!(
        small(&[0, 0, 0, 28], 12),
        "line_info at offset 24: its record size is too small or not a multiple of 4"
    );
    assert_eq!(
        small(&[0, 0, 0, 0, 0, 28], 12),
        "core_relo at offset 32: its record size is too small or not a multiple of 4"
    );
}
