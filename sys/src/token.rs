use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use crate::probe::{Feature, Probe};

/// The right to use parts of bpf(2), which a privileged process delegated to a user namespace through a bpffs that it
/// mounted there (Linux 6.9).
///
/// Made by [`Kernel::token_create`](crate::Kernel::token_create) and used by
/// [`Kernel::with_token`](crate::Kernel::with_token). Clones are the same token; the last one closes the descriptor.
#[doc(alias = "BPF_TOKEN_CREATE")]
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    fd: OwnedFd,
    /// What a kernel can do depends on what a token allows.
    features: Mutex<BTreeMap<Feature, Probe>>,
}

impl Token {
    /// Takes a token that came from elsewhere, such as over a socket. Whether it is one is seen when it is used.
    pub fn from_fd(fd: OwnedFd) -> Token {
        Token(Arc::new(Inner { fd, features: Mutex::default() }))
    }

    pub(crate) fn features(&self) -> &Mutex<BTreeMap<Feature, Probe>> {
        &self.0.features
    }
}

impl AsFd for Token {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0.fd).finish()
    }
}
