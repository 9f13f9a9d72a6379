//! Cookies of TCP's handshake, made and checked for a socket that listens.

use skep::asm::{Cond, Reg, Size};
use skep::sys::Feature;
use skep::sys::abi::{AttachType, Errno, ProgType};
use skep::sys::request::TestRun;

use super::{Host, RELEASE, Script, addresses, errno};
use crate::support::skip;

const LOOKUP: i32 = 99;
const CHECK: i32 = 100;
const GENERATE: i32 = 110;
const ENOENT: u64 = errno(Errno::ENOENT);
const EINVAL: u64 = errno(Errno::EINVAL);

const SYN: u8 = 2;
const ACK: u8 = 16;

/// The header of a segment with flags; the options are the size of segments, or none.
fn segment(flags: u8, seq: u32, ack: u32, size: Option<u16>) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 80];
    header.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    header.extend([if size.is_some() { 6 << 4 } else { 5 << 4 }, flags, 0xff, 0xff, 0, 0, 0, 0]);
    if let Some(size) = size {
        header.extend([2, 4]);
        header.extend(size.to_be_bytes());
    }
    header
}

fn ip_header(version: u8) -> Vec<u8> {
    let mut header = vec![version << 4 | 5];
    header.extend((1..40).map(|at| at * 3));
    header
}

/// What a helper says of two headers for the socket that listens at a port, by a family.
fn ask(host: &dyn Host, helper: i32, port: u16, is_v6: bool, (ip, tcp): (&[u8], &[u8])) -> u64 {
    const IP: i16 = -40;
    const TCP: i16 = -64;
    const TUPLE: i16 = -104;

    let at = addresses(port)[usize::from(is_v6)];
    let mut script = Script::new(host, ProgType::XDP, AttachType(0));
    let mut put = |bytes: &[u8], at: i16| {
        for (word, offset) in bytes.chunks(4).zip((at..).step_by(4)) {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            script.builder.asm().st(Size::W, Reg::R10, offset, i32::from_ne_bytes(padded));
        }
    };
    put(ip, IP);
    put(tcp, TCP);
    // Everything that is looked up with is there, whatever the family.
    let ports = [4000u16.to_be_bytes(), port.to_be_bytes()].concat();
    let (own, len) = match at.ip() {
        std::net::IpAddr::V4(ip) => (ip.octets().to_vec(), 12),
        std::net::IpAddr::V6(ip) => (ip.octets().to_vec(), 36),
    };
    put(&[&own[..], &own, &ports].concat(), TUPLE);
    let asm = script.builder.asm();
    asm.mov64_imm(Reg::R9, 1).mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10);
    asm.add64_imm(Reg::R2, TUPLE.into()).mov64_imm(Reg::R3, len).mov64_imm(Reg::R4, -1);
    asm.mov64_imm(Reg::R5, 0).call_helper(LOOKUP).jmp64_imm(Cond::Eq, Reg::R0, 0, "none");
    asm.mov64_reg(Reg::R7, Reg::R0).mov64_reg(Reg::R1, Reg::R0).mov64_reg(Reg::R2, Reg::R10);
    asm.add64_imm(Reg::R2, IP.into()).mov64_imm(Reg::R3, ip.len() as i32).mov64_reg(Reg::R4, Reg::R10);
    asm.add64_imm(Reg::R4, TCP.into()).mov64_imm(Reg::R5, tcp.len() as i32).call_helper(helper);
    asm.mov64_reg(Reg::R9, Reg::R0).mov64_reg(Reg::R1, Reg::R7).call_helper(RELEASE).label("none");
    script.note(Reg::R9);
    let program = script.end(2);
    let packet = [0; 64];
    let mut run = TestRun::default();
    run.data_in = &packet;
    program.test_run(&mut run).unwrap();
    script.notes::<1>()[0]
}

pub(super) fn cookies(host: &dyn Host) {
    if !host.kernel().has(Feature::Helper(ProgType::XDP, GENERATE.cast_unsigned())).is_supported() {
        return skip("cookies", "this kernel has no helper bpf_tcp_gen_syncookie");
    }
    let port = 7050;
    let _sockets = addresses(port).map(|at| host.socket(true, at, false));
    for (is_v6, sizes) in [(false, [1460, 536]), (true, [1440, 1220])] {
        let whole = ip_header(if is_v6 { 6 } else { 4 });
        let ip = if is_v6 { &whole[..] } else { &whole[..20] };
        let generate = |tcp: &[u8]| ask(host, GENERATE, port, is_v6, (ip, tcp));
        let check = |tcp: &[u8]| ask(host, CHECK, port, is_v6, (ip, tcp));
        let syn = segment(SYN, 1000, 0, Some(1460));

        // While connections are few, there are none.
        host.set("net/ipv4/tcp_syncookies", 1);
        assert_eq!(generate(&syn), ENOENT);
        host.set("net/ipv4/tcp_syncookies", 2);
        for (size, expected) in [(Some(1460), sizes[0]), (None, sizes[1])] {
            let answer = generate(&segment(SYN, 1000, 0, size));
            assert_eq!(answer >> 32, expected, "{answer:#x}");
            let cookie = answer as u32;
            let answered = |seq, ack| check(&segment(ACK, seq, ack, None));
            assert_eq!(answered(1001, cookie.wrapping_add(1)), 0);
            assert_eq!(answered(1001, cookie.wrapping_add(0x9000)), ENOENT);
            assert_eq!(answered(0x8000_0000, cookie.wrapping_add(1)), ENOENT);
        }

        // What begins no connection, and what ends none of them.
        for flags in [ACK, SYN | ACK, SYN | 1, SYN | 4, 0] {
            assert_eq!(generate(&segment(flags, 1000, 0, None)), EINVAL, "{flags:#x}");
        }
        for flags in [SYN, SYN | ACK, ACK | 4, 0] {
            assert_eq!(check(&segment(flags, 1000, 0, None)), ENOENT, "{flags:#x}");
        }
        // Headers that are cut off, of another version or of none.
        assert_eq!(generate(&syn[..20]), EINVAL);
        for ip in [&ip[..16], &ip_header(if is_v6 { 4 } else { 6 })[..ip.len()]] {
            let answers = |helper, tcp: &[u8]| ask(host, helper, port, is_v6, (ip, tcp));
            assert_eq!(answers(GENERATE, &syn), EINVAL, "{ip:?}");
            assert_eq!(answers(CHECK, &segment(ACK, 1, 2, None)), EINVAL, "{ip:?}");
        }
        let other = &ip_header(5)[..ip.len()];
        assert_eq!(ask(host, GENERATE, port, is_v6, (other, &syn)), errno(Errno::EPROTONOSUPPORT));
        // One that is bound to no address takes both versions.
        let (any, at) = if is_v6 { (7051, "[::]:7051") } else { (7052, "0.0.0.0:7052") };
        host.socket(true, at.parse().unwrap(), false);
        let four = ask(host, GENERATE, any, is_v6, (&ip_header(4), &syn));
        assert_eq!(four >> 32, 1460, "{four:#x}");
        // Nobody makes any.
        host.set("net/ipv4/tcp_syncookies", 0);
        assert_eq!(generate(&syn), ENOENT);
        assert_eq!(check(&segment(ACK, 1, 2, None)), EINVAL);
    }
}
