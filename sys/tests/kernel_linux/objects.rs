use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skep_asm::{Assembler, Reg, Size};
use skep_sys::abi::{AttachType, Errno, MapType, ProgType, UpdateFlags};
use skep_sys::request::{LinkCreate, LinkPlace, LinkTarget, LogBuffer, ProgLoad, TestRun, Uprobes};
use skep_sys::{Feature, Kernel, ObjectKind};

use crate::support::{
    assert_above_streams, bpf_descriptors, exclusively, kernel, map, pin_dir, program, returns, skip,
};

#[test]
fn a_program_loads_and_runs() {
    let Some(kernel) = kernel("a_program_loads_and_runs") else { return };
    let prog = program(&kernel, ProgType::XDP, "returns_2", 2);
    let packet = [0; 64];
    let mut out = [0xee; 80];
    let mut run = TestRun::default();
    run.data_in = &packet;
    run.data_out = &mut out;
    run.repeat = 3;
    let result = prog.test_run(&mut run).unwrap();
    assert_eq!((result.retval, result.data_size_out), (2, 64));
    assert_eq!((out[..64] == packet, &out[64..]), (true, &[0xee; 16][..]));

    let mut short = [0; 10];
    let mut run = TestRun::default();
    run.data_in = &packet;
    run.data_out = &mut short;
    let (errno, result) = prog.test_run(&mut run).unwrap_err();
    assert_eq!((errno, result.data_size_out), (Errno::ENOSPC, 64));

    let info = prog.info().unwrap();
    assert_eq!((info.prog_type, info.name.as_str(), info.xlated_len), (ProgType::XDP, "returns_2", 16));
    assert!(info.gpl_compatible && info.map_ids.is_empty() && info.id.0 != 0);
    let again = kernel.prog_by_id(info.id).unwrap();
    assert_eq!((again.prog_type(), again.name(), again.attach_type()), (ProgType::XDP, "returns_2", None));
    assert_eq!(again.info().unwrap().tag, info.tag);
}

#[test]
fn a_syscall_program_writes_its_context_where_it_was_read() {
    let name = "a_syscall_program_writes_its_context_where_it_was_read";
    let Some(kernel) = kernel(name) else { return };
    use skep_sys::abi::ProgFlags;
    let mut asm = Assembler::new();
    // From a register, since kernels before 6.3 let no program store a constant there.
    asm.mov64_imm(Reg::R2, 9).stx(Size::W, Reg::R1, 0, Reg::R2);
    let insns = asm.mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    let mut request = ProgLoad::new(ProgType::SYSCALL, &insns, "GPL");
    request.flags = ProgFlags::SLEEPABLE;
    if kernel.has(Feature::ProgType(ProgType::SYSCALL)).is_unsupported() {
        return skip(name, "no syscall programs");
    }
    let prog = kernel.prog_load(&request, None).unwrap();
    let mut ctx = [1; 8];
    let mut run = TestRun::default();
    run.ctx = &mut ctx;
    prog.test_run(&mut run).unwrap();
    assert_eq!(ctx, [9, 0, 0, 0, 1, 1, 1, 1]);

    let ctx = [1; 8];
    let mut run = TestRun::default();
    run.ctx_in = &ctx;
    prog.test_run(&mut run).unwrap();
    assert_eq!(ctx, [1; 8], "what is borrowed shared is not written");
}

#[test]
fn the_log_says_why() {
    let Some(kernel) = kernel("the_log_says_why") else { return };
    let [_, exit] = returns(0);
    let insns = [exit];
    let request = ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL");
    let mut log = LogBuffer::new(1, 64 * 1024);
    assert_eq!(kernel.prog_load(&request, Some(&mut log)).unwrap_err(), Errno::EACCES);
    assert!(log.text().contains("R0 !read_ok"), "{}", log.text());

    // Level 2 says something of each instruction; kernels before 5.16 refuse buffers below 128 bytes.
    let [zero, exit] = returns(0);
    let many: Vec<_> = std::iter::repeat_n(zero, 50).chain([exit]).collect();
    let mut log = LogBuffer::new(2, 128);
    let request = ProgLoad::new(ProgType::SOCKET_FILTER, &many, "GPL");
    assert_eq!(kernel.prog_load(&request, Some(&mut log)).unwrap_err(), Errno::ENOSPC);
    assert!((1..128).contains(&log.text().len()), "{}", log.text());

    let mut long = ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL");
    long.name = "sixteen_bytes_ab";
    assert_eq!(kernel.prog_load(&long, None).unwrap_err(), Errno::EINVAL);
}

