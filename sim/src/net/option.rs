//! Options of sockets, with the values that they have before and the rules that Linux has for new ones.

use skep_sys::abi::Errno;

use super::socket::{AF_INET, AF_INET6, Socket};

pub(crate) const SOL_IP: i32 = 0;
pub(crate) const SOL_SOCKET: i32 = 1;
pub(crate) const SOL_TCP: i32 = 6;
pub(crate) const SOL_IPV6: i32 = 41;

/// The kernel knows no such option.
const ENOPROTOOPT: Errno = Errno(92);

const SO_PRIORITY: i32 = 12;
const SO_REUSEPORT: i32 = 15;
const SO_BINDTODEVICE: i32 = 25;
const SO_MARK: i32 = 36;
const SO_BINDTOIFINDEX: i32 = 62;
const TCP_CONGESTION: i32 = 13;
/// Longest name of what controls congestion (`TCP_CA_NAME_MAX`).
const CONGESTION_MAX: usize = 16;
/// Largest buffer that a process may ask for (`net.core.wmem_max`, `rmem_max`).
const BUFFER_MAX: i32 = 4 << 20;
/// The size of one at first (`net.core.wmem_default`, `rmem_default`).
const BUFFER: i32 = 212_992;

/// What a value may be, and what is made of it.
#[derive(Clone, Copy)]
enum Rule {
    /// Any number.
    Any,
    /// 0 or 1: any other number is 1.
    Flag,
    /// A number in bounds, which is refused else.
    Within(i32, i32),
    /// The size of a buffer, of which the kernel makes twice as much, and at least so much.
    Buffer(i32),
    /// At least 1.
    Positive,
    /// It can only be asked for.
    Fixed,
}

/// Options that are numbers of 32 bits: level, name, value at first, rule, and whether programs may use them
/// (`bpf_setsockopt`).
const NUMBERS: &[(i32, i32, i32, Rule, bool)] = &[
    (SOL_SOCKET, 1, 0, Rule::Flag, false),             // SO_DEBUG
    (SOL_SOCKET, 2, 0, Rule::Flag, true),              // SO_REUSEADDR
    (SOL_SOCKET, 3, 0, Rule::Fixed, false),            // SO_TYPE
    (SOL_SOCKET, 4, 0, Rule::Fixed, false),            // SO_ERROR
    (SOL_SOCKET, 5, 0, Rule::Flag, false),             // SO_DONTROUTE
    (SOL_SOCKET, 6, 0, Rule::Flag, false),             // SO_BROADCAST
    (SOL_SOCKET, 7, BUFFER, Rule::Buffer(4608), true), // SO_SNDBUF
    (SOL_SOCKET, 8, BUFFER, Rule::Buffer(2304), true), // SO_RCVBUF
    (SOL_SOCKET, 9, 0, Rule::Flag, true),              // SO_KEEPALIVE
    (SOL_SOCKET, 10, 0, Rule::Flag, false),            // SO_OOBINLINE
    (SOL_SOCKET, SO_PRIORITY, 0, Rule::Any, true),
    (SOL_SOCKET, SO_REUSEPORT, 0, Rule::Flag, true),
    (SOL_SOCKET, 18, 1, Rule::Positive, true), // SO_RCVLOWAT
    (SOL_SOCKET, 30, 0, Rule::Fixed, false),   // SO_ACCEPTCONN
    (SOL_SOCKET, SO_MARK, 0, Rule::Any, true),
    (SOL_SOCKET, 38, 0, Rule::Fixed, false), // SO_PROTOCOL
    (SOL_SOCKET, 39, 0, Rule::Fixed, false), // SO_DOMAIN
    (SOL_SOCKET, 47, -1, Rule::Any, true),   // SO_MAX_PACING_RATE
    (SOL_SOCKET, SO_BINDTOIFINDEX, 0, Rule::Within(0, i32::MAX), true),
    (SOL_SOCKET, 74, 1, Rule::Within(-1, 1), true), // SO_TXREHASH
    (SOL_TCP, 1, 0, Rule::Flag, true),              // TCP_NODELAY
    (SOL_TCP, 2, 536, Rule::Within(88, 32767), true), // TCP_MAXSEG
    (SOL_TCP, 3, 0, Rule::Flag, false),             // TCP_CORK
    (SOL_TCP, 4, 7200, Rule::Within(1, 32767), true), // TCP_KEEPIDLE
    (SOL_TCP, 5, 75, Rule::Within(1, 32767), true), // TCP_KEEPINTVL
    (SOL_TCP, 6, 9, Rule::Within(1, 127), true),    // TCP_KEEPCNT
    (SOL_TCP, 7, 6, Rule::Within(1, 127), true),    // TCP_SYNCNT
    (SOL_TCP, 10, 0, Rule::Any, true),              // TCP_WINDOW_CLAMP
    (SOL_TCP, 12, 1, Rule::Any, false),             // TCP_QUICKACK
    (SOL_TCP, 16, 0, Rule::Within(0, 1), true),     // TCP_THIN_LINEAR_TIMEOUTS
    (SOL_TCP, 18, 0, Rule::Within(0, i32::MAX), true), // TCP_USER_TIMEOUT
    (SOL_TCP, 25, -1, Rule::Any, true),             // TCP_NOTSENT_LOWAT
    (SOL_TCP, 27, 0, Rule::Within(0, 2), true),     // TCP_SAVE_SYN
    (SOL_TCP, 1001, 0, Rule::Positive, true),       // TCP_BPF_IW
    (SOL_TCP, 1002, 0, Rule::Positive, true),       // TCP_BPF_SNDCWND_CLAMP
    (SOL_TCP, 1003, 40, Rule::Positive, true),      // TCP_BPF_DELACK_MAX
    (SOL_TCP, 1004, 200, Rule::Positive, true),     // TCP_BPF_RTO_MIN
    (SOL_IP, 1, 0, Rule::Any, true),                // IP_TOS
    (SOL_IP, 2, 64, Rule::Within(-1, 255), false),  // IP_TTL
    (SOL_IPV6, 26, 0, Rule::Flag, false),           // IPV6_V6ONLY
    (SOL_IPV6, 67, 0, Rule::Within(-1, 255), true), // IPV6_TCLASS
    (SOL_IPV6, 70, 1, Rule::Flag, true),            // IPV6_AUTOFLOWLABEL
];

