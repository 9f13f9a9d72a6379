use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::*;
use crate::Backend;
use crate::request::{LogBuffer, MapCreate, ProgLoad};
use crate::wrap::FaultInjection;

/// Loads programs and BTF and creates maps, or answers the same errno to all that is not plain.
#[derive(Debug)]
struct Stub {
    refuses: Errno,
}

fn file() -> Result<OwnedFd, Errno> {
    Ok(std::fs::File::open("/dev/null").unwrap().into())
}

impl Backend for Stub {
    fn name(&self) -> &str {
        "stub"
    }

    fn map_create(&self, request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
        if request.flags.is_empty() && request.map_type == MapType::ARRAY {
            file()
        } else {
            Err(self.refuses)
        }
    }

    fn prog_load(&self, request: &ProgLoad<'_>, _: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
        if request.name.is_empty() && request.prog_type == ProgType::SOCKET_FILTER {
            file()
        } else {
            Err(self.refuses)
        }
    }
}

#[test]
fn a_refusal_is_a_missing_feature_and_a_missing_right_is_not() {
    let asked = [
        Feature::ProgName,
        Feature::ArrayMmap,
        Feature::MapType(MapType::RINGBUF),
        Feature::ProgType(ProgType::XDP),
    ];
    for errno in [Errno::EINVAL, Errno::E2BIG] {
        let kernel = Kernel::new(Stub { refuses: errno });
        for feature in asked {
            assert_eq!(kernel.has(feature), Probe::Unsupported, "{feature:?}");
        }
    }
    for errno in [Errno::EPERM, Errno::ENOMEM, Errno::EMFILE] {
        let kernel = Kernel::new(Stub { refuses: errno });
        for feature in asked {
            assert!(
                matches!(kernel.has(feature), Probe::Unknown(reason) if reason.errno == errno),
                "{feature:?}"
            );
        }
    }
}

#[test]
fn nothing_is_said_when_the_control_fails_too() {
    let (backend, faults) = FaultInjection::around(Arc::new(Stub { refuses: Errno::EINVAL }));
    let kernel = Kernel::new(backend);
    faults.fail_command("prog_load", 2, Errno::EAGAIN);
    let reason = Inconclusive { trying: "load a program", errno: Errno::EAGAIN };
    assert_eq!(kernel.has(Feature::ProgName), Probe::Unknown(reason));
    assert_eq!(reason.to_string(), "cannot load a program: EAGAIN: try again");
    // That is not remembered; what is said next is.
    assert_eq!(kernel.has(Feature::ProgName), Probe::Unsupported);
    let calls = faults.calls();
    assert_eq!(kernel.clone().has(Feature::ProgName), Probe::Unsupported);
    assert_eq!(faults.calls(), calls);
}

#[test]
fn a_log_tells_a_missing_helper_from_a_wrong_call() {
    #[derive(Debug)]
    struct Says(&'static str);
    impl Backend for Says {
        fn name(&self) -> &str {
            "says"
        }

        fn prog_load(&self, _: &ProgLoad<'_>, log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
            if let Some(log) = log {
                log.bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
            }
            Err(Errno::EINVAL)
        }
    }
    let ask = |text, prog_type| Kernel::new(Says(text)).has(Feature::Helper(prog_type, 500));
    let xdp = ProgType::XDP;
    assert_eq!(ask("0: (85) call unknown#500\ninvalid func unknown#500\n", xdp), Probe::Unsupported);
    assert_eq!(ask("program of this type cannot use helper bpf_x#5\n", xdp), Probe::Unsupported);
    assert_eq!(ask("R1 type=ctx expected=fp\n", xdp), Probe::Supported);
    assert!(matches!(ask("", xdp), Probe::Unknown(_)));
    assert!(matches!(ask("invalid func ", ProgType::TRACING), Probe::Unknown(_)));
}
