use std::os::fd::AsFd;

use skep::sys::abi::{AttachFlags, AttachType, Errno, MapType, ProgType};
use skep::sys::request::{LinkAnchor, LinkCreate, LinkTarget, MapCreate, ProgAttach, ProgDetach, ProgQuery};

use super::{World, id, ids, program, skip};

pub(super) fn socket_maps(world: &World<'_>) {
    use AttachType as A;

    let map = |kind| world.kernel.map_create(&MapCreate::new(kind, 4, 4, 4)).unwrap();
    for kind in [MapType::SOCKMAP, MapType::SOCKHASH] {
        let map = map(kind);
        let here = LinkTarget::Fd(map.as_fd());
        let attach = |prog: &skep::sys::LoadedProgram, attach_type| {
            world.kernel.prog_attach(&ProgAttach::new(prog.as_fd(), here, attach_type))
        };
        let detach = |prog: &skep::sys::LoadedProgram, attach_type| {
            world.kernel.prog_detach(&ProgDetach::new(prog.as_fd(), here, attach_type))
        };
        let query = |attach_type| world.kernel.prog_query(&ProgQuery::new(here, attach_type));
        let rows = [
            (ProgType::SK_MSG, A::SK_MSG_VERDICT),
            (ProgType::SK_SKB, A::SK_SKB_STREAM_PARSER),
            (ProgType::SK_SKB, A::SK_SKB_STREAM_VERDICT),
        ];
        for (prog_type, attach_type) in rows {
            let (one, other) =
                (program(world, prog_type, attach_type), program(world, prog_type, attach_type));
            let asks = query(attach_type);
            assert_eq!(detach(&one, attach_type), Err(Errno::ENOENT));
            attach(&one, attach_type).unwrap();
            attach(&one, attach_type).unwrap();
            attach(&other, attach_type).unwrap();
            if asks.is_ok() {
                assert_eq!(query(attach_type).unwrap().ids(), [id(&other)]);
            }
            assert_eq!(detach(&one, attach_type), Err(Errno::ENOENT));
            detach(&other, attach_type).unwrap();
            if asks.is_ok() {
                assert_eq!(query(attach_type).unwrap().ids(), []);
            }
            let mut request = ProgAttach::new(one.as_fd(), here, attach_type);
            request.flags = AttachFlags::ALLOW_MULTI;
            assert_eq!(world.kernel.prog_attach(&request), Err(Errno::EINVAL));
        }
        // Streams have one verdict of two kinds.
        let verdict = program(world, ProgType::SK_SKB, A::SK_SKB_VERDICT);
        let stream = program(world, ProgType::SK_SKB, A::SK_SKB_STREAM_VERDICT);
        if attach(&verdict, A::SK_SKB_VERDICT).is_ok() {
            assert_eq!(attach(&stream, A::SK_SKB_STREAM_VERDICT), Err(Errno::EBUSY));
            detach(&verdict, A::SK_SKB_VERDICT).unwrap();
            attach(&stream, A::SK_SKB_STREAM_VERDICT).unwrap();
            assert_eq!(attach(&verdict, A::SK_SKB_VERDICT), Err(Errno::EBUSY));
        } else {
            skip("socket_maps", "this kernel has no sk_skb_verdict");
        }
        // A link keeps it.
        let msg = program(world, ProgType::SK_MSG, A::SK_MSG_VERDICT);
        match world.kernel.link_create(&LinkCreate::new(msg.as_fd(), here, A::SK_MSG_VERDICT)) {
            Ok(_link) => {
                assert_eq!(attach(&msg, A::SK_MSG_VERDICT), Err(Errno::EBUSY));
                assert_eq!(detach(&msg, A::SK_MSG_VERDICT), Err(Errno::EBUSY));
            }
            Err(_) => skip("socket_maps", "this kernel has no links of socket maps"),
        }
    }
    let array = map(MapType::ARRAY);
    let msg = program(world, ProgType::SK_MSG, A::SK_MSG_VERDICT);
    let other = ProgAttach::new(msg.as_fd(), LinkTarget::Fd(array.as_fd()), A::SK_MSG_VERDICT);
    assert_eq!(world.kernel.prog_attach(&other), Err(Errno::EOPNOTSUPP));
}

