use std::os::fd::AsFd;

use skep::sys::Feature;
use skep::sys::abi::{AttachFlags, AttachType, Errno, MapType, ProgType};
use skep::sys::request::{LinkAnchor, LinkCreate, LinkTarget, MapCreate, ProgAttach, ProgDetach, ProgQuery};

use super::{
    CREATE, MULTI, NONE, OVERRIDE, World, attach, attach_with, attached, detach, detach_any, effective, fd,
    guard, has_order, id, ids, program, skip,
};

/// A group has one program, or one that inner groups may replace.
pub(super) fn modes(world: &World<'_>) {
    let group = (world.group)("a");
    let (one, other) = (guard(world), guard(world));
    assert_eq!(detach_any(world, &group), Err(Errno::ENOENT));
    assert_eq!(attached(world, &group).ids(), []);

    // Another one takes its place, if it is attached in the same way.
    attach(world, &group, &one, NONE).unwrap();
    attach(world, &group, &other, NONE).unwrap();
    assert_eq!(attached(world, &group).ids(), [id(&other)]);
    assert_eq!(attached(world, &group).flags, NONE);
    attach(world, &group, &other, NONE).unwrap();
    assert_eq!(attach(world, &group, &one, OVERRIDE), Err(Errno::EPERM));
    assert_eq!(attach(world, &group, &one, MULTI), Err(Errno::EPERM));
    // Any program stands for the one.
    detach(world, &group, &one).unwrap();
    assert_eq!(attached(world, &group).ids(), []);
    assert_eq!(detach(world, &group, &one), Err(Errno::ENOENT));

    attach(world, &group, &one, OVERRIDE).unwrap();
    assert_eq!(attached(world, &group).flags, OVERRIDE);
    assert_eq!(attach(world, &group, &other, NONE), Err(Errno::EPERM));
    detach_any(world, &group).unwrap();

    assert_eq!(attach(world, &group, &one, OVERRIDE | MULTI), Err(Errno::EINVAL));
    assert_eq!(attach(world, &group, &one, AttachFlags::from_bits_retain(1 << 30)), Err(Errno::EINVAL));
    // Not a group, not a program, another kind of program, another hook.
    let map = world.kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
    let skb = program(world, ProgType::CGROUP_SKB, AttachType::CGROUP_INET_INGRESS);
    let bind = program(world, ProgType::CGROUP_SOCK, AttachType::CGROUP_INET4_POST_BIND);
    let ask =
        |prog, target, attach_type| world.kernel.prog_attach(&ProgAttach::new(prog, target, attach_type));
    let here = LinkTarget::Fd(fd(&group));
    assert_eq!(ask(one.as_fd(), LinkTarget::Fd(map.as_fd()), CREATE), Err(Errno::EBADF));
    assert_eq!(ask(map.as_fd(), here, CREATE), Err(Errno::EINVAL));
    assert_eq!(ask(skb.as_fd(), here, CREATE), Err(Errno::EINVAL));
    assert_eq!(ask(bind.as_fd(), here, CREATE), Err(Errno::EINVAL));
    assert_eq!(ask(one.as_fd(), here, AttachType(9999)), Err(Errno::EINVAL));
    let query = |target, attach_type| world.kernel.prog_query(&ProgQuery::new(target, attach_type));
    assert_eq!(query(LinkTarget::Fd(map.as_fd()), CREATE), Err(Errno::EBADF));
    assert_eq!(query(here, AttachType(9999)), Err(Errno::EINVAL));
    assert_eq!(attached(world, &group).ids(), []);
}

