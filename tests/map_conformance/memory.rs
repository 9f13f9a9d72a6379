//! Kinds that programs fill: stacks, and memory that is shared with them.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use skep::asm::{Assembler, Reg};
use skep::map::{Arena, Map, MapErrorKind, StackFrame, StackTraces};
use skep::symbols::{SymbolError, SymbolOwner, Symbolizer};
use skep::sys::abi::{Errno, MapFlags, MapType, ProgType};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};
use skep::sys::{Feature, Kernel};
use skep::{Loader, Spec};

use super::descriptors::is_simulated;
use super::{ANY, assert_error, map};

/// `bpf_get_stackid`.
const GET_STACKID: i32 = 27;
/// `BPF_F_USER_STACK`.
const USER_STACK: i32 = 1 << 8;

/// Makes a program note a stack, and answers the number of that; none where the kernel runs no such program.
fn note(kernel: &Kernel, map: &Map, flags: i32) -> Option<u32> {
    let insns = Assembler::new()
        .ld_map_fd(Reg::R2, map.as_fd().as_raw_fd())
        .mov64_imm(Reg::R3, flags)
        .call_helper(GET_STACKID)
        .exit()
        .finish()
        .unwrap();
    let request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL");
    let program = match kernel.prog_load(&request, None) {
        Ok(program) => program,
        Err(errno) => {
            println!("skip: stack_traces: no program with bpf_get_stackid: {errno}");
            return None;
        }
    };
    match program.test_run(&mut TestRun::default()) {
        // Programs run there, and what calls them has no stack.
        Ok(result) if is_simulated(kernel) && result.retval.cast_signed() == -Errno::EFAULT.0 => {
            println!("skip: stack_traces: a simulated kernel has no stack to note");
            None
        }
        Ok(result) => {
            assert!(
                result.retval.cast_signed() >= 0,
                "it has noted no stack: {}",
                result.retval.cast_signed()
            );
            Some(result.retval)
        }
        Err((errno, _)) => {
            println!("skip: stack_traces: this kernel runs no such program: {errno}");
            None
        }
    }
}

pub(super) fn stack_traces(kernel: &Kernel) {
    let map = map(kernel, MapType::STACK_TRACE, 4, 127 * 8, 64);
    let stacks: StackTraces = map.typed().unwrap();
    assert_eq!((stacks.capacity(), stacks.depth(), stacks.has_build_ids()), (64, 127, false));
    assert!(stacks.get(1).unwrap().is_none());
    assert!(!stacks.remove(1).unwrap());
    assert_eq!(stacks.ids().count(), 0);
    assert_error(stacks.remove(64), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.update(&[0; 4], &[0; 127 * 8], ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));

    let Some(id) = note(kernel, &map, 0) else { return };
    let stack = stacks.get(id).unwrap().expect("it was noted");
    assert!(stack.frames().count() > 2, "{stack:?}");
    assert!(stack.frames().all(|frame| matches!(frame, StackFrame::Address(address) if address != 0)));
    assert_eq!(stacks.ids().collect::<Result<Vec<_>, _>>().unwrap(), [id]);
    let symbolizer = Symbolizer::new(kernel);
    match symbolizer.kernel_stack(&stack) {
        Ok(names) => {
            let names: Vec<String> = names.into_iter().filter_map(|(_, symbol)| symbol?.name).collect();
            assert!(names.iter().any(|name| name.contains("bpf")), "{names:?}");
        }
        Err(SymbolError::Hidden) => println!("skip: stack_traces: the kernel hides its addresses"),
        Err(error) => panic!("{error}"),
    }

    // This process's own stack: the system call is in a library, or in this program where it is linked in.
    // It is noted in a map of its own: two stacks whose numbers are the same would refuse each other.
    let others = super::map(kernel, MapType::STACK_TRACE, 4, 127 * 8, 64);
    let own = note(kernel, &others, USER_STACK).expect("programs run");
    let mut stack = others.typed::<StackTraces>().unwrap().get(own).unwrap().expect("it was noted");
    let pid = std::process::id();
    let names = symbolizer.process_stack(pid, &stack).unwrap();
    let (address, symbol) = names.first().expect("it has a frame");
    let symbol = symbol.as_ref().unwrap_or_else(|| panic!("nothing is at {address:#x}"));
    assert!(matches!(&symbol.of, SymbolOwner::File(path) if path.is_absolute()), "{symbol}");

    // The memory of a stack is used again.
    assert!(stacks.get_into(id, &mut stack).unwrap());
    assert_eq!(Some(&stack), stacks.get(id).unwrap().as_ref());
    let all: Vec<_> = (&stacks).into_iter().map(Result::unwrap).collect();
    assert_eq!(all, [(id, stack)]);
    assert!(stacks.remove(id).unwrap());
    assert!(stacks.get(id).unwrap().is_none());
}

pub(super) fn arena(kernel: &Kernel) {
    if kernel.has(Feature::MapType(MapType::ARENA)).is_unsupported() {
        println!("skip: arena: this kernel has none");
        return;
    }
    let mut request = MapCreate::new(MapType::ARENA, 0, 0, 4);
    request.name = "under_test";
    request.flags = MapFlags::MMAPABLE;
    let map = Map::create(kernel, &request).unwrap();
    let arena: Arena = map.typed().unwrap();
    let page = kernel.page_size() as usize;
    assert_eq!((arena.pages(), arena.memory().len()), (4, 4 * page));
    arena.write(page + 4, &[7u32, 8]).unwrap();
    assert_eq!(arena.read::<u32>(page + 8).unwrap(), 8);
    assert_eq!(arena.read::<u64>(0).unwrap(), 0);
    assert!(arena.read::<u64>(4 * page - 4).is_err() && arena.write(usize::MAX, &1u32).is_err());

    // All views of a handle are of one mapping.
    let again: Arena = map.clone().typed().unwrap();
    assert_eq!(again.address(), arena.address());
    assert_eq!(again.read::<u32>(page + 4).unwrap(), 7);
    let pointer = arena.pointer_to(page + 4).unwrap();
    assert_eq!(arena.offset_of(pointer), Some(page + 4));
    assert_eq!((arena.pointer_to(4 * page), arena.offset_of(arena.address() - 1)), (None, None));
    assert_eq!(arena.offset_of(arena.address() + 4 * page as u64), None);

    // Where untouched pages end the process, there is no view.
    request.flags |= MapFlags::SEGV_ON_FAULT;
    let map = Map::create(kernel, &request).unwrap();
    assert_error(map.typed::<Arena>(), MapErrorKind::Unsupported, Some(Errno::EOPNOTSUPP));

    // The memory of an object's arena is the one that its variables are in.
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/arena.o")).unwrap();
    let object = match Loader::new(kernel).load(&spec) {
        Ok(object) => object,
        Err(error) => {
            println!("skip: arena: an object with one does not load: {error}");
            return;
        }
    };
    let view: Arena = object.map("arena").unwrap().typed().unwrap();
    object.set_global("shared_counter", &0x1234_5678_9abc_def0u64).unwrap();
    let words = (0..view.memory().len() / 8).map(|nth| view.read::<u64>(nth * 8).unwrap());
    assert_eq!(words.filter(|word| *word == 0x1234_5678_9abc_def0).count(), 1);
}