#[test]
fn maps_of_a_program_are_known() {
    let Some(kernel) = kernel("maps_of_a_program_are_known") else { return };
    let prog = program(&kernel, ProgType::SOCKET_FILTER, "binds", 0);
    // More than are asked for at first.
    let maps: Vec<_> = (0..70).map(|_| map(&kernel, MapType::ARRAY, 4, 4, 1)).collect();
    for map in &maps {
        match prog.bind_map(map) {
            Ok(()) => (),
            Err(Errno::EINVAL) if kernel.has(Feature::ProgBindMap).is_unsupported() => {
                return skip("maps_of_a_program_are_known", "no BPF_PROG_BIND_MAP");
            }
            Err(errno) => panic!("{errno}"),
        }
    }
    let mut ids = prog.info().unwrap().map_ids;
    let mut expected: Vec<_> = maps.iter().map(|map| map.info().unwrap().id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(prog.bind_map(&map(&Kernel::linux(), MapType::ARRAY, 4, 4, 1)), Err(Errno::EXDEV));
}

/// BTF with one `int`.
fn int_btf() -> Vec<u8> {
    let strings = b"\0int\0";
    let words: [u32; 10] = [
        // Header: magic, version 1, length; offsets and lengths of types and strings.
        0x0001_eb9f,
        24,
        0,
        16,
        16,
        strings.len() as u32, // then the type:
        1,
        1 << 24,
        4,
        0x0100_0020,
    ];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(strings);
    bytes
}

#[test]
fn btf_is_loaded_and_read_back() {
    let Some(kernel) = kernel("btf_is_loaded_and_read_back") else { return };
    let bytes = int_btf();
    let btf = kernel.btf_load(&bytes, None).unwrap();
    let info = btf.info().unwrap();
    assert_eq!((info.size as usize, info.name.as_str(), info.kernel), (bytes.len(), "", false));
    assert_eq!(btf.bytes().unwrap(), bytes);
    assert_eq!(kernel.btf_by_id(info.id).unwrap().bytes().unwrap(), bytes);

    let mut log = LogBuffer::new(1, 4096);
    let mut broken = bytes;
    broken[8] = 0xff;
    assert!(kernel.btf_load(&broken, Some(&mut log)).is_err());
    assert!(!log.text().is_empty());
}

#[test]
fn the_kernels_own_btf() {
    let Some(kernel) = kernel("the_kernels_own_btf") else { return };
    let Ok(file) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return skip("the_kernels_own_btf", "no BTF in sysfs");
    };
    let btf = kernel.btf().unwrap();
    assert_eq!(*btf.bytes(), file);
    assert!(btf.same(&kernel.btf().unwrap()), "read once");
    // Those of others come and go.
    let vmlinux = kernel
        .ids(ObjectKind::Btf)
        .filter_map(|id| kernel.btf_by_id(skep_sys::abi::BtfObjectId(id.unwrap())).ok())
        .find(|btf| btf.info().unwrap().name == "vmlinux");
    if let Some(vmlinux) = vmlinux {
        assert!(vmlinux.info().unwrap().kernel);
        assert_eq!(vmlinux.bytes().unwrap(), file);
    }
}

#[test]
fn a_raw_tracepoint_link() {
    let name = "a_raw_tracepoint_link";
    let Some(kernel) = kernel(name) else { return };
    let prog = program(&kernel, ProgType::RAW_TRACEPOINT, "on_switch", 0);
    assert_eq!(kernel.raw_tracepoint_open(&prog, Some("no_such_tp"), 0).unwrap_err(), Errno::ENOENT);
    let link = kernel.raw_tracepoint_open(&prog, Some("sched_switch"), 0).unwrap();
    let info = link.info().unwrap();
    assert_eq!(info.prog_id, prog.info().unwrap().id);
    assert_eq!(info.place, LinkPlace::RawTracepoint { name: "sched_switch".to_owned() });
    let ids: Vec<u32> = kernel.ids(ObjectKind::Link).collect::<Result<_, _>>().unwrap();
    assert!(ids.contains(&info.id.0));

    if let Some(dir) = pin_dir(&kernel, name) {
        let path = dir.path().join("link");
        link.pin(&path).unwrap();
        drop(link);
        assert_eq!(kernel.link_open_pinned(&path).unwrap().info().unwrap().id, info.id);
        assert_eq!(kernel.link_by_id(info.id).unwrap().info().unwrap(), info);
        assert_eq!(kernel.prog_open_pinned(&path).unwrap_err(), Errno::EINVAL);
    }
}

