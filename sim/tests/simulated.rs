//! What only a simulated kernel can be asked to be.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use skep_asm::{Assembler, Insn, Reg};
use skep_btf::{Kind, TypeId};
use skep_sim::{Builder, Features, Live, SimKernel};
use skep_sys::abi::{
    AttachType, BtfObjectId, Errno, LinkType, MapFlags, MapType, OpenFlags, ProgType, UpdateFlags,
};
use skep_sys::request::{AttachTarget, LinkCreate, LinkTarget, LogBuffer, MapCreate, ProgLoad, TestRun};
use skep_sys::{Kernel, LoadedProgram, MapFd, ObjectKind};

const VMLINUX: &[u8] = include_bytes!("../../testdata/btf/6.18.btf");

fn array(kernel: &Kernel) -> MapFd {
    kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap()
}

fn returns_zero() -> Vec<Insn> {
    Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap()
}

fn load(
    kernel: &Kernel,
    prog_type: ProgType,
    change: impl FnOnce(&mut ProgLoad<'_>),
) -> Result<LoadedProgram, (Errno, String)> {
    let insns = returns_zero();
    let mut request = ProgLoad::new(prog_type, &insns, "GPL");
    change(&mut request);
    let mut log = LogBuffer::new(1, 4096);
    let result = kernel.prog_load(&request, Some(&mut log));
    result.map_err(|errno| (errno, log.text().lines().next().unwrap_or_default().to_owned()))
}

/// A kernel with the BTF of a real one, and its handle.
fn with_btf(builder: Builder) -> (SimKernel, Kernel) {
    let sim = builder.btf(VMLINUX).build().unwrap();
    (sim.clone(), Kernel::new(sim))
}

fn find(kernel: &Kernel, name: &str, kind: Kind) -> u32 {
    kernel.btf().unwrap().find(name.as_bytes(), kind).unwrap_or_else(|| panic!("{name}")).0
}

#[test]
fn a_kernel_as_described() {
    let sim = SimKernel::builder().cpus(4).release("5.15.200-rt1").interface("eth0", 7).build().unwrap();
    let kernel = Kernel::new(sim);
    assert_eq!(kernel.possible_cpus(), Ok(4));
    assert_eq!(kernel.version_code(), Ok(5 << 16 | 15 << 8 | 200));
    assert_eq!(kernel.backend().release().as_deref(), Ok("5.15.200-rt1"));
    assert_eq!(kernel.backend().ifindex("eth0".as_ref()), Ok(7));
    assert_eq!(kernel.backend().ifindex("eth1".as_ref()), Err(Errno::ENODEV));
    assert_eq!(kernel.backend().kernel_btf(), Err(Errno::ENOENT));
    let map = kernel.map_create(&MapCreate::new(MapType::PERCPU_ARRAY, 4, 12, 1)).unwrap();
    assert_eq!(map.value_len(), 16 * 4);
    assert!(SimKernel::builder().btf(&b"not BTF"[..]).build().is_err());
}

#[test]
fn files_of_the_kernel() {
    let read =
        |file: Result<Box<dyn std::io::Read + Send>, Errno>| std::io::read_to_string(file.unwrap()).unwrap();
    let kernel = skep_sim::kernel();
    assert!(read(kernel.backend().config()).contains("CONFIG_BPF=y\n"));
    assert_eq!(read(kernel.backend().symbols()), "");
    assert_eq!(kernel.backend().has_syscall_wrapper(), Ok(true));
    let symbols = "ffffffff81000000 T _text\n";
    let builder = SimKernel::builder().config("CONFIG_HZ=250\n").symbols(symbols).syscall_wrapper(false);
    let kernel = Kernel::new(builder.build().unwrap());
    assert_eq!(read(kernel.backend().config()), "CONFIG_HZ=250\n");
    assert_eq!(read(kernel.backend().symbols()), symbols);
    assert_eq!(kernel.backend().has_syscall_wrapper(), Ok(false));
}

#[test]
fn its_own_btf_is_an_object() {
    let (sim, kernel) = with_btf(SimKernel::builder());
    assert_eq!(kernel.backend().kernel_btf().unwrap(), VMLINUX);
    let ids: Vec<_> = kernel.ids(ObjectKind::Btf).collect();
    assert_eq!(ids, [Ok(1)]);
    let btf = kernel.btf_by_id(BtfObjectId(1)).unwrap();
    let info = btf.info().unwrap();
    assert_eq!((info.name.as_str(), info.kernel, info.size as usize), ("vmlinux", true, VMLINUX.len()));
    assert_eq!(sim.live(), Live::default());
}

#[test]
fn programs_that_name_their_target() {
    let (_, kernel) = with_btf(SimKernel::builder());
    let raw_tp = find(&kernel, "btf_trace_sched_process_exec", Kind::TYPEDEF);
    let task = find(&kernel, "task_struct", Kind::STRUCT);
    let target = |type_id| AttachTarget::KernelType { type_id, module: None };
    let tracing = |type_id| {
        load(&kernel, ProgType::TRACING, |r| {
            r.expected_attach_type = AttachType::TRACE_RAW_TP;
            r.attach = target(type_id);
        })
    };
    let refused = |result: Result<LoadedProgram, (Errno, String)>| result.unwrap_err();
    let wrong = format!("attach_btf_id {task} is not a typedef");
    assert_eq!(refused(tracing(task)), (Errno::EINVAL, wrong));
    let absent = "attach_btf_id 9999999 is invalid".to_owned();
    assert_eq!(refused(tracing(9_999_999)), (Errno::EINVAL, absent));
    let xdp = load(&kernel, ProgType::XDP, |r| r.attach = target(raw_tp));
    assert_eq!(refused(xdp).0, Errno::EINVAL);

    let prog = tracing(raw_tp).unwrap();
    assert_eq!(kernel.raw_tracepoint_open(&prog, Some("x"), 0).unwrap_err(), Errno::EINVAL);
    let link = kernel.raw_tracepoint_open(&prog, None, 0).unwrap();
    assert_eq!(link.info().unwrap().link_type, LinkType::RAW_TRACEPOINT);
    let create = |attach_type| LinkCreate::new(prog.as_fd(), LinkTarget::Loaded, attach_type);
    assert!(kernel.link_create(&create(AttachType::TRACE_RAW_TP)).is_ok());
    assert_eq!(kernel.link_create(&create(AttachType::TRACE_FENTRY)).unwrap_err(), Errno::EINVAL);

    let plain = SimKernel::new();
    let kernel = Kernel::new(plain);
    let without = load(&kernel, ProgType::TRACING, |r| r.attach = target(raw_tp));
    assert_eq!(refused(without).0, Errno::EINVAL);
}

#[test]
fn calls_of_kernel_functions() {
    let (_, kernel) = with_btf(SimKernel::builder());
    let btf = kernel.btf().unwrap();
    let function =
        btf.types().find(|ty| ty.kind() == Kind::FUNC && ty.name() == "bpf_throw").map(|ty| ty.id());
    let call = |TypeId(id): TypeId, license| {
        let insns = Assembler::new().call_kfunc(id as i32, 0).mov64_imm(Reg::R0, 0).exit().finish().unwrap();
        let mut log = LogBuffer::new(1, 4096);
        let result = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, license), Some(&mut log));
        result.map(drop).map_err(|errno| (errno, log.text().lines().next().unwrap_or_default().to_owned()))
    };
    if let Some(function) = function {
        assert_eq!(call(function, "GPL"), Ok(()));
        let license = "cannot call kernel function from non-GPL compatible program".to_owned();
        assert_eq!(call(function, "MIT"), Err((Errno::EINVAL, license)));
    }
    let task = TypeId(find(&kernel, "task_struct", Kind::STRUCT));
    let wrong = format!("kernel btf_id {} is not a function", task.0);
    assert_eq!(call(task, "GPL"), Err((Errno::EINVAL, wrong)));
}