pub(super) fn several(world: &World<'_>) {
    let group = (world.group)("a");
    let progs = [guard(world), guard(world), guard(world)];
    let [first, second, third] = &progs;
    for prog in &progs {
        attach(world, &group, prog, MULTI).unwrap();
    }
    assert_eq!(attached(world, &group).ids(), ids(&[first, second, third]));
    assert_eq!(attached(world, &group).flags, MULTI);
    assert_eq!(attach(world, &group, second, MULTI), Err(Errno::EINVAL));
    assert_eq!(attach(world, &group, second, NONE), Err(Errno::EPERM));
    // The one has to be named.
    assert_eq!(detach_any(world, &group), Err(Errno::EINVAL));
    let map = world.kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
    assert_eq!(detach(world, &group, &map), Err(Errno::EINVAL));
    detach(world, &group, second).unwrap();
    assert_eq!(detach(world, &group, second), Err(Errno::ENOENT));
    assert_eq!(attached(world, &group).ids(), ids(&[first, third]));
    // The group keeps them.
    let (kept, id_of_first) = (ids(&[first, third]), id(first));
    drop(progs);
    assert_eq!(attached(world, &group).ids(), kept);
    let first = world.kernel.prog_by_id(id_of_first).unwrap();
    detach(world, &group, &first).unwrap();

    let full = (world.group)("b");
    let progs: Vec<_> = (0..65).map(|_| guard(world)).collect();
    for prog in &progs[..64] {
        attach(world, &full, prog, MULTI).unwrap();
    }
    assert_eq!(attach(world, &full, &progs[64], MULTI), Err(Errno::E2BIG));
    assert_eq!(attached(world, &full).ids().len(), 64);
}

pub(super) fn replacing(world: &World<'_>) {
    let group = (world.group)("a");
    let [first, second, third] = [guard(world), guard(world), guard(world)];
    for prog in [&first, &second] {
        attach(world, &group, prog, MULTI).unwrap();
    }
    let replace =
        |new, old, flags| attach_with(world, &group, new, flags, |request| request.replace = Some(old));
    if replace(&third, first.as_fd(), MULTI) == Err(Errno::EINVAL) {
        return skip("replacing", "this kernel replaces no programs");
    }
    assert_eq!(attached(world, &group).ids(), ids(&[&third, &second]));
    assert_eq!(replace(&third, first.as_fd(), MULTI), Err(Errno::EINVAL)); // it is there
    let fourth = guard(world);
    assert_eq!(replace(&fourth, first.as_fd(), MULTI), Err(Errno::ENOENT));
    assert_eq!(replace(&third, third.as_fd(), MULTI), Ok(()));
    assert_eq!(replace(&fourth, second.as_fd(), NONE), Err(Errno::EINVAL));
    let other = program(world, ProgType::CGROUP_SKB, AttachType::CGROUP_INET_INGRESS);
    assert_eq!(replace(&fourth, other.as_fd(), MULTI), Err(Errno::EINVAL));
    assert_eq!(replace(&fourth, group.as_fd(), MULTI), Err(Errno::EINVAL));
    // The flag wants a program.
    assert!(attach(world, &group, &fourth, MULTI | AttachFlags::REPLACE).is_err());
    assert_eq!(attached(world, &group).ids(), ids(&[&third, &second]));
}