/// What uprobes are attached to.
#[inline(never)]
extern "C" fn probed(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

/// Where this program's file has a function of it.
fn in_file(address: u64) -> Option<(PathBuf, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let path = PathBuf::from(fields.nth(2)?);
        (start..end).contains(&address).then(|| (path, address - start + offset))
    })
}

#[test]
fn uprobes_of_one_link() {
    let name = "uprobes_of_one_link";
    let Some(kernel) = kernel(name) else { return };
    let hits = map(&kernel, MapType::ARRAY, 4, 8, 1);
    // *hits += bpf_get_attach_cookie(ctx)
    let mut asm = Assembler::new();
    asm.call_helper(174).mov64_reg(Reg::R6, Reg::R0).ld_map_value(Reg::R1, hits.as_fd().as_raw_fd(), 0);
    asm.ldx(Size::DW, Reg::R2, Reg::R1, 0).add64_reg(Reg::R2, Reg::R6).stx(Size::DW, Reg::R1, 0, Reg::R2);
    let insns = asm.mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    let mut request = ProgLoad::new(ProgType::KPROBE, &insns, "GPL");
    request.expected_attach_type = AttachType::TRACE_UPROBE_MULTI;
    if !kernel.has(Feature::UprobeMultiLink).is_supported() {
        println!("skip: {name}: this kernel links no uprobes (Linux 6.6, CONFIG_UPROBES)");
        return;
    }
    let prog = kernel.prog_load(&request, None).unwrap();
    let (path, offset) = in_file(probed as *const () as u64).unwrap();
    let link = |change: &dyn Fn(&mut Uprobes<'_>)| {
        let offsets = [offset];
        let mut places = Uprobes::new(&path, &offsets);
        change(&mut places);
        let target = LinkTarget::Uprobes(places);
        kernel.link_create(&LinkCreate::new(prog.as_fd(), target, AttachType::TRACE_UPROBE_MULTI))
    };
    let count = || {
        let mut value = [0; 8];
        hits.lookup(&0u32.to_ne_bytes(), &mut value, UpdateFlags::empty()).unwrap();
        u64::from_ne_bytes(value)
    };
    // A process that another test starts has the links too until it executes its program.
    let _guard = exclusively();
    // An array that is too short is not handed over.
    assert_eq!(link(&|places| places.cookies = &[1, 2]).unwrap_err(), Errno::EINVAL);
    assert_eq!(link(&|places| places.offsets = &[]).unwrap_err(), Errno::EINVAL);
    assert_eq!(link(&|places| places.path = Path::new("/no/such/file")).unwrap_err(), Errno::ENOENT);
    assert_eq!(link(&|places| places.pid = i32::MAX as u32).unwrap_err(), Errno::ESRCH);

    let enter = link(&|places| (places.cookies, places.pid) = (&[3], std::process::id())).unwrap();
    let leave = link(&|places| (places.cookies, places.returns) = (&[100], true)).unwrap();
    assert_eq!((probed(1), count()), (2, 103));
    drop(enter);
    assert_eq!((probed(1), count()), (2, 203));
    drop(leave);
    assert_eq!((probed(1), count()), (2, 203));
}