pub(super) fn flow_dissectors(world: &World<'_>) {
    const AT: AttachType = AttachType::FLOW_DISSECTOR;

    let netns = (world.netns)();
    let load = || program(world, ProgType::FLOW_DISSECTOR, AttachType(0));
    let (one, other) = (load(), load());
    let attach = |prog: &skep::sys::LoadedProgram| {
        world.kernel.prog_attach(&ProgAttach::new(prog.as_fd(), LinkTarget::Loaded, AT))
    };
    let detach = |prog: &skep::sys::LoadedProgram| {
        world.kernel.prog_detach(&ProgDetach::new(prog.as_fd(), LinkTarget::Loaded, AT))
    };
    let query =
        |attach_type| world.kernel.prog_query(&ProgQuery::new(LinkTarget::Fd(netns.as_fd()), attach_type));
    assert_eq!(query(AT).unwrap().ids(), []);
    assert_eq!(detach(&one), Err(Errno::ENOENT));
    attach(&one).unwrap();
    assert_eq!(attach(&one), Err(Errno::EINVAL));
    assert_eq!(query(AT).unwrap().ids(), [id(&one)]);
    attach(&other).unwrap();
    assert_eq!(query(AT).unwrap().ids(), [id(&other)]);
    assert_eq!(detach(&one), Err(Errno::ENOENT));
    detach(&other).unwrap();

    let request = LinkCreate::new(one.as_fd(), LinkTarget::Fd(netns.as_fd()), AT);
    match world.kernel.link_create(&request) {
        Ok(_link) => {
            assert_eq!(attach(&other), Err(Errno::EEXIST));
            assert_eq!(detach(&one), Err(Errno::EINVAL));
            assert_eq!(query(AT).unwrap().ids(), [id(&one)]);
        }
        Err(_) => skip("flow_dissectors", "this kernel has no links of network namespaces"),
    }
    // Of socket lookups there are only links.
    if query(AttachType::SK_LOOKUP).is_err() {
        return skip("flow_dissectors", "this kernel has no sk_lookup");
    }
    let lookup = program(world, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP);
    let direct = ProgAttach::new(lookup.as_fd(), LinkTarget::Loaded, AttachType::SK_LOOKUP);
    assert_eq!(world.kernel.prog_attach(&direct), Err(Errno::EINVAL));
    let request = LinkCreate::new(lookup.as_fd(), LinkTarget::Fd(netns.as_fd()), AttachType::SK_LOOKUP);
    let _link = world.kernel.link_create(&request).unwrap();
    assert_eq!(query(AttachType::SK_LOOKUP).unwrap().ids(), [id(&lookup)]);
}

pub(super) fn devices(world: &World<'_>) {
    const AT: AttachType = AttachType::TCX_INGRESS;

    let _netns = (world.netns)();
    let lo = world.kernel.backend().ifindex("lo".as_ref()).unwrap();
    let here = LinkTarget::Ifindex(lo);
    let query = || world.kernel.prog_query(&ProgQuery::new(here, AT));
    if query() == Err(Errno::EINVAL) {
        return skip("devices", "this kernel has no tcx");
    }
    let progs: Vec<_> = (0..5).map(|_| program(world, ProgType::SCHED_CLS, AttachType(0))).collect();
    let [a, b, c, d, e] = progs.iter().collect::<Vec<_>>().try_into().unwrap();
    let attach = |prog: &skep::sys::LoadedProgram, anchor, replace: Option<&skep::sys::LoadedProgram>| {
        let mut request = ProgAttach::new(prog.as_fd(), here, AT);
        (request.anchor, request.replace) = (anchor, replace.map(AsFd::as_fd));
        world.kernel.prog_attach(&request)
    };
    attach(a, LinkAnchor::Default, None).unwrap();
    attach(b, LinkAnchor::First, None).unwrap();
    attach(c, LinkAnchor::AfterProg(b.as_fd()), None).unwrap();
    assert_eq!(query().unwrap().ids(), ids(&[b, c, a]));
    assert_eq!(attach(a, LinkAnchor::Default, None), Err(Errno::EEXIST));
    assert_eq!(attach(d, LinkAnchor::BeforeProg(e.as_fd()), None), Err(Errno::ENOENT));
    attach(d, LinkAnchor::Default, Some(c)).unwrap();
    assert_eq!(query().unwrap().ids(), ids(&[b, d, a]));
    assert_eq!(attach(e, LinkAnchor::Default, Some(c)), Err(Errno::ENOENT));
    // A link is in the order, and has its program for itself.
    let link = world.kernel.link_create(&LinkCreate::new(c.as_fd(), here, AT)).unwrap();
    assert_eq!(query().unwrap().progs[3].link_id, link.info().unwrap().id);
    assert_eq!(attach(e, LinkAnchor::Default, Some(c)), Err(Errno::EBUSY));
    let detach =
        |prog: &skep::sys::LoadedProgram| world.kernel.prog_detach(&ProgDetach::new(prog.as_fd(), here, AT));
    assert_eq!(detach(c), Err(Errno::EBUSY));
    assert_eq!(detach(e), Err(Errno::ENOENT));
    detach(d).unwrap();
    assert_eq!(query().unwrap().ids(), ids(&[b, a, c]));
    let mut first = ProgDetach::any(here, AT);
    first.anchor = LinkAnchor::First;
    world.kernel.prog_detach(&first).unwrap();
    assert_eq!(query().unwrap().ids(), ids(&[a, c]));
    drop(link);
    detach(a).unwrap();
    assert_eq!(query().unwrap().ids(), []);
    let nowhere = ProgAttach::new(a.as_fd(), LinkTarget::Ifindex(0x7fff_fff0), AT);
    assert_eq!(world.kernel.prog_attach(&nowhere), Err(Errno::ENODEV));
}