fn rule(level: i32, name: i32) -> Option<(i32, Rule, bool)> {
    let found = NUMBERS.iter().find(|(of, known, ..)| (*of, *known) == (level, name));
    found.map(|&(_, _, first, rule, for_programs)| (first, rule, for_programs))
}

impl Socket {
    /// Whether it has options of a level.
    fn has_level(&self, level: i32) -> bool {
        match level {
            SOL_SOCKET => true,
            SOL_TCP => self.protocol == 6,
            SOL_IP => matches!(self.family, AF_INET | AF_INET6),
            SOL_IPV6 => self.family == AF_INET6,
            _ => false,
        }
    }

    /// The value of an option (`getsockopt`), in full.
    pub(crate) fn option(&self, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
        let number = |number: u32| Ok(number.to_ne_bytes().to_vec());
        if let Some(value) = self.options.get(&(level, name)) {
            return Ok(value.clone());
        }
        if !self.has_level(level) {
            return Err(ENOPROTOOPT);
        }
        match (level, name) {
            (SOL_SOCKET, 3) => number(self.kind),
            (SOL_SOCKET, 30) => number((self.state == super::LISTEN).into()),
            (SOL_SOCKET, 38) => number(self.protocol),
            (SOL_SOCKET, 39) => number(self.family),
            (SOL_SOCKET, SO_MARK) => number(self.mark),
            (SOL_SOCKET, SO_PRIORITY) => number(self.priority),
            (SOL_SOCKET, SO_BINDTOIFINDEX) => number(self.bound_dev_if),
            (SOL_SOCKET, SO_REUSEPORT) => number(self.reuse_port.into()),
            (SOL_SOCKET, 7) if self.protocol == 6 => number(16384),
            (SOL_SOCKET, 8) if self.protocol == 6 => number(131_072),
            (SOL_SOCKET, SO_BINDTODEVICE) => Ok(Vec::new()),
            (SOL_TCP, TCP_CONGESTION) => {
                let mut value = b"cubic".to_vec();
                value.resize(CONGESTION_MAX, 0);
                Ok(value)
            }
            _ => {
                let (first, ..) = rule(level, name).ok_or(ENOPROTOOPT)?;
                number(first.cast_unsigned())
            }
        }
    }

    /// Sets an option (`setsockopt`), as a process with all rights does.
    pub(crate) fn set_option(&mut self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if !self.has_level(level) {
            return Err(ENOPROTOOPT);
        }
        match (level, name) {
            (SOL_TCP, TCP_CONGESTION) => {
                let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
                let mut kept = value.get(..end.min(CONGESTION_MAX - 1)).unwrap_or_default().to_vec();
                if kept.is_empty() {
                    return Err(if value.is_empty() { Errno::EINVAL } else { Errno::ENOENT });
                }
                kept.resize(CONGESTION_MAX, 0);
                self.options.insert((level, name), kept);
                return Ok(());
            }
            (SOL_SOCKET, SO_BINDTODEVICE) => {
                self.options.insert((level, name), value.to_vec());
                return Ok(());
            }
            _ => {}
        }
        // The kernel looks at the length before it knows the name, except at options of IP, which may be a byte.
        let number = match (level, value) {
            (SOL_IP, [byte]) => i32::from(*byte),
            _ => value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)?,
        };
        let (_, rule, _) = rule(level, name).ok_or(ENOPROTOOPT)?;
        let number = match rule {
            Rule::Any => number,
            Rule::Flag => i32::from(number != 0),
            Rule::Within(least, most) if (least..=most).contains(&number) => number,
            Rule::Within(..) => return Err(Errno::EINVAL),
            Rule::Buffer(least) => number.clamp(0, BUFFER_MAX).saturating_mul(2).max(least),
            Rule::Positive if number < 0 => i32::MAX,
            Rule::Positive => number.max(1),
            Rule::Fixed => return Err(ENOPROTOOPT),
        };
        match (level, name) {
            (SOL_SOCKET, SO_MARK) => self.mark = number.cast_unsigned(),
            (SOL_SOCKET, SO_PRIORITY) => self.priority = number.cast_unsigned(),
            (SOL_SOCKET, SO_BINDTOIFINDEX) => self.bound_dev_if = number.cast_unsigned(),
            (SOL_SOCKET, SO_REUSEPORT) => self.reuse_port = number != 0,
            _ => {
                self.options.insert((level, name), number.to_ne_bytes().to_vec());
            }
        }
        Ok(())
    }

    /// Whether a program may use an option with a value of a length (`sol_socket_sockopt` and its like).
    pub(crate) fn program_option(&self, level: i32, name: i32, len: usize) -> Result<(), Errno> {
        let family = match level {
            SOL_IP => self.family == AF_INET,
            _ => self.has_level(level),
        };
        let fits = match (level, name) {
            (SOL_TCP, TCP_CONGESTION) => len >= 2,
            (SOL_SOCKET, SO_BINDTODEVICE) => true,
            _ => len == 4 && rule(level, name).is_some_and(|(_, _, for_programs)| for_programs),
        };
        if family && fits { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