#[test]
fn an_xdp_link_is_updated_and_detached() {
    let name = "an_xdp_link_is_updated_and_detached";
    let Some(kernel) = kernel(name) else { return };
    let old = program(&kernel, ProgType::XDP, "old", 2);
    let new = program(&kernel, ProgType::XDP, "new", 2);
    let lo = kernel.backend().ifindex("lo".as_ref()).unwrap();
    assert_eq!(kernel.backend().ifindex("no-such-device".as_ref()), Err(Errno::ENODEV));
    let request = LinkCreate::new(old.as_fd(), LinkTarget::Ifindex(lo), AttachType::XDP);
    let link = match kernel.link_create(&request) {
        Ok(link) => link,
        Err(Errno::EBUSY) => return skip(name, "something is attached to lo"),
        Err(errno) => panic!("{errno}"),
    };
    assert_eq!(link.info().unwrap().place, LinkPlace::Xdp { ifindex: lo });
    assert_eq!(link.update(&new, Some(&new)), Err(Errno::EPERM));
    link.update(&new, Some(&old)).unwrap();
    assert_eq!(link.info().unwrap().prog_id, new.info().unwrap().id);
    link.detach().unwrap();
    assert_eq!(link.info().unwrap().place, LinkPlace::Xdp { ifindex: 0 });
    assert_eq!(link.update(&program(&Kernel::linux(), ProgType::XDP, "x", 2), None), Err(Errno::EXDEV));
}

#[test]
fn nothing_is_left_open() {
    let Some(kernel) = kernel("nothing_is_left_open") else { return };
    let _guard = exclusively();
    let objects = || {
        let map = map(&kernel, MapType::ARRAY, 4, 4, 1);
        let prog = program(&kernel, ProgType::RAW_TRACEPOINT, "leak", 0);
        let btf = kernel.btf_load(&int_btf(), None).unwrap();
        let link = kernel.raw_tracepoint_open(&prog, Some("sched_switch"), 0).unwrap();
        let clones = (map.try_clone(), prog.try_clone(), btf.try_clone(), link.try_clone());
        assert!(kernel.map_from_fd(prog.try_clone().unwrap().into()).is_err());
        drop(clones);
    };
    // Other tests of this binary run beside this one where they share a process, and end: some round is undisturbed.
    let start = Instant::now();
    let mut rounds = std::iter::repeat(()).take_while(|()| start.elapsed() < Duration::from_secs(60));
    let quiet = rounds.any(|()| {
        let before = bpf_descriptors();
        objects();
        bpf_descriptors() == before
    });
    assert!(quiet, "every round left more descriptors than there were");
}

/// Run by the test below in a process of its own, whose standard streams are closed.
#[test]
#[ignore = "closes the standard streams of its process"]
fn child_without_streams() {
    let kernel = Kernel::linux();
    // Within the process, since the runtime opens closed streams again before main.
    for fd in 0..3 {
        nix::unistd::close(fd).unwrap();
    }
    let map = map(&kernel, MapType::ARRAY, 4, 4, 1);
    let prog = program(&kernel, ProgType::RAW_TRACEPOINT, "low", 0);
    let btf = kernel.btf_load(&int_btf(), None).unwrap();
    let link = kernel.raw_tracepoint_open(&prog, Some("sched_switch"), 0).unwrap();
    assert_above_streams(&map);
    assert_above_streams(&prog);
    assert_above_streams(&btf);
    assert_above_streams(&link);
    assert_above_streams(&map.try_clone().unwrap());
    assert_above_streams(&kernel.prog_by_id(prog.info().unwrap().id).unwrap());
}

#[test]
fn descriptors_are_never_standard_streams() {
    if kernel("descriptors_are_never_standard_streams").is_none() {
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "objects::child_without_streams", "--ignored", "--nocapture", "--test-threads=1"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let guard = exclusively();
    let child = command.spawn();
    drop(guard);
    let status = child.unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn facts_of_the_process() {
    let Some(kernel) = kernel("facts_of_the_process") else { return };
    let permissions = kernel.backend().permissions();
    assert_ne!(permissions.effective_caps, Some(0));
    assert!(permissions.effective_caps.is_some());
    let release = kernel.backend().release().unwrap();
    let major: u32 = release.split('.').next().unwrap().parse().unwrap();
    assert_eq!(kernel.version_code().unwrap() >> 16, major);
    let cpus = kernel.possible_cpus().unwrap();
    assert!(cpus as usize >= std::thread::available_parallelism().unwrap().get());
    assert_eq!(kernel.backend().is_bpffs("/proc".as_ref()), Ok(false));
    assert_eq!(kernel.backend().is_bpffs("/no/such/path".as_ref()), Ok(false));
}
