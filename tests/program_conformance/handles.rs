use std::io::{ErrorKind as IoKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use skep::asm::{Reg, Size};
use skep::program::{self, Program, ProgramBuilder};
use skep::sys::abi::{Errno, MapType, ProgId, ProgType, StreamId};
use skep::sys::{Feature, Kernel, LoadedProgram};
use skep::{Error, ErrorKind};

use crate::support::pin_path;
use crate::support::time::eventually;

use super::{map, returning, skip};

pub(super) fn handles(kernel: &Kernel) {
    let program = returning(kernel, "handles", 5);
    let id = program.info().unwrap().id;
    let id_of = |program: &Program| program.info().unwrap().id;

    let opened = Program::by_id(kernel, id).unwrap();
    assert_eq!((opened.name(), opened.prog_type(), id_of(&opened)), ("handles", ProgType::SOCKET_FILTER, id));
    assert_eq!((opened.section(), opened.instruction_count()), ("", 2));
    let clone = program.try_clone().unwrap();
    assert_eq!((clone.name(), id_of(&clone)), ("handles", id));
    let duplicate = clone.as_fd().try_clone_to_owned().unwrap();
    let from_fd = Program::from_fd(kernel, duplicate).unwrap();
    assert_eq!(id_of(&from_fd), id);

    // One handle after another goes, and the program with the last.
    drop((program, opened, clone));
    assert_eq!(id_of(&from_fd), id);
    let fd = OwnedFd::from(from_fd);
    let again = Program::from_fd(kernel, fd).unwrap();
    let loaded = LoadedProgram::from(again);
    assert_eq!(loaded.info().unwrap().id, id);
    drop(loaded);
    let gone = || Program::by_id(kernel, id).is_err_and(|error| error.errno() == Some(Errno::ENOENT));
    // Linux frees it a little later.
    eventually(gone, || "the program outlives its handles");
}

pub(super) fn pins(kernel: &Kernel) {
    let path = pin_path(kernel, "program_pins");
    let other_path = pin_path(kernel, "program_pins_other");
    let program = returning(kernel, "pinned", 5);
    let other = returning(kernel, "other", 6);
    program.pin(&path).unwrap();
    other.pin(&other_path).unwrap();
    assert_eq!(program.pin(&path).unwrap_err().kind(), ErrorKind::Exists);
    let id = program.info().unwrap().id;
    drop(program);
    let program = Program::open_pinned(kernel, &path).unwrap();
    assert_eq!(program.info().unwrap().id, id);

    let error = program.unpin(&other_path).unwrap_err();
    assert!(error.to_string().ends_with("(program `other` is pinned there)"), "{error}");
    program.unpin(&path).unwrap();
    let error = program.unpin(&path).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(Errno::ENOENT)));
    other.unpin(&other_path).unwrap();
}

pub(super) fn opening_errors(kernel: &Kernel) {
    let none = Program::by_id(kernel, ProgId(u32::MAX >> 2)).unwrap_err();
    assert_eq!(
        (none.kind(), none.to_string()),
        (ErrorKind::NotFound, "open program with id 1073741823 (there is none)".into())
    );
    let none = Program::open_pinned(kernel, "/sys/fs/bpf/skep_no_such_pin").unwrap_err();
    assert_eq!(
        none.to_string(),
        "open program pinned at /sys/fs/bpf/skep_no_such_pin (nothing is pinned there)"
    );

    let map = map(kernel, MapType::ARRAY, 4, 4, 1);
    let path = pin_path(kernel, "program_is_a_map");
    map.pin(&path).unwrap();
    let error = Program::open_pinned(kernel, &path).unwrap_err();
    kernel.backend().unpin(&path).unwrap();
    assert!(error.to_string().ends_with("(something else is pinned there)"), "{error}");
    let fd = map.as_fd().try_clone_to_owned().unwrap();
    let error = Program::from_fd(kernel, fd).unwrap_err();
    assert_eq!(
        (error.to_string(), error.errno()),
        ("open program from a descriptor (it is something else)".into(), Some(Errno::EINVAL))
    );
}