#[test]
fn descriptors_are_real() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let map = array(&kernel);
    map.update(&[0; 4], &[7; 4], UpdateFlags::empty()).unwrap();
    assert!(map.as_fd().as_raw_fd() > 2);
    let flags = nix::fcntl::fcntl(map.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);

    let id = map.info().unwrap().id;
    let copy = map.as_fd().try_clone_to_owned().unwrap();
    drop(map);
    assert_eq!(sim.live().maps, 1, "a duplicate is left");
    let map = kernel.map_from_fd(copy).unwrap();
    assert_eq!(map.info().unwrap().id, id);
    let mut value = [0; 4];
    map.lookup(&[0; 4], &mut value, UpdateFlags::empty()).unwrap();
    assert_eq!(value, [7; 4]);
    drop(map);
    assert_eq!(sim.live().maps, 0);
}

/// A handle remembers what its descriptor is, and that keeps nothing: the program goes with its last descriptor.
#[test]
fn programs_that_ran_go_with_their_last_descriptor() {
    let kernel = Kernel::new(SimKernel::new());
    let run = |program: &LoadedProgram| program.test_run(&mut TestRun::default()).map(|run| run.retval);
    let first = load(&kernel, ProgType::RAW_TRACEPOINT, |_| ()).unwrap();
    assert_eq!(run(&first).unwrap(), 0);
    let id = first.info().unwrap().id;
    let second = first.try_clone().unwrap();
    let third = kernel.prog_by_id(id).unwrap();
    drop(first);
    assert_eq!([run(&second).unwrap(), run(&third).unwrap(), run(&third).unwrap()], [0; 3]);
    drop((second, third));
    assert_eq!(kernel.prog_by_id(id).err(), Some(Errno::ENOENT));

    // One request serves several programs, of several kernels.
    let other = Kernel::new(SimKernel::new());
    let mut asm = Assembler::new();
    let insns = asm.mov64_imm(Reg::R0, 7).exit().finish().unwrap();
    let seven = other.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None).unwrap();
    let zero = load(&kernel, ProgType::RAW_TRACEPOINT, |_| ()).unwrap();
    let mut request = TestRun::default();
    let answers =
        [&seven, &zero, &seven, &zero].map(|program| program.test_run(&mut request).unwrap().retval);
    assert_eq!(answers, [7, 0, 7, 0]);
    assert!(request.key().is_none());
    // What a caller hands in does not count against the descriptor that it names.
    assert_eq!(kernel.backend().prog_test_run(zero.as_fd(), &mut request).unwrap().retval, 0);
    let key = request.key().cloned().unwrap();
    assert_eq!(seven.test_run(&mut request).unwrap().retval, 7);
    request.set_key(key);
    assert_eq!(seven.test_run(&mut request).unwrap().retval, 7);
}