/// What runs in a group, and what may be attached inside of others.
pub(super) fn hierarchies(world: &World<'_>) {
    let [outer, middle, inner] = ["o", "o/m", "o/m/i"].map(|path| (world.group)(path));
    let [a, b, c, d] = [guard(world), guard(world), guard(world), guard(world)];

    // One that nobody replaces.
    attach(world, &outer, &a, NONE).unwrap();
    assert_eq!(effective(world, &inner), ids(&[&a]));
    for flags in [NONE, OVERRIDE, MULTI] {
        assert_eq!(attach(world, &inner, &b, flags), Err(Errno::EPERM));
    }
    detach_any(world, &outer).unwrap();

    // One that inner groups replace.
    attach(world, &outer, &a, OVERRIDE).unwrap();
    attach(world, &inner, &b, OVERRIDE).unwrap();
    assert_eq!(effective(world, &inner), ids(&[&b]));
    assert_eq!(effective(world, &middle), ids(&[&a]));
    // Several inside stand for it, too; what is attached further inside is not asked about.
    attach(world, &middle, &c, MULTI).unwrap();
    assert_eq!(effective(world, &middle), ids(&[&c]));
    assert_eq!(effective(world, &inner), ids(&[&b, &c]));
    detach_any(world, &inner).unwrap();
    attach(world, &inner, &d, NONE).unwrap();
    assert_eq!(effective(world, &inner), ids(&[&d, &c]));
    assert_eq!(attached(world, &inner).ids(), ids(&[&d]));
    detach_any(world, &inner).unwrap();
    detach_any(world, &outer).unwrap();

    // Several, which all run, from the inside.
    attach(world, &outer, &a, MULTI).unwrap();
    attach(world, &outer, &b, MULTI).unwrap();
    attach(world, &inner, &d, MULTI).unwrap();
    assert_eq!(effective(world, &inner), ids(&[&d, &c, &a, &b]));
    assert_eq!(effective(world, &outer), ids(&[&a, &b]));
    let query = ProgQuery::effective(LinkTarget::Fd(fd(&inner)), CREATE);
    let flags = world.kernel.prog_query(&query).unwrap().flags;
    // Programs of several groups have no flags in common. Those of the group itself are told by kernels up to 6.0, which a
    // helper that is as new tells apart.
    let none = world.kernel.has(Feature::Helper(ProgType::CGROUP_SOCK, 208)).is_supported();
    assert!(flags == NONE || !none && flags == MULTI, "{flags:?}");
}

pub(super) fn going_first(world: &World<'_>) {
    const FIRST: AttachFlags = AttachFlags::PREORDER;

    let [outer, inner] = ["o", "o/i"].map(|path| (world.group)(path));
    let progs: Vec<_> = (0..6).map(|_| guard(world)).collect();
    let [a, b, c, d, e, f] = progs.iter().collect::<Vec<_>>().try_into().unwrap();
    if attach(world, &outer, a, MULTI | FIRST) == Err(Errno::EINVAL) {
        return skip("going_first", "this kernel runs no program of an outer group first");
    }
    attach(world, &outer, b, MULTI | FIRST).unwrap();
    attach(world, &outer, c, MULTI).unwrap();
    attach(world, &inner, d, MULTI).unwrap();
    attach(world, &inner, e, MULTI | FIRST).unwrap();
    attach(world, &inner, f, MULTI | FIRST).unwrap();
    assert_eq!(effective(world, &inner), ids(&[a, b, e, f, d, c]));
    assert_eq!(attached(world, &inner).ids(), ids(&[d, e, f]));
    assert_eq!(attached(world, &inner).flags, MULTI);
}

