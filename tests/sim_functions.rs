//! What tests say of the things that kernel functions are about, and see of them, on a simulated kernel.

#![allow(missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use skep::sim::{Connection, ConnectionStatus, SimKernel};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, ProgType};
use skep::sys::request::TestRun;
use skep::{Loader, Object, Spec};

/// A kernel with the types of an object, and the object loaded there.
fn loaded(name: &str) -> (SimKernel, Object) {
    let path = format!("{}/testdata/run/{name}.o", env!("CARGO_MANIFEST_DIR"));
    let spec = Spec::open(std::path::Path::new(&path)).unwrap();
    let types = spec.btf.as_ref().unwrap().bytes().to_vec();
    let sim = SimKernel::builder().btf(types).build().unwrap();
    let object = Loader::new(&Kernel::new(sim.clone())).load(&spec).unwrap();
    (sim, object)
}

fn run(object: &Object, program: &str) -> u32 {
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    object.program(program).unwrap().test_run(&mut run).unwrap().retval
}

/// `struct bpf_sock_tuple` and the options of a TCP connection, for the programs of `run/conntrack.c`.
fn ask_for(object: &Object, port: u16) {
    let mut tuple = [0; 36];
    tuple[..8].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    tuple[8..10].copy_from_slice(&port.to_be_bytes());
    tuple[10..12].copy_from_slice(&80u16.to_be_bytes());
    object.set_global("tuple", &tuple).unwrap();
    object.set_global("tuple_len", &12u32).unwrap();
    object.set_global("opts", &[255, 255, 255, 255, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0u8]).unwrap();
    object.set_global("opts_len", &16u32).unwrap();
}

fn ends(port: u16) -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], 80)))
}

#[test]
fn programs_and_tests_share_the_connections() {
    let (sim, object) = loaded("conntrack");
    let web = Connection::tcp(ends(4000).0, ends(4000).1).mark(9).status(ConnectionStatus::ASSURED);
    let web = sim.add_connection(web).unwrap();
    let twice = sim.add_connection(Connection::tcp(ends(4000).1, ends(4000).0));
    assert_eq!(twice, Err(Errno::EEXIST));
    let mixed = Connection::udp(ends(4000).0, "[::1]:53".parse().unwrap());
    assert_eq!(sim.add_connection(mixed), Err(Errno::EINVAL));

    // A program finds what a test put there, and the test what the program wrote: set a timeout, a status and a mark.
    ask_for(&object, 4000);
    object.set_global("ask", &[4 | 1, 5000, 0, 42u32, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(run(&object, "xdp_look"), 0);
    assert_eq!(object.global::<u32>("found").unwrap(), 1);
    let seen = sim.connection(web).unwrap();
    assert_eq!((seen.mark, seen.timeout), (42, Duration::from_secs(5)));
    assert_eq!(seen.status, ConnectionStatus::ASSURED | ConnectionStatus::CONFIRMED);
    assert_eq!(sim.connection_object(web).unwrap().get("mark").unwrap(), 42);
    sim.change_connection(web, |web| web.mark = 43).unwrap();
    assert_eq!(sim.connection_object(web).unwrap().get("mark").unwrap(), 43);

    // A snapshot has the table.
    let before = sim.snapshot();
    ask_for(&object, 4001);
    assert_eq!(run(&object, "skb_make"), 0);
    let made = sim.connections().pop().unwrap();
    let (source, destination) = ends(4001);
    assert_eq!((made.1.source, made.1.destination, made.1.mark), (source, destination, 42));
    assert_eq!(made.1.timeout, Duration::from_secs(5));
    sim.advance(Duration::from_secs(5));
    assert_eq!(sim.connections(), []);
    sim.restore(&before).unwrap();
    assert_eq!(sim.connections().len(), 1);
    assert_eq!(sim.remove_connection(web).map(|web| web.mark), Some(43));
    assert_eq!(sim.change_connection(web, |_| ()), Err(Errno::ENOENT));
}

/// A program of instructions that calls kernel functions, whose fault is answered. Each call is given the context, zeros, or
/// what the last one answered.
fn fault_of(prog_type: ProgType, calls: &[&str], arguments: impl Fn(&mut skep::asm::Assembler)) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/run/conntrack.o");
    let types = Spec::open(std::path::Path::new(path)).unwrap().btf.unwrap().bytes().to_vec();
    let sim = SimKernel::builder().btf(types).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let mut builder = skep::program::ProgramBuilder::new(prog_type, "GPL");
    builder.asm().mov64_reg(skep::asm::Reg::R6, skep::asm::Reg::R1);
    for call in calls {
        arguments(builder.asm());
        builder.call_kfunc(*call);
        builder.asm().mov64_reg(skep::asm::Reg::R1, skep::asm::Reg::R0);
    }
    builder.asm().mov64_imm(skep::asm::Reg::R0, 0).exit();
    let program = builder.load(&kernel).unwrap();
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    program.test_run(&mut run).unwrap_err();
    sim.last_fault().unwrap().kind.to_string()
}

#[test]
fn connections_are_given_back() {
    use skep::asm::{Reg, Size};

    let new = |asm: &mut skep::asm::Assembler| {
        // A tuple of zeros at -16, options of TCP at -32.
        asm.mov64_imm(Reg::R0, 0).stx(Size::DW, Reg::R10, -16, Reg::R0).stx(Size::DW, Reg::R10, -8, Reg::R0);
        asm.ld_imm64(Reg::R0, 0xffff_ffff).stx(Size::DW, Reg::R10, -32, Reg::R0);
        asm.mov64_imm(Reg::R0, 6).stx(Size::DW, Reg::R10, -24, Reg::R0);
        asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -16).mov64_imm(Reg::R3, 12);
        asm.mov64_reg(Reg::R4, Reg::R10).add64_imm(Reg::R4, -32).mov64_imm(Reg::R5, 16);
    };
    let fault = |calls: &[&str]| fault_of(ProgType::XDP, calls, new);
    assert_eq!(
        fault(&["bpf_xdp_ct_alloc"]),
        "the program returned and did not give back a connection that it made; call bpf_ct_insert_entry"
    );
    assert_eq!(
        fault(&["bpf_xdp_ct_alloc", "bpf_ct_insert_entry"]),
        "the program returned and did not give back a connection; call bpf_ct_release"
    );
    assert_eq!(
        fault(&["bpf_xdp_ct_alloc", "bpf_ct_release"]),
        "the connection is not in the table yet; call bpf_ct_insert_entry first"
    );
    assert_eq!(
        fault(&["bpf_xdp_ct_alloc", "bpf_ct_insert_entry", "bpf_ct_set_timeout"]),
        "the connection is in the table already; bpf_ct_change_timeout and bpf_ct_change_status are for it"
    );
    assert_eq!(
        fault(&["bpf_xdp_ct_lookup", "bpf_ct_release"]),
        "0x0 is no connection that the program looked up or made"
    );
}