#[test]
fn descriptors_of_others_mean_nothing() {
    let (one, two) = (skep_sim::kernel(), skep_sim::kernel());
    let map = array(&one);
    let foreign = |fd: OwnedFd| two.map_from_fd(fd).unwrap_err();
    assert_eq!(foreign(map.as_fd().try_clone_to_owned().unwrap()), Errno::EINVAL);
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_eq!(foreign(reader.into()), Errno::EINVAL);
    let insns = Assembler::new()
        .ld_map_fd(Reg::R1, map.as_fd().as_raw_fd())
        .mov64_imm(Reg::R0, 0)
        .exit()
        .finish()
        .unwrap();
    let request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
    assert_eq!(two.prog_load(&request, None).unwrap_err(), Errno::EINVAL);
    let prog = one.prog_load(&request, None).unwrap();
    assert_eq!(prog.info().unwrap().map_ids, [map.info().unwrap().id]);
}

#[test]
fn many_objects_come_and_go() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let open = || std::fs::read_dir("/dev/fd").unwrap().count();
    let before = open();
    for _ in 0..2000 {
        drop(array(&kernel));
    }
    assert!(open() < before + 300, "closed descriptors are noticed");
    assert_eq!(sim.live(), Live::default());
    let last = array(&kernel).info().unwrap().id;
    assert_eq!(last.0, 2001, "ids are not used again");
}

#[test]
fn threads_share_a_kernel() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 10_000);
    request.flags = MapFlags::NO_PREALLOC;
    let map = kernel.map_create(&request).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (kernel, map) = (&kernel, &map);
            scope.spawn(move || {
                for i in 0..200 {
                    let key = (thread * 1000 + i).to_ne_bytes();
                    map.update(&key, &[1; 8], UpdateFlags::empty()).unwrap();
                    drop(array(kernel));
                }
            });
        }
    });
    let mut count = 0;
    let mut key = [0; 4];
    let mut next = map.next_key(None, &mut key).is_ok();
    while next {
        count += 1;
        let last = key;
        next = map.next_key(Some(&last), &mut key).is_ok();
    }
    assert_eq!(count, 800);
    assert_eq!(sim.live().maps, 1);
}

