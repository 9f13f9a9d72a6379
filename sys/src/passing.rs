//! Descriptors that go from process to process: over Unix sockets, and by the protocol of service managers.
//!
//! Unsafe code is allowed here because descriptors arrive as numbers.

#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::abi::Errno;

/// How many descriptors one message takes (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

/// Sends bytes with descriptors over a Unix socket (`SCM_RIGHTS`). The receiver gets duplicates. Answers how many bytes
/// were sent; the descriptors go with the first.
///
/// # Errors
/// [`Errno::EINVAL`] for more than [`MAX_FDS`] descriptors, or for descriptors without bytes; what the system answers.
pub fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(Errno::EINVAL);
    }
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let bytes = [IoSlice::new(bytes)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::errno::Errno::EINTR) => {}
            sent => return sent.map_err(errno),
        }
    }
}

/// Receives bytes and the descriptors that came with them, closed on exec. No bytes: the other side closed.
///
/// # Errors
/// What the system answers.
pub fn receive_fds(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = cmsg_space!([RawFd; MAX_FDS]);
    let mut bytes = [IoSliceMut::new(bytes)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut control), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            message => break message.map_err(errno)?,
        }
    };
    let mut fds = Vec::new();
    // There is room for as many as a message can have, so nothing is cut.
    for control in message.cmsgs().map_err(errno)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel made these descriptors for this message, so nobody else owns them.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, fds))
}

/// The first descriptor that a service manager passes.
const FIRST: RawFd = 3;

/// Whether they were taken: they are owned once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptors that a service manager passed to this process, with their names (`LISTEN_PID`, `LISTEN_FDS`,
/// `LISTEN_FDNAMES`), empty for one without. They are closed on exec from then on. They can be taken once; later calls, and
/// processes that none were passed to, get none.
///
/// Call it first thing in `main`, and let nothing else read these variables: whoever reads them first owns the
/// descriptors. One that is closed on exec already was not passed, but opened since, and is left alone.
pub fn take_listen_fds() -> Vec<(String, OwnedFd)> {
    let variable = |name| std::env::var(name).ok();
    let (pid, count, names) = (variable("LISTEN_PID"), variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"));
    let listed = listed(std::process::id(), pid.as_deref(), count.as_deref(), names.as_deref());
    if listed.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    listed.into_iter().filter_map(|(name, number)| Some((name, take(number)?))).collect()
}

/// Takes one descriptor that came over exec(2).
fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is looked at only, and a number that is no descriptor is answered with an error.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).ok()?);
    if flags.contains(FdFlag::FD_CLOEXEC) {
        return None;
    }
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open and came over exec(2), named by variables that are for this process: by their protocol whoever
    // reads them owns it, and `TAKEN` lets that be done once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What the variables say: names and numbers. None when they are for another process, or say nonsense.
fn listed(own: u32, pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Vec<(String, RawFd)> {
    let for_us = pid.and_then(|pid| pid.parse().ok()) == Some(own);
    let count =
        count.and_then(|count| count.parse::<RawFd>().ok()).filter(|count| (0..=4096).contains(count));
    let (true, Some(count)) = (for_us, count) else { return Vec::new() };
    let mut names = names.unwrap_or_default().split(':');
    (FIRST..FIRST + count)
        .map(|number| {
            // What systemd says for those that nobody named.
            let name = names.next().filter(|name| *name != "unknown").unwrap_or_default();
            (name.to_owned(), number)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_go_over_a_socket() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let fds = [writer.as_fd(), writer.as_fd()];
        assert_eq!(send_fds(left.as_fd(), b"two", &fds), Ok(3));
        let mut bytes = [0; 8];
        let (len, received) = receive_fds(right.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..len], received.len()), (&b"two"[..], 2));
        drop(writer);
        use std::io::Write;
        for fd in received {
            std::fs::File::from(fd).write_all(b"x").unwrap();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xx");
        drop(left);
        assert!(matches!(receive_fds(right.as_fd(), &mut bytes), Ok((0, fds)) if fds.is_empty()));
        assert_eq!(send_fds(right.as_fd(), b"", &[right.as_fd()]), Err(Errno::EINVAL));
        assert_eq!(send_fds(right.as_fd(), b"x", &vec![right.as_fd(); MAX_FDS + 1]), Err(Errno::EINVAL));
        let (left, right) = UnixStream::pair().unwrap();
        assert_eq!(send_fds(left.as_fd(), b"x", &vec![left.as_fd(); MAX_FDS]), Ok(1));
        assert_eq!(receive_fds(right.as_fd(), &mut bytes).unwrap().1.len(), MAX_FDS);
    }

    #[test]
    fn the_variables_of_a_service_manager() {
        let read = |pid, count, names| listed(7, pid, count, names);
        assert_eq!(
            read(Some("7"), Some("2"), Some("flows:unknown")),
            [("flows".to_owned(), 3), (String::new(), 4)]
        );
        assert_eq!(read(Some("7"), Some("1"), None), [(String::new(), 3)]);
        for (pid, count) in [
            (Some("8"), Some("2")),
            (None, Some("2")),
            (Some("7"), None),
            (Some("7"), Some("-1")),
            (Some("7"), Some("99999")),
            (Some("x"), Some("y")),
        ] {
            assert!(read(pid, count, Some("a:b")).is_empty(), "{pid:?} {count:?}");
        }
    }
}