pub(super) fn anchors(world: &World<'_>) {
    if !has_order(world, "anchors") {
        return;
    }
    let group = (world.group)("a");
    let progs: Vec<_> = (0..8).map(|_| guard(world)).collect();
    let [a, b, c, d, e, f, ..] = progs.iter().collect::<Vec<_>>().try_into().map(|p: [_; 8]| p).unwrap();
    let put = |prog, anchor| attach_with(world, &group, prog, MULTI, |request| request.anchor = anchor);
    put(a, LinkAnchor::Default).unwrap();
    put(b, LinkAnchor::First).unwrap();
    put(c, LinkAnchor::Last).unwrap();
    put(d, LinkAnchor::AfterProg(b.as_fd())).unwrap();
    put(e, LinkAnchor::BeforeProgId(id(c))).unwrap();
    assert_eq!(attached(world, &group).ids(), ids(&[b, d, a, e, c]));
    assert_eq!(put(f, LinkAnchor::BeforeProg(progs[7].as_fd())), Err(Errno::ENOENT));
    assert_eq!(
        put(f, LinkAnchor::BeforeProgId(skep::sys::abi::ProgId(i32::MAX as u32 - 1))),
        Err(Errno::ENOENT)
    );
    assert_eq!(put(f, LinkAnchor::AfterProg(group.as_fd())), Err(Errno::EINVAL));
    // What has no link goes before no link.
    let link = world
        .kernel
        .link_create(&LinkCreate::new(progs[6].as_fd(), LinkTarget::Fd(fd(&group)), CREATE))
        .unwrap();
    assert_eq!(put(f, LinkAnchor::BeforeLink(link.as_fd())), Err(Errno::EINVAL));
    assert_eq!(put(f, LinkAnchor::BeforeProg(progs[6].as_fd())), Err(Errno::ENOENT));
    // Neither replaces and goes before, nor is before and after; an anchor goes the same way.
    let both = AttachFlags::BEFORE | AttachFlags::AFTER;
    assert_eq!(attach(world, &group, f, MULTI | both), Err(Errno::EINVAL));
    let before_and_instead = attach_with(world, &group, f, MULTI, |request| {
        (request.replace, request.anchor) = (Some(a.as_fd()), LinkAnchor::First);
    });
    assert_eq!(before_and_instead, Err(Errno::EINVAL));
    let first = attach_with(world, &group, f, MULTI | AttachFlags::PREORDER, |request| {
        request.anchor = LinkAnchor::BeforeProg(a.as_fd());
    });
    assert_eq!(first, Err(Errno::EINVAL));
    assert_eq!(attach(world, &group, f, MULTI | AttachFlags::ID | AttachFlags::BEFORE), Err(Errno::ENOENT));

    // The order is numbered.
    let revision = attached(world, &group).revision;
    let expecting = |prog, expected| {
        attach_with(world, &group, prog, MULTI, |request| request.expected_revision = expected)
    };
    assert_eq!(expecting(f, revision + 1), Err(Errno::ESTALE));
    assert_eq!(expecting(f, revision), Ok(()));
    assert_eq!(attached(world, &group).revision, revision + 1);
    let mut request = ProgDetach::new(f.as_fd(), LinkTarget::Fd(fd(&group)), CREATE);
    request.expected_revision = revision;
    assert_eq!(world.kernel.prog_detach(&request), Err(Errno::ESTALE));
    request.expected_revision = revision + 1;
    assert_eq!(world.kernel.prog_detach(&request), Ok(()));
    let new = (world.group)("b");
    assert_eq!(attached(world, &new).revision, 1);
}

pub(super) fn beside_links(world: &World<'_>) {
    let group = (world.group)("a");
    let [a, b, c] = [guard(world), guard(world), guard(world)];
    attach(world, &group, &a, MULTI).unwrap();
    let request = LinkCreate::new(b.as_fd(), LinkTarget::Fd(fd(&group)), CREATE);
    let Ok(link) = world.kernel.link_create(&request) else {
        return skip("beside_links", "this kernel has no links in control groups");
    };
    // The same program may be attached by links any number of times, and beside them.
    let again = world.kernel.link_create(&request).unwrap();
    attach(world, &group, &b, MULTI).unwrap();
    assert_eq!(attached(world, &group).ids(), ids(&[&a, &b, &b, &b]));
    // A link is not detached by its program, nor replaced.
    detach(world, &group, &b).unwrap();
    assert_eq!(detach(world, &group, &b), Err(Errno::ENOENT));
    let instead = attach_with(world, &group, &c, MULTI, |request| request.replace = Some(b.as_fd()));
    assert_eq!(instead, Err(Errno::ENOENT));
    drop(again);
    drop(link);
    assert_eq!(attached(world, &group).ids(), ids(&[&a]));
    // Where a program is alone, no link is made.
    detach(world, &group, &a).unwrap();
    attach(world, &group, &a, NONE).unwrap();
    assert_eq!(world.kernel.link_create(&request).map(drop), Err(Errno::EPERM));
    assert_eq!(attached(world, &group).ids(), ids(&[&a]));
    detach_any(world, &group).unwrap();

    if !has_order(world, "beside_links") {
        return;
    }
    let link_at = |prog: &skep::sys::LoadedProgram, anchor| {
        let mut request = LinkCreate::new(prog.as_fd(), LinkTarget::Fd(fd(&group)), CREATE);
        request.anchor = anchor;
        world.kernel.link_create(&request)
    };
    let one = link_at(&a, LinkAnchor::Default).unwrap();
    let _two = link_at(&b, LinkAnchor::BeforeLink(one.as_fd())).unwrap();
    let id_of_one = one.info().unwrap().id;
    let _three = link_at(&c, LinkAnchor::BeforeLinkId(id_of_one)).unwrap();
    assert_eq!(attached(world, &group).ids(), ids(&[&b, &c, &a]));
    // Links stand beside links.
    assert_eq!(link_at(&c, LinkAnchor::BeforeProg(a.as_fd())).map(drop), Err(Errno::EINVAL));
    let _first = link_at(&c, LinkAnchor::First).unwrap();
    assert_eq!(attached(world, &group).ids(), ids(&[&c, &b, &c, &a]));
}

