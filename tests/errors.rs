//! What is said to someone who uses skep wrongly: which thing, why, and what to do.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use skep::map::{Array, PerCpuArray};
use skep::{Error, ErrorKind, Loader, Object, Spec};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn counter() -> Object {
    let spec = Spec::open(file("examples/packet_counter.bpf.o")).expect("the example opens");
    Loader::new(&skep::sim::kernel()).load(&spec).expect("the example loads")
}

/// An error and its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_wrong_name_answers_the_names_that_there_are() {
    let object = counter();
    let error = object.map("counts").expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "object `packet_counter` has no map `counts`; there are: per_protocol, .rodata, .bss"
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = object.program("main").expect_err("there is none");
    assert!(error.to_string().ends_with("there are: count_packets"), "{error}");
    let error = object.global::<u64>("seen").expect_err("there is none");
    assert!(error.to_string().contains("sample_every, packets_seen, packets_skipped"), "{error}");
}

#[test]
fn wrong_types_name_both() {
    let object = counter();
    let map = object.map("per_protocol").expect("it has the map");
    let error = map.typed::<Array<[u64; 2]>>().expect_err("each CPU has its own");
    assert_eq!(error.to_string(), "map `per_protocol` is of type percpu_array, and Array takes array");
    let error = map.typed::<PerCpuArray<u64>>().expect_err("it has two");
    assert!(
        error.to_string().starts_with("values of map `per_protocol` are not laid out as `u64`"),
        "{error}"
    );
    let error = object.set_global("sample_every", &2u32).expect_err("it is constant");
    assert!(error.to_string().ends_with("is constant: set it before the object is loaded"), "{error}");
}

#[test]
fn a_program_that_cannot_attach_by_itself_says_how_it_can() {
    let object = counter();
    let program = object.program("count_packets").expect("it has the program");
    let error = program.attach().expect_err("XDP needs an interface");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().ends_with("use attach_xdp"), "{error}");
    let error = program.attach_xdp("eth9").expect_err("there is none");
    assert!(chain(&error).contains("no network device eth9"), "{}", chain(&error));
}

#[test]
fn a_pin_outside_of_a_bpffs_names_path_and_reason() {
    let object = counter();
    let error = object.program("count_packets").expect("it has the program").pin("/tmp/count");
    let text = chain(&error.expect_err("that is no bpffs"));
    assert!(text.contains("pin it at /tmp/count (") && text.contains("bpffs"), "{text}");
}

#[test]
fn a_kernel_without_types_says_how_to_give_it_some() {
    let spec = Spec::open(file("examples/exec_watch.bpf.o")).expect("the example opens");
    let error = Loader::new(&skep::sim::kernel()).load(&spec).expect_err("it has no BTF");
    let text = chain(&error);
    assert!(text.contains("types of the kernel: it has none") && text.contains("kernel_types"), "{text}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn files_that_are_no_objects_say_why() {
    let said = |path: &Path| chain(&Spec::open(path).expect_err("it is no object"));
    assert!(said(&file("README.md")).contains("not the ELF magic"));
    assert!(said(&file("no/such/file")).contains("No such file"));
    assert!(said(&file("testdata")).contains("directory"));

    let large = std::env::temp_dir().join(format!("skep-large-{}", std::process::id()));
    std::fs::File::create(&large).and_then(|file| file.set_len(2 << 30)).expect("a file with a hole");
    let text = said(&large);
    std::fs::remove_file(&large).expect("it was made above");
    assert!(text.contains("more than 1 GiB"), "{text}");
}

#[test]
fn programs_without_a_name_are_called_so() {
    let kernel = skep::sim::kernel();
    let builder = skep::program::ProgramBuilder::new(skep::sys::abi::ProgType::XDP, "GPL");
    let error = builder.load(&kernel).expect_err("it has no instructions");
    assert!(
        chain(&error).starts_with("load program without a name: program without a name (xdp): "),
        "{error}"
    );
}
