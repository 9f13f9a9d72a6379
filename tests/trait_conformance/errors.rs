//! Whoever implements a trait can give every error.

use skep::map::{MapError, MapErrorKind, MapLabel, MapOperation};
use skep::sys::abi::{Errno, MapType};

#[test]
fn errors_of_every_kind_can_be_made() {
    use MapErrorKind as K;

    let refused = |errno| MapError::refused("m", MapOperation::Update, errno);
    let map: MapLabel = "m".into();
    let errors = [
        (K::NotFound, refused(Errno::ENOENT)),
        (K::Exists, refused(Errno::EEXIST)),
        (K::Full, refused(Errno::E2BIG)),
        (K::Busy, refused(Errno::EBUSY)),
        (K::Denied, refused(Errno::EPERM)),
        (K::NoMemory, refused(Errno::ENOMEM)),
        (K::Unsupported, refused(Errno::ENOTSUPP)),
        (K::Invalid, refused(Errno::EINVAL)),
        (K::Other, refused(Errno::EIO)),
        (K::Length, MapError::WrongCpuCount { map: map.clone(), asked: 1, there: 2 }),
        (K::Other, MapError::events("m", std::io::Error::other("torn"))),
        (K::Length, MapError::WrongEventSize { map: map.clone(), asked: 8, there: 4 }),
        (
            K::Mismatch,
            MapError::WrongType {
                map: map.clone(),
                view: "HashMap",
                asked: &[MapType::HASH],
                there: MapType::ARRAY,
            },
        ),
        (K::Mismatch, MapError::WrongKeySize { map: map.clone(), asked: 1, there: 2 }),
        (K::Mismatch, MapError::WrongValueSize { map: map.clone(), asked: 1, there: 2 }),
        (K::IterationAborted, MapError::IterationAborted { map, seen: 3 }),
    ];
    for (kind, error) in errors {
        assert_eq!((error.kind(), error.map()), (kind, "m"), "{error}");
    }
    let error = MapError::refused("/sys/fs/bpf/m", MapOperation::Open, Errno::ENOENT);
    assert_eq!(error.to_string(), "cannot open map `/sys/fs/bpf/m`: there is none");
    assert_eq!(error.errno(), Some(Errno::ENOENT));
}
