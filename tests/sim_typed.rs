//! What programs see that read by the kernel's own types, on the simulated kernel.

mod typed_conformance;

use std::os::fd::AsFd;

use skep::map::Map;
use skep::program::Program;
use skep::sim::{AttachPoint, FunctionCall, SimKernel, Socket, Task, Uprobe};
use skep::sys::request::LinkTarget;
use skep::{Kernel, Loader, Spec};
use typed_conformance::iterate;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const SYMBOLS: &str = "\
ffffffff81000000 T vfs_read
ffffffff81000100 t local_function
ffffffffc0000000 t of_module\t[module]
";

const MAPPINGS: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/test
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
";

fn sim() -> Result<SimKernel> {
    let btf = std::fs::read("testdata/net-6.18.btf")?;
    Ok(SimKernel::builder().btf(btf).symbols(SYMBOLS).process(1000, MAPPINGS).build()?)
}

#[test]
fn packets_devices_and_maps() -> Result {
    let sim = sim()?;
    let (differs, lacking) = typed_conformance::check(&Kernel::new(sim.clone()))?;
    assert!(differs.is_empty(), "{}", differs.concat());
    assert!(lacking.is_empty(), "{lacking:?}");
    assert_eq!(sim.last_fault(), None);
    Ok(())
}

#[test]
fn open_coded_iterators() -> Result {
    let sim = sim()?;
    sim.add_task(Task::new(1001).thread_of(1000));
    sim.add_cgroup("/web")?;
    let lacking = typed_conformance::walk(&Kernel::new(sim.clone()), 1000)?;
    assert!(lacking.is_empty(), "{lacking:?}");
    assert_eq!(sim.last_fault(), None);
    Ok(())
}

#[test]
fn iterators() -> Result {
    let sim = sim()?;
    let kernel = Kernel::new(sim.clone());
    sim.add_task(Task::new(1000).open_file(3, "/etc/passwd").open_file(1, "/dev/null"));
    sim.add_task(Task::new(1001).open_file(3, "/var/log/messages"));
    let listener = Socket::tcp("127.0.0.1:80".parse()?).listening().uid(33);
    let connected = Socket::tcp("127.0.0.1:81".parse()?).connected("127.0.0.1:9000".parse()?);
    sim.add_socket(connected);
    sim.add_socket(listener);
    sim.add_socket(Socket::udp("[::1]:53".parse()?));
    sim.add_socket(Socket::udp("127.0.0.1:123".parse()?).uid(7));
    let web = sim.add_cgroup("/web")?;
    let api = sim.add_cgroup("/web/api")?;

    assert_eq!(
        iterate(&kernel, "symbols", LinkTarget::Loaded)?,
        "ffffffff81000000 T vfs_read\nffffffff81000100 t local_function\nffffffffc0000000 t of_module\n"
    );
    assert_eq!(
        iterate(&kernel, "files", LinkTarget::Loaded)?,
        "1000 1 null\n1000 3 passwd\n1001 3 messages\n"
    );
    assert_eq!(iterate(&kernel, "files", LinkTarget::Process(1001))?, "1001 3 messages\n");
    let port = 9000_u16.to_be();
    assert_eq!(iterate(&kernel, "tcp", LinkTarget::Loaded)?, format!("80 0 10 536 33\n81 {port} 1 536 0\n"));
    assert_eq!(iterate(&kernel, "udp", LinkTarget::Loaded)?, "53 1 0\n123 0 7\n");
    assert_eq!(iterate(&kernel, "unix_sockets", LinkTarget::Loaded)?, "");
    assert_eq!(iterate(&kernel, "buffers", LinkTarget::Loaded)?, "0\n");
    let (root, directory) = (sim.open_cgroup("/")?, sim.open_cgroup("/web")?);
    let groups = |cgroup, order| iterate(&kernel, "groups", LinkTarget::Cgroups { cgroup, order });
    assert_eq!(groups(directory.as_fd(), 1)?, format!("{web} 1\nend 0\n"));
    assert_eq!(groups(root.as_fd(), 2)?, format!("1 0\n{web} 1\n{api} 2\nend 0\n"));
    assert_eq!(groups(root.as_fd(), 3)?, format!("{api} 2\n{web} 1\n1 0\nend 0\n"));
    assert_eq!(groups(directory.as_fd(), 4)?, format!("{web} 1\n1 0\nend 0\n"));
    assert!(groups(root.as_fd(), 9).is_err());
    assert!(iterate(&kernel, "groups", LinkTarget::Loaded).is_err());
    assert_eq!(sim.last_fault(), None);
    Ok(())
}

