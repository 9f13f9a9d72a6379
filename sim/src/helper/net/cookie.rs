//! Helpers that make and check the cookies of TCP's handshake, for a socket or from headers alone.
//!
//! The arithmetic is that of the kernel (`net/ipv4/syncookies.c`, `net/ipv6/syncookies.c`). What a kernel rolls the dice for
//! once, the secret of the hash, follows from the seed here.

use skep_sys::abi::Errno;

use super::HelperFn;
use crate::helper::negative;
use crate::net::{AF_INET, AF_INET6, LISTEN};
use crate::vm::{FaultKind, Trap, Vm};
use crate::world::Random;

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (100, check_for),
    (110, generate_for),
    (204, generate_v4),
    (205, generate_v6),
    (206, check_v4),
    (207, check_v6),
];

/// Bytes of a `struct tcphdr`, `struct iphdr` and `struct ipv6hdr` without options.
const TCP_LEN: usize = 20;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Segment sizes that a cookie can say, of IPv4 and of IPv6 (`msstab`).
const SIZES_V4: [u16; 4] = [536, 1300, 1440, 1460];
const SIZES_V6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// Bits of a cookie that hold the index of a size, mixed with a hash (`COOKIEBITS`).
const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;
/// Nanoseconds after which cookies are made with another number (`TCP_SYNCOOKIE_PERIOD`).
const PERIOD: u64 = 60 * 1_000_000_000;
/// Periods that a cookie is good for (`MAX_SYNCOOKIE_AGE`).
const AGE_MAX: u32 = 2;

/// A family, as far as cookies go.
#[derive(Clone, Copy)]
struct Family {
    header: usize,
    /// The segment size of a peer that says none.
    default: u16,
    sizes: &'static [u16; 4],
    /// Tells its secret from that of the other.
    salt: u64,
}

/// `TCP_MSS_DEFAULT`.
const V4: Family = Family { header: IPV4_LEN, default: 536, sizes: &SIZES_V4, salt: 4 };
/// `IPV6_MIN_MTU` less the headers.
const V6: Family = Family { header: IPV6_LEN, default: 1280 - 60, sizes: &SIZES_V6, salt: 6 };

/// What of the headers goes into a cookie.
struct Peers {
    ip: Vec<u8>,
    tcp: Vec<u8>,
}

/// A number of a header.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

impl Peers {
    fn read(vm: &mut Vm, family: Family, ip: u64, tcp: u64) -> Result<Peers, Trap> {
        Ok(Peers { ip: vm.memory.bytes(ip, family.header)?, tcp: vm.memory.bytes(tcp, TCP_LEN)? })
    }

    /// The bytes that the kernel hashes with a count.
    fn hashed(&self, count: u32) -> Vec<u8> {
        let part =
            |bytes: &[u8], range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default().to_vec();
        let ports = part(&self.tcp, 0..4);
        if self.ip.len() == IPV6_LEN {
            return [part(&self.ip, 8..40), count.to_ne_bytes().to_vec(), ports].concat();
        }
        // The kernel shifts the source port, in the order of the network, above the other one.
        let port =
            |at| ports.get(at..).and_then(|b: &[u8]| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b));
        let ports = u32::from(port(0)) << 16 | u32::from(port(2));
        [part(&self.ip, 12..20), ports.to_ne_bytes().to_vec(), count.to_ne_bytes().to_vec()].concat()
    }

    fn hash(&self, secret: &[[u64; 2]; 2], count: u32, which: usize) -> u32 {
        let key = secret.get(which).copied().unwrap_or_default();
        siphash(key, &self.hashed(count)) as u32
    }
}

/// What the kernel rolls for once, for each of its two hashes.
fn secret(vm: &Vm, family: Family) -> [[u64; 2]; 2] {
    let mut random = Random::new(vm.kernel.0.config().seed ^ family.salt << 56 ^ 0x5359_4e43_4f4f_4b49);
    std::array::from_fn(|_| std::array::from_fn(|_| random.next()))
}

/// The number of the period that it is.
fn period(vm: &Vm) -> u32 {
    (vm.kernel.0.now() / PERIOD) as u32
}

/// The segment size among the options of a header, 0 for none (`tcp_parse_mss_option`).
fn segment_size(mut options: &[u8]) -> u16 {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const SIZE: u8 = 2;

    let mut size = 0;
    loop {
        match *options {
            [] | [END, ..] | [_] => return size,
            [NOTHING, ..] => options = options.get(1..).unwrap_or_default(),
            [kind, len, ..] => {
                let len = usize::from(len);
                if len < 2 || len > options.len() {
                    return size;
                }
                if let (SIZE, 4, [_, _, high, low, ..]) = (kind, len, options) {
                    let told = u16::from_be_bytes([*high, *low]);
                    if told != 0 {
                        size = told;
                    }
                }
                options = options.get(len..).unwrap_or_default();
            }
        }
    }
}

