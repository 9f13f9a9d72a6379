use skep::sys::abi::{Errno, ProgType};

use super::Arg::{Data, Imm};
use super::{Script, World, errno, has_functions, has_helper};

const GEN: [i32; 2] = [204, 205];
const CHECK: [i32; 2] = [206, 207];

const EINVAL: u64 = errno(Errno::EINVAL);
const EACCES: u64 = errno(Errno::EACCES);

/// Where the headers lie in the data.
const IP: u32 = 0;
const TCP: u32 = 64;

/// The header of a packet from one host to another.
fn ip_header(is_v6: bool) -> Vec<u8> {
    if is_v6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        header.extend((0..32).map(|at| at * 7 + 1));
        return header;
    }
    let mut header = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    header.extend([10, 0, 0, 1, 192, 0, 2, 9]);
    header
}

fn tcp_header(seq: u32, ack: u32, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 80];
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    header.extend([(5 + options.len() as u8 / 4) << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(options);
    header
}

/// Segment sizes that are offered, and what is made of them, with IPv4 and IPv6.
const SIZES: &[(&[u8], [u64; 2])] = &[
    (&[], [536, 1220]),
    (&[2, 4, 5, 0xb4], [1460, 1440]),
    (&[2, 4, 5, 0xa0], [1440, 1440]),
    (&[2, 4, 5, 0x9f], [1300, 1420]),
    (&[2, 4, 0, 1], [536, 1220]),
    (&[2, 4, 0xff, 0xff], [1460, 8940]),
    (&[1, 1, 1, 1, 2, 4, 5, 0x14], [1300, 1220]),
    (&[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 0xb4], [1460, 1440]),
    // Behind the end, and of a length that is none.
    (&[0, 0, 0, 0, 2, 4, 5, 0xb4], [536, 1220]),
    (&[8, 1, 0, 0, 2, 4, 5, 0xb4], [536, 1220]),
    (&[2, 3, 5, 0], [536, 1220]),
];

fn generate(world: &World<'_>, family: usize, header: &[u8], len: usize) -> u64 {
    let mut script = Script::of(world, ProgType::XDP);
    script.data(IP, &ip_header(family == 1));
    script.data(TCP, header);
    script.call(GEN[family], &[Data(IP), Data(TCP), Imm(len as i64)]).note();
    script.exit(0).run_on(&[0; 64])[0]
}

fn check(world: &World<'_>, family: usize, header: &[u8]) -> u64 {
    let mut script = Script::of(world, ProgType::XDP);
    script.data(IP, &ip_header(family == 1));
    script.data(TCP, header);
    script.call(CHECK[family], &[Data(IP), Data(TCP)]).note();
    script.exit(0).run_on(&[0; 64])[0]
}

pub(super) fn cookies(world: &World<'_>) {
    if !has_helper(world, "cookies", GEN[0], ProgType::XDP) {
        return;
    }
    let takes_none = has_functions(world, "cookies of no bytes", &["bpf_iter_num_new"]);
    for family in [0, 1] {
        for (options, sizes) in SIZES {
            let header = tcp_header(1000, 0, options);
            let cookie = generate(world, family, &header, header.len());
            assert_eq!(cookie >> 32, sizes[family], "{options:?}");
            let cookie = cookie as u32;
            let answered = |seq: u32, ack: u32| check(world, family, &tcp_header(seq, ack, &[]));
            assert_eq!(answered(1001, cookie.wrapping_add(1)), 0);
            assert_eq!(answered(1001, cookie.wrapping_add(0x9000)), EACCES);
            assert_eq!(answered(1001, cookie.wrapping_add(1 << 31)), EACCES);
            assert_eq!(answered(0x8000_0000, cookie.wrapping_add(1)), EACCES);
        }
        // The length has to be the one that the header says.
        let header = tcp_header(1, 0, &[2, 4, 5, 0xb4]);
        for (len, is_good) in [(0, false), (20, false), (24, true), (28, false)] {
            // Older verifiers refuse a length of none.
            if len == 0 && !takes_none {
                continue;
            }
            let answer = generate(world, family, &header, len);
            assert_eq!(answer != EINVAL, is_good, "{len}: {answer:#x}");
        }
    }
}
