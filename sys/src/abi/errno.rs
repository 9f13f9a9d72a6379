//! Error numbers of the kernel, with their Linux values on every machine.

use std::fmt;

/// An error number as the Linux kernel returns it, positive.
///
/// It is not `std::io::Error`: that type takes the numbers of the machine it runs on, and has no name for the
/// kernel-internal ones that bpf(2) lets through (`ENOTSUPP`, 524).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!($text, " (", stringify!($value), ").")] pub const $name: Errno = Errno($value);)*

            /// The C name, such as `ENOENT`, when it is a known number.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some(stringify!($name)),)* _ => None }
            }

            /// What the number means, in a few words.
            pub fn describe(self) -> &'static str {
                match self.0 { $($value => $text,)* _ => "unknown error" }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such entry";
    ESRCH = 3, "no such process or symbol";
    EINTR = 4, "interrupted";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "too big";
    EBADF = 9, "bad file descriptor";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "exists already";
    EXDEV = 18, "not of the same device or kernel";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in the system";
    EMFILE = 24, "too many open files";
    ENOSPC = 28, "no space left";
    EROFS = 30, "read-only file system";
    EPIPE = 32, "nobody reads there";
    ERANGE = 34, "out of range";
    EDEADLK = 35, "it would wait for itself";
    ENAMETOOLONG = 36, "name too long";
    ENOSYS = 38, "not implemented";
    ENOTEMPTY = 39, "directory not empty";
    ELOOP = 40, "too many levels";
    ENOMSG = 42, "no message of that kind";
    ENODATA = 61, "no data";
    ETIME = 62, "timer expired";
    ENONET = 64, "no such network namespace";
    ENOLINK = 67, "link has been severed";
    EPROTO = 71, "protocol error";
    EBADMSG = 74, "bad message";
    EOVERFLOW = 75, "value too large";
    EBADFD = 77, "file descriptor in bad state";
    ENOTSOCK = 88, "not a socket";
    EPROTOTYPE = 91, "wrong protocol for this socket";
    EPROTONOSUPPORT = 93, "protocol not supported";
    ESOCKTNOSUPPORT = 94, "kind of socket not supported";
    EOPNOTSUPP = 95, "operation not supported";
    EAFNOSUPPORT = 97, "address family not supported";
    EADDRINUSE = 98, "address already in use";
    ENETDOWN = 100, "network is down";
    ENOTCONN = 107, "not connected";
    ETIMEDOUT = 110, "timed out";
    ECONNREFUSED = 111, "connection refused";
    EALREADY = 114, "already in progress";
    ESTALE = 116, "stale handle";
    ENOTSUPP = 524, "not supported by this kernel object";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}: {}", self.describe()),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some numbers that bpf(2) answers are the kernel's own, and the C library knows no text for them.
    #[test]
    fn numbers_have_words() {
        assert_eq!(Errno(524), Errno::ENOTSUPP);
        assert_eq!(Errno::ENOTSUPP.to_string(), "ENOTSUPP: not supported by this kernel object");
        assert_eq!(
            (format!("{:?}", Errno(524)), format!("{:?}", Errno(4000))),
            ("ENOTSUPP".into(), "Errno(4000)".into())
        );
        assert_eq!((Errno(4000).to_string(), Errno(4000).name()), ("errno 4000".into(), None));
    }
}