#[test]
fn a_loader_that_is_a_program() -> Result {
    let sim = sim()?;
    let kernel = Kernel::new(sim.clone());
    let take = |number| sim.take_descriptor(number).ok_or("a program made it");
    typed_conformance::light_skeleton(
        &kernel,
        &|number| Ok(Map::from_fd(&kernel, take(number)?)?),
        &|number| Ok(Program::from_fd(&kernel, take(number)?)?),
    )?;
    // What the loader did not give away it has closed: its types. Each descriptor is given once.
    assert_eq!(sim.last_fault(), None);
    assert_eq!(sim.live().btfs, 0);
    Ok(())
}

#[test]
fn objects_as_text() -> Result {
    let sim = sim()?;
    let texts = typed_conformance::shown(&Kernel::new(sim.clone()))?;
    let text = |start: &str| texts.iter().find_map(|text| text.strip_prefix(start)).unwrap_or_default();
    assert_eq!(
        text("list_head round 1 flags 4 room 2048: "),
        "71\n(struct list_head){\n .next = (struct list_head *)0x0000000000000001,\n}\n\n"
    );
    assert_eq!(text("kuid_t round 3 flags 1 room 2048: "), "32\n(kuid_t){.val = (uid_t)6513249,}\n");
    assert_eq!(text("unsigned int round 0 flags 0 room 1: "), "16\n\n");
    assert_eq!(sim.last_fault(), None);
    Ok(())
}

#[test]
fn sessions_share_a_word() -> Result {
    let sim = sim()?;
    let kernel = Kernel::new(sim.clone());
    let mut spec = Spec::parse("sessions", include_bytes!("../testdata/run/sessions.o"))?;
    spec.programs.retain(|program| program.name != "tracepoint");
    let object = Loader::new(&kernel).load(&spec)?;
    let mut links = Vec::new();
    for program in object.programs() {
        let point = sim.place_of_section(program.section()).ok_or("a place")?;
        links.push(sim.attach(program, point)?);
    }
    let seen = || -> Result<[u64; 4]> {
        let get = |name| object.global::<u64>(name);
        Ok([get("starts")?, get("ends")?, get("cookies")?, get("returned")?])
    };
    assert_eq!(sim.fire(FunctionCall::new("vfs_read").arg(7).returns(9))?.runs.ok()?.len(), 2);
    assert_eq!(seen()?, [1, 1, 107, 9]);
    // A program that says so at the start does not run at the end.
    assert_eq!(sim.fire(FunctionCall::new("vfs_read").arg(5).returns(9))?.runs.ok()?.len(), 1);
    assert_eq!(seen()?, [2, 1, 107, 9]);
    assert_eq!(sim.fire(Uprobe::new("/bin/test", "work").arg(8).returns(3))?.runs.ok()?.len(), 2);
    assert_eq!(seen()?, [3, 2, 215, 3]);
    assert_eq!(sim.fire(Uprobe::new("/bin/test", "work").arg(5).returns(3))?.runs.ok()?.len(), 1);
    assert_eq!(seen()?, [4, 2, 215, 3]);
    Ok(())
}

#[test]
fn arguments_of_a_tracepoint_of_a_program() -> Result {
    let sim = sim()?;
    let kernel = Kernel::new(sim.clone());
    let mut spec = Spec::parse("sessions", include_bytes!("../testdata/run/sessions.o"))?;
    spec.programs.retain(|program| program.name == "tracepoint");
    let object = Loader::new(&kernel).load(&spec)?;
    let point = AttachPoint::usdt("/bin/test", "provider", "name").cookie(77);
    let link = sim.attach(object.program("tracepoint")?, point)?;
    let event = Uprobe::usdt("/bin/test", "provider", "name").args([1, -2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(sim.fire(event)?.runs.ok()?.len(), 1);
    let minus_two = -2_i64 as u64;
    assert_eq!(object.global::<[u64; 12]>("values")?, [1, minus_two, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
    assert_eq!((object.global::<u64>("count")?, object.global::<u64>("cookie")?), (8, 77));
    drop(link);
    Ok(())
}