/// Every hook that groups have.
pub(super) fn other_kinds(world: &World<'_>) {
    use AttachType as A;

    let group = (world.group)("a");
    let rows = [
        (ProgType::CGROUP_SKB, A::CGROUP_INET_INGRESS),
        (ProgType::CGROUP_SKB, A::CGROUP_INET_EGRESS),
        (ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_RELEASE),
        (ProgType::CGROUP_SOCK, A::CGROUP_INET6_POST_BIND),
        (ProgType::SOCK_OPS, A::CGROUP_SOCK_OPS),
        (ProgType::CGROUP_DEVICE, A::CGROUP_DEVICE),
        (ProgType::CGROUP_SYSCTL, A::CGROUP_SYSCTL),
        (ProgType::CGROUP_SOCKOPT, A::CGROUP_GETSOCKOPT),
        (ProgType::CGROUP_SOCKOPT, A::CGROUP_SETSOCKOPT),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET6_CONNECT),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UDP4_SENDMSG),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UDP6_RECVMSG),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_GETPEERNAME),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET6_GETSOCKNAME),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_CONNECT),
        (ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UNIX_GETSOCKNAME),
    ];
    for (prog_type, attach_type) in rows {
        let insns = skep::asm::Assembler::new().mov64_imm(skep::asm::Reg::R0, 1).exit().finish().unwrap();
        let mut request = skep::sys::request::ProgLoad::new(prog_type, &insns, "GPL");
        request.expected_attach_type = attach_type;
        let Ok(prog) = world.kernel.prog_load(&request, None) else {
            skip("other_kinds", format!("this kernel has no {attach_type}"));
            continue;
        };
        let here = LinkTarget::Fd(fd(&group));
        let mut request = ProgAttach::new(prog.as_fd(), here, attach_type);
        request.flags = MULTI;
        world.kernel.prog_attach(&request).unwrap();
        let query = ProgQuery::new(here, attach_type);
        assert_eq!(world.kernel.prog_query(&query).unwrap().ids(), [id(&prog)], "{attach_type}");
        world.kernel.prog_detach(&ProgDetach::new(prog.as_fd(), here, attach_type)).unwrap();
        assert_eq!(world.kernel.prog_query(&query).unwrap().ids(), [], "{attach_type}");
    }
    // Packets say nothing of where they go to.
    let skb = program(world, ProgType::CGROUP_SKB, A::CGROUP_INET_INGRESS);
    let mut request = ProgAttach::new(skb.as_fd(), LinkTarget::Fd(fd(&group)), A::CGROUP_INET_EGRESS);
    request.flags = MULTI;
    world.kernel.prog_attach(&request).unwrap();
}