pub(super) fn bound_maps(kernel: &Kernel) {
    let program = returning(kernel, "binds", 5);
    let bound = map(kernel, MapType::ARRAY, 4, 4, 1);
    let id = bound.id().unwrap();
    match program.bind_map(&bound) {
        Ok(()) => {}
        Err(error) if kernel.has(Feature::ProgBindMap).is_unsupported() => {
            assert_eq!(error.errno(), Some(Errno::EINVAL));
            return skip("binding maps", "this kernel cannot (Linux 5.10)");
        }
        Err(error) => panic!("{error}"),
    }
    drop(bound);
    assert_eq!(program.info().unwrap().map_ids, [id]);
    assert!(kernel.map_by_id(id, Default::default()).is_ok(), "the program keeps it alive");

    let foreign = map(&skep::sim::kernel(), MapType::ARRAY, 4, 4, 1);
    assert_eq!(program.bind_map(&foreign).unwrap_err().errno(), Some(Errno::EXDEV));
}

pub(super) fn information(kernel: &Kernel) {
    let array = map(kernel, MapType::ARRAY, 4, 8, 1);
    let mut builder = ProgramBuilder::new(ProgType::XDP, "Proprietary");
    builder.name("informs").load_map_value(Reg::R1, &array, 0);
    builder.asm().ldx(Size::DW, Reg::R2, Reg::R1, 0).mov64_imm(Reg::R0, 2).exit();
    let first = builder.load(kernel).unwrap();
    let second = builder.load(kernel).unwrap();
    let (info, later) = (first.info().unwrap(), second.info().unwrap());
    assert_eq!((info.name.as_str(), info.prog_type, info.gpl_compatible), ("informs", ProgType::XDP, false));
    assert!(info.id < later.id && info.load_time <= later.load_time && info.load_time > 0);
    assert_eq!(info.tag, later.tag);
    assert_ne!(info.tag, [0; 8]);
    assert_eq!(info.map_ids, [array.id().unwrap()]);
    assert_eq!(info.xlated_len, 40);
    assert_eq!((info.nr_func_info, info.nr_line_info, info.btf_id.0), (0, 0, 0));
    assert_eq!((info.attach_btf_id, info.attach_btf_obj_id.0, info.recursion_misses), (0, 0, 0));
    assert_eq!((info.ifindex, info.netns_ino), (0, 0));
    // Whole pages, and the same for the same program.
    let memlock = first.memlock().unwrap();
    assert!(memlock > 0 && memlock.is_multiple_of(4096), "{memlock}");
    assert_eq!(second.memlock().unwrap(), memlock);
}

pub(super) fn statistics(kernel: &Kernel) {
    let program = returning(kernel, "counted", 5);
    let before = program.stats().unwrap();
    assert_eq!((before.run_cnt, before.mean()), (0, None));
    let counting = match program::enable_stats(kernel) {
        Ok(counting) => counting,
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            assert!(error.to_string().contains("older than Linux 5.8"), "{error}");
            return skip("statistics", "this kernel counts only by its sysctl (Linux 5.8)");
        }
        Err(error) => panic!("{error}"),
    };
    // A second one is no matter.
    let second = program::enable_stats(kernel).unwrap();
    drop(counting);
    if kernel.backend().name() == "linux" {
        let input = skep::program::RunInput::packet(&[0; 64]).repeat(1000);
        let start = Instant::now();
        program.run(&input).unwrap();
        let took = start.elapsed();
        let after = program.stats().unwrap();
        let during = after.since(&before);
        // A test run is not counted by all kernels.
        if during.run_cnt > 0 {
            assert_eq!(during.run_cnt, 1000);
            // The two clocks do not go quite alike.
            assert!(during.run_time > Duration::ZERO && during.run_time < 2 * took, "{during:?} in {took:?}");
            assert_eq!(during.mean(), Some(during.run_time / 1000));
        }
    }
    drop(second);
}

pub(super) fn streams(kernel: &Kernel) {
    let program = returning(kernel, "silent", 5);
    let mut text = String::new();
    match program.stream(StreamId::STDERR).read_to_string(&mut text) {
        Ok(0) => {}
        Ok(_) => panic!("{text}"),
        Err(error) if error.kind() == IoKind::Unsupported => {
            return skip("streams", "this kernel has none (Linux 6.17)");
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(program.stream(StreamId::STDOUT).read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(program.stream(StreamId::STDOUT).read(&mut []).unwrap(), 0);
    let error = program.stream(StreamId(7)).read(&mut [0; 8]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("stream_7 of program `silent`")),
        (IoKind::NotFound, true),
        "{error}"
    );
    assert!(matches!(Program::by_id(kernel, ProgId(0)), Err(Error::Open { .. })));
}