fn generate(vm: &mut Vm, family: Family, [ip, tcp, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let peers = Peers::read(vm, family, ip, tcp)?;
    let len = len as u32 as usize;
    let header = vm.memory.bytes(tcp, len)?;
    let told = usize::from(peers.tcp.get(12).copied().unwrap_or_default() >> 4) * 4;
    if len < TCP_LEN || len != told {
        return Ok(negative(Errno::EINVAL));
    }
    let size = segment_size(header.get(TCP_LEN..).unwrap_or_default());
    Ok(peers.cookie(vm, family, size))
}

impl Peers {
    /// The cookie for a peer that offers segments of a size, 0 for none, and in the upper half the size that it says.
    fn cookie(&self, vm: &Vm, family: Family, offered: u16) -> u64 {
        let size = if offered == 0 { family.default } else { offered };
        let index = family.sizes.iter().rposition(|known| size >= *known).unwrap_or(0);
        let (secret, count) = (secret(vm, family), period(vm));
        let data = self.hash(&secret, count, 1).wrapping_add(index as u32) & MASK; // one of four
        let cookie = self
            .hash(&secret, 0, 0)
            .wrapping_add(word(&self.tcp, 4))
            .wrapping_add(count << BITS)
            .wrapping_add(data);
        let size = family.sizes.get(index).copied().unwrap_or_default();
        u64::from(cookie) | u64::from(size) << 32
    }

    /// Whether what is acknowledged is such a cookie, which is not too old.
    fn is_answer(&self, vm: &Vm, family: Family) -> bool {
        let (secret, count) = (secret(vm, family), period(vm));
        // The acknowledgement is of the cookie, and the sequence number is that of the first byte.
        let (cookie, first) = (word(&self.tcp, 8).wrapping_sub(1), word(&self.tcp, 4).wrapping_sub(1));
        let rest = cookie.wrapping_sub(self.hash(&secret, 0, 0)).wrapping_sub(first);
        let age = count.wrapping_sub(rest >> BITS) & (u32::MAX >> BITS);
        let index = if age < AGE_MAX {
            rest.wrapping_sub(self.hash(&secret, count.wrapping_sub(age), 1)) & MASK
        } else {
            u32::MAX
        };
        family.sizes.get(index as usize).is_some()
    }
}

fn check(vm: &mut Vm, family: Family, [ip, tcp, ..]: [u64; 5]) -> Result<u64, Trap> {
    let peers = Peers::read(vm, family, ip, tcp)?;
    Ok(if peers.is_answer(vm, family) { 0 } else { negative(Errno::EACCES) })
}

/// What a socket has to do with a segment that may begin a connection.
struct Asked {
    cookie: u64,
    family: Family,
    peers: Peers,
    /// What options the segment has.
    options: Vec<u8>,
}

/// `net.ipv4.tcp_syncookies`: 0 for never, 1 when connections come faster than they are accepted, 2 for always.
fn mode(vm: &Vm) -> u8 {
    let value = vm.kernel.sysctl("net/ipv4/tcp_syncookies");
    value.and_then(|value| value.first().copied()).map_or(1, |digit| digit.wrapping_sub(b'0'))
}

/// Reads the arguments of a helper that is given a socket and two headers. `off` is the answer where there are no cookies, `judge`
/// that to flags which are none of the helper's.
fn asked(
    vm: &mut Vm,
    [socket, ip, ip_len, tcp, tcp_len]: [u64; 5],
    off: Errno,
    judge: impl FnOnce(u8, usize) -> Result<(), Errno>,
) -> Result<Result<Asked, Errno>, Trap> {
    let Some(cookie) = vm.socket_at(socket) else {
        return Err(FaultKind::NotA { what: "socket", address: socket }.into());
    };
    let (ip, tcp) =
        (vm.memory.bytes(ip, ip_len as u32 as usize)?, vm.memory.bytes(tcp, tcp_len as u32 as usize)?);
    let known = vm.kernel.0.world().net.socket(cookie).cloned();
    let listens = known.filter(|socket| socket.protocol == 6 && socket.state == LISTEN);
    let (Some(socket), Some(&flags)) = (listens, tcp.get(13).filter(|_| tcp.len() >= TCP_LEN)) else {
        return Ok(Err(Errno::EINVAL));
    };
    let told = usize::from(tcp.get(12).copied().unwrap_or_default() >> 4) * 4;
    if mode(vm) == 0 {
        return Ok(Err(off));
    }
    if let Err(errno) = judge(flags, told) {
        return Ok(Err(errno));
    }
    let version = ip.first().filter(|_| ip.len() >= IPV4_LEN).map(|first| first >> 4);
    let (family, takes) = match version {
        None => return Ok(Err(Errno::EINVAL)),
        Some(4) => (V4, socket.family == AF_INET || socket.takes_both()),
        Some(6) => (V6, socket.family == AF_INET6 && ip.len() >= IPV6_LEN),
        Some(_) => return Ok(Err(Errno::EPROTONOSUPPORT)),
    };
    if !takes {
        return Ok(Err(Errno::EINVAL));
    }
    let part = |bytes: &[u8], len: usize| bytes.get(..len).unwrap_or_default().to_vec();
    let peers = Peers { ip: part(&ip, family.header), tcp: part(&tcp, TCP_LEN) };
    let options = tcp.get(TCP_LEN..).unwrap_or_default().to_vec();
    Ok(Ok(Asked { cookie, family, peers, options }))
}

const FIN: u8 = 1;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const ACK: u8 = 1 << 4;

/// `bpf_tcp_gen_syncookie(sk, iph, iph_len, th, th_len)`. How many connections wait at a socket is nothing that a simulated kernel
/// bounds, so there are cookies where there always are.
fn generate_for(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    let len = args[4] as u32 as usize; // of five
    let judge = |flags: u8, told| {
        if len == told && flags & (SYN | ACK | FIN | RST) == SYN { Ok(()) } else { Err(Errno::EINVAL) }
    };
    let asked = match asked(vm, args, Errno::ENOENT, judge)? {
        Ok(asked) => asked,
        Err(errno) => return Ok(negative(errno)),
    };
    if mode(vm) != 2 {
        return Ok(negative(Errno::ENOENT));
    }
    let now = vm.kernel.0.now();
    vm.kernel.0.world().net.stream_mut(asked.cookie).cookies = Some(now);
    Ok(asked.peers.cookie(vm, asked.family, segment_size(&asked.options)))
}

/// `bpf_tcp_check_syncookie(sk, iph, iph_len, th, th_len)`: only of sockets that gave some lately.
fn check_for(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    let judge = |flags: u8, _| {
        if flags & (ACK | RST | SYN) == ACK { Ok(()) } else { Err(Errno::ENOENT) }
    };
    let asked = match asked(vm, args, Errno::EINVAL, judge)? {
        Ok(asked) => asked,
        Err(errno) => return Ok(negative(errno)),
    };
    let given = vm.kernel.0.world().net.stream(asked.cookie).and_then(|stream| stream.cookies);
    let lately = given.is_some_and(|given| vm.kernel.0.now() <= given + u64::from(AGE_MAX) * PERIOD);
    let is_good = lately && asked.peers.is_answer(vm, asked.family);
    Ok(if is_good { 0 } else { negative(Errno::ENOENT) })
}

/// `bpf_tcp_raw_gen_syncookie_ipv4(iph, th, th_len)`.
fn generate_v4(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    generate(vm, V4, args)
}

/// `bpf_tcp_raw_gen_syncookie_ipv6(iph, th, th_len)`.
fn generate_v6(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    generate(vm, V6, args)
}

/// `bpf_tcp_raw_check_syncookie_ipv4(iph, th)`.
fn check_v4(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    check(vm, V4, args)
}

/// `bpf_tcp_raw_check_syncookie_ipv6(iph, th)`.
fn check_v6(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    check(vm, V6, args)
}

/// SipHash-2-4.
fn siphash([k0, k1]: [u64; 2], bytes: &[u8]) -> u64 {
    fn round(v: &mut [u64; 4]) {
        let [a, b, c, d] = v;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut add = |word: u64| {
        v[3] ^= word; // of 4
        round(&mut v);
        round(&mut v);
        v[0] ^= word; // of 4
    };
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        add(word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let rest = words.remainder().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    add(rest | (bytes.len() as u64) << 56);
    v[2] ^= 0xff; // of 4
    for _ in 0..4 {
        round(&mut v);
    }
    v.iter().fold(0, |value, word| value ^ word)
}

#[cfg(test)]
mod tests {
    use super::{segment_size, siphash};

    #[test]
    fn the_hash_is_that_of_its_paper() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &bytes), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn options_that_are_cut_off_end_the_list() {
        assert_eq!(segment_size(&[1, 1, 2, 4, 5, 0xb4]), 1460);
        assert_eq!(segment_size(&[3, 3, 7, 2, 4, 0, 100, 0]), 100);
        assert_eq!(segment_size(&[0, 2, 4, 5, 0xb4]), 0);
        assert_eq!(segment_size(&[2, 4, 5]), 0);
        assert_eq!(segment_size(&[8, 1, 2, 4, 5, 0xb4]), 0);
        assert_eq!(segment_size(&[2, 4, 0, 0]), 0);
        assert_eq!(segment_size(&[2]), 0);
    }
}