/// A program that jumps through an array that holds it does not keep itself alive.
#[test]
fn program_arrays_let_go() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let cycle = || {
        let jumps = kernel.map_create(&MapCreate::new(MapType::PROG_ARRAY, 4, 4, 4)).unwrap();
        let insns = Assembler::new()
            .ld_map_fd(Reg::R2, jumps.as_fd().as_raw_fd())
            .mov64_imm(Reg::R3, 0)
            .call_helper(12)
            .mov64_imm(Reg::R0, 0)
            .exit()
            .finish()
            .unwrap();
        let prog = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None).unwrap();
        jumps.update_program(&[0; 4], &prog, UpdateFlags::empty()).unwrap();
        (jumps, prog)
    };
    let (jumps, prog) = cycle();
    drop(prog);
    assert_eq!((sim.live().maps, sim.live().programs), (1, 1));
    drop(jumps);
    assert_eq!(sim.live(), Live::default());

    let (jumps, prog) = cycle();
    jumps.pin("/sys/fs/bpf/jumps").unwrap();
    drop((jumps, prog));
    assert_eq!((sim.live().maps, sim.live().programs), (1, 1), "the pin keeps it");
    kernel.backend().unpin(Path::new("/sys/fs/bpf/jumps")).unwrap();
    assert_eq!(sim.live(), Live::default());
}

#[test]
fn links_on_several_devices() {
    let sim = SimKernel::builder().interface("eth0", 7).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let prog = load(&kernel, ProgType::XDP, |_| {}).unwrap();
    let attach = |index| {
        kernel.link_create(&LinkCreate::new(prog.as_fd(), LinkTarget::Ifindex(index), AttachType::XDP))
    };
    let (lo, eth) = (attach(1).unwrap(), attach(7).unwrap());
    assert_eq!(attach(7).unwrap_err(), Errno::EBUSY);
    assert_eq!(attach(8).unwrap_err(), Errno::EINVAL);
    eth.pin("/sys/fs/bpf/eth").unwrap();
    drop((lo, eth));
    assert_eq!(sim.live().links, 1);
    assert!(attach(1).is_ok());
    assert_eq!(attach(7).unwrap_err(), Errno::EBUSY, "the pin keeps it");
    assert_eq!(sim.pins(), [Path::new("/sys/fs/bpf/eth")]);
}

#[test]
fn other_mounts() {
    let sim = SimKernel::builder().bpffs(["/one", "/some/where/two"]).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let map = array(&kernel);
    map.pin("/one/a").unwrap();
    map.pin("/some/where/two/a").unwrap();
    let is = |path| kernel.backend().is_bpffs(Path::new(path)).unwrap();
    assert_eq!(["/one", "/one/a", "/one/b", "/sys/fs/bpf", "/"].map(is), [true, true, false, false, false]);
    assert_eq!(map.pin("/one/../one/a").unwrap_err().errno(), Some(Errno::EEXIST));
    assert!(kernel.map_open_pinned("/one/../one/./a", OpenFlags::empty()).is_ok());
    let file = std::env::current_exe().unwrap();
    assert_eq!(kernel.backend().unpin(&file), Err(Errno::EPERM));
    assert_eq!(kernel.map_open_pinned(&file, OpenFlags::empty()).unwrap_err(), Errno::EACCES);
    assert!(file.exists());
}

#[test]
fn old_kernels_refuse_what_they_do_not_know() {
    let old = Features::empty();
    let kernel = Kernel::new(SimKernel::builder().features(old).build().unwrap());
    let map = array(&kernel);
    assert_eq!(map.freeze().unwrap_err().errno(), Some(Errno::EINVAL));
    let prog = load(&kernel, ProgType::XDP, |_| {}).unwrap();
    let link = LinkCreate::new(prog.as_fd(), LinkTarget::Ifindex(1), AttachType::XDP);
    assert_eq!(kernel.link_create(&link).unwrap_err(), Errno::EINVAL);
    let raw = load(&kernel, ProgType::RAW_TRACEPOINT, |_| {}).unwrap();
    assert!(kernel.raw_tracepoint_open(&raw, Some("sched_switch"), 0).is_ok());
    assert_eq!(kernel.raw_tracepoint_open(&raw, Some("sched_switch"), 1).unwrap_err(), Errno::E2BIG);
}

#[test]
fn programs_run_only_as_their_kind_can() {
    let kernel = skep_sim::kernel();
    let errno = |prog_type| {
        let prog = load(&kernel, prog_type, |_| {}).unwrap();
        prog.test_run(&mut Default::default()).unwrap_err().0
    };
    // It has no packet.
    assert_eq!(errno(ProgType::XDP), Errno::EINVAL);
    assert_eq!(errno(ProgType::KPROBE), Errno::ENOTSUPP);
}
