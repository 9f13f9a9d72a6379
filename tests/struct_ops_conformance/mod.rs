//! Tables of programs on any kernel: loaded, registered, looked at and taken out.

use std::path::Path;

use skep::map::{StructOpsMap, StructOpsState};
use skep::{ErrorKind, Kernel, Loader, Spec};

/// Whether the kernel has tables that are registered by links (Linux 6.4), beside plain ones.
pub(crate) fn registers(kernel: &Kernel, suffix: &str) -> bool {
    let mut spec =
        Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/struct_ops.o")).expect("it opens");
    // Names of their own, since tests run at the same time: the last letters are others.
    for name in ["skep_plain", "skep_linked"] {
        let contents = &mut spec.map_mut(name).expect("it is there").contents;
        let at = contents.windows(name.len()).position(|bytes| bytes == name.as_bytes()).expect("its name");
        let end = at + name.len();
        contents[end - suffix.len()..end].copy_from_slice(suffix.as_bytes());
    }
    let with_links = Loader::new(kernel).load(&spec).is_ok();
    if !with_links {
        spec.map_mut("skep_linked").expect("it is there").autocreate = false;
    }
    let object = Loader::new(kernel).load(&spec).expect("it loads");
    let tables: Vec<&str> = object.struct_ops().map(|(name, _)| name).collect();
    assert_eq!(tables, if with_links { &["skep_plain", "skep_linked"][..] } else { &["skep_plain"] });
    for table in tables {
        let view: StructOpsMap = object.map(table).expect("it was created").typed().expect("it is a table");
        assert_eq!(view.state().expect("it can be read"), StructOpsState::INIT);
        let registered = object.attach_struct_ops(table).expect("the kernel takes it");
        let value = view.value().expect("it can be read");
        let linked = table == "skep_linked";
        assert_eq!(registered.link().is_some(), linked);
        assert_eq!(value.state(), if linked { StructOpsState::READY } else { StructOpsState::IN_USE });
        assert_eq!(value.programs().len(), 3, "{:?}", value.programs());
        for name in ["ssthresh", "cong_avoid", "undo_cwnd"] {
            let id = value.programs().iter().find(|(member, _)| member == name).map(|(_, id)| *id);
            let program = object.program(&format!("skep_{name}")).expect("it is loaded");
            assert_eq!(id, Some(program.info().expect("it is there").id), "{name}");
        }
        let error = object.attach_struct_ops(table).expect_err("it is registered already");
        assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
        drop(registered);
    }
    if with_links {
        let again = object.attach_struct_ops("skep_linked").expect("a link can register it again");
        again.detach().expect("it can be taken out");
        // Another object's table of the same name, while that one is registered by its link and afterwards.
        let other = Loader::new(kernel).load(&spec).expect("it loads");
        let first = object.attach_struct_ops("skep_linked").expect("it is free");
        let error = other.attach_struct_ops("skep_linked").expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
        drop(first);
        drop(other.attach_struct_ops("skep_linked").expect("the name is free again"));
    }
    // A plain one stays when its object goes, until its key is deleted.
    let other = Loader::new(kernel).load(&spec).expect("it loads");
    other.attach_struct_ops("skep_plain").expect("the name is free").leave();
    let map = other.map("skep_plain").expect("it is there").clone();
    drop(other);
    let third = Loader::new(kernel).load(&spec).expect("it loads");
    assert_eq!(
        third.attach_struct_ops("skep_plain").expect_err("the name is taken").kind(),
        ErrorKind::Exists
    );
    map.delete(&[0; 4]).expect("the only key takes it out");
    with_links
}