/// What groups count is added up for each of them and those around it, inner ones first, and once.
#[test]
fn counters_of_groups_are_added_up() {
    use std::io::Read;
    use std::os::fd::AsFd;

    use skep::btf::{BtfBuilder, IntEncoding, Linkage};
    use skep::sim::FunctionCall;
    use skep::sys::abi::AttachType;
    use skep::sys::request::{LinkCreate, LinkTarget};

    const SELF_ONLY: u32 = 1;

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/run/rstat.o");
    let spec = Spec::open(std::path::Path::new(path)).unwrap();
    let mut btf = BtfBuilder::from_btf(spec.btf.as_ref().unwrap());
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let cgroup = spec.btf.as_ref().unwrap().find(b"cgroup", skep::btf::Kind::STRUCT).unwrap();
    let cgroup = btf.add_ptr(cgroup).unwrap();
    let proto = btf.add_func_proto(int).unwrap();
    for (name, ty) in [("cgroup", cgroup), ("parent", cgroup), ("cpu", int)] {
        btf.add_param(name, ty).unwrap();
    }
    for place in ["bpf_rstat_flush", "bpf_iter_cgroup", "cgroup_mkdir"] {
        btf.add_func(place, Linkage::STATIC, proto).unwrap();
    }
    let types = btf.finish().unwrap().bytes().to_vec();
    let sim = SimKernel::builder().btf(types).cpus(2).build().unwrap();
    let [web, inner, other] = ["/web", "/web/inner", "/other"].map(|path| sim.add_cgroup(path).unwrap());
    let kernel = Kernel::new(sim.clone());
    let object = Loader::new(&kernel).load(&spec).unwrap();
    let _counts = object.program("counts").unwrap().attach().unwrap();
    let _adds = object.program("adds").unwrap().attach().unwrap();
    for group in ["/web/inner", "/other", "/web/inner"] {
        let group = sim.cgroup_object(group).unwrap();
        let _ = sim.fire(FunctionCall::new("cgroup_mkdir").arg(&group).returns(0)).unwrap();
    }
    let cgroup = sim.open_cgroup("/web").unwrap();
    let flush = || {
        let target = LinkTarget::Cgroups { cgroup: cgroup.as_fd(), order: SELF_ONLY };
        let program = object.program("flushes").unwrap().loaded();
        let request = LinkCreate::new(program.as_fd(), target, AttachType::TRACE_ITER);
        let link = kernel.link_create(&request).unwrap();
        link.iterate().unwrap().read_to_end(&mut Vec::new()).unwrap();
        object.global::<u32>("calls").unwrap()
    };
    assert_eq!(flush(), 2, "{:?}", sim.faults());
    let noted = |name: &str| object.global::<[u64; 8]>(name).unwrap()[..2].to_vec();
    assert_eq!((noted("groups"), noted("cpus")), (vec![inner, web], vec![0, 0]));
    assert_eq!(noted("parents")[0], web);
    assert_ne!(noted("parents")[1], other);
    assert_eq!(flush(), 2, "{:?}", sim.faults());
}
