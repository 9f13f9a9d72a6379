//! Where the token of a load comes from.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use skep_sys::abi::Errno;
use skep_sys::{Kernel, Token};

use super::LoadError;

/// Names the bpffs when the program does not; empty for no token.
const VARIABLE: &str = "LIBBPF_BPF_TOKEN_PATH";

/// What loads do for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing.
    Never,
    /// They take the one of this bpffs if it gives any.
    Optional(PathBuf),
    /// They fail without one of this bpffs.
    Mandatory(PathBuf),
}

impl Wanted {
    /// By what the program said, else the environment, else the default.
    fn choose(said: Option<&Path>, environment: Option<OsString>, default: &str) -> Wanted {
        match said.map(Path::to_owned).or_else(|| environment.map(PathBuf::from)) {
            Some(path) if path.as_os_str().is_empty() => Wanted::Never,
            Some(path) => Wanted::Mandatory(path),
            None => Wanted::Optional(default.into()),
        }
    }
}

/// A token and the bpffs that it is of.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) token: Token,
    pub(super) path: PathBuf,
}

/// The token for a load into `kernel`, if there is one. `said` is the path that the program named.
pub(super) fn find(kernel: &Kernel, said: Option<&Path>) -> Result<Option<Found>, LoadError> {
    let wanted = Wanted::choose(said, env::var_os(VARIABLE), super::pins::DEFAULT_ROOT);
    match wanted {
        Wanted::Never => Ok(None),
        Wanted::Optional(path) => Ok(kernel.token_create(&path).ok().map(|token| Found { token, path })),
        Wanted::Mandatory(path) => match kernel.token_create(&path) {
            Ok(token) => Ok(Some(Found { token, path })),
            Err(source) => Err(LoadError::Token { hint: hint(source), path, source }),
        },
    }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => {
            " (there is no such directory, or the bpffs there was mounted without `delegate_cmds` and the like)"
        }
        Errno::ENOTDIR => " (it is no directory)",
        Errno::EINVAL => {
            " (it is not where a bpffs is mounted, or this kernel knows no tokens, as before Linux 6.9)"
        }
        Errno::EOPNOTSUPP => {
            " (the process is in the first user namespace, where tokens are neither needed nor given)"
        }
        Errno::EPERM => {
            " (the bpffs was mounted for another user namespace than that of this process, or it lacks CAP_BPF in its own)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_before_the_environment() {
        let choose = |said: Option<&str>, environment: Option<&str>| {
            Wanted::choose(said.map(Path::new), environment.map(OsString::from), "/d")
        };
        assert_eq!(choose(None, None), Wanted::Optional("/d".into()));
        assert_eq!(choose(None, Some("")), Wanted::Never);
        assert_eq!(choose(None, Some("/e")), Wanted::Mandatory("/e".into()));
        assert_eq!(choose(Some(""), Some("/e")), Wanted::Never);
        assert_eq!(choose(Some("/s"), Some("")), Wanted::Mandatory("/s".into()));
    }
}
