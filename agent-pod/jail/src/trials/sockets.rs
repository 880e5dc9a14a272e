//! Attempts to make sockets and to use them in ways that leave the pod or reach deep into the kernel.

use super::{Tried, all_with, on_stream, one_with};
use crate::checks::Outcome;
use crate::filter::REFUSED;
use crate::outside::Outside;
use crate::sys;

const TYPES: &[i32] = &[
    libc::SOCK_STREAM,
    libc::SOCK_DGRAM,
    libc::SOCK_RAW,
    libc::SOCK_RDM,
    libc::SOCK_SEQPACKET,
    libc::SOCK_DCCP,
    10, // SOCK_PACKET, obsolete
];

fn sockets(call: i64, families: impl IntoIterator<Item = i32>, types: &[i32], protocols: &[i32]) -> Outcome {
    let mut tried: Vec<Tried> = Vec::new();
    for family in families {
        for kind in types {
            for protocol in protocols {
                let result =
                    sys::attempt(call, [family as usize, *kind as usize, *protocol as usize, 0, 0, 0]);
                tried.push((format!("socket({family}, {kind}, {protocol})"), result));
            }
        }
    }
    all_with(REFUSED, tried)
}

const PROTOCOLS: &[i32] = &[0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_SCTP];

pub(crate) fn inet(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_INET], TYPES, PROTOCOLS)
}

pub(crate) fn inet6(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_INET6], TYPES, PROTOCOLS)
}

pub(crate) fn netlink(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_NETLINK], TYPES, &[0])
}

pub(crate) fn packet(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_PACKET], TYPES, &[0])
}

pub(crate) fn vsock(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_VSOCK], TYPES, &[0])
}

pub(crate) fn other_families(_: &Outside) -> Outcome {
    let own =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK];
    sockets(libc::SYS_socket, (0..64).filter(|family| !own.contains(family)), TYPES, &[0])
}

pub(crate) fn mptcp(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_INET, libc::AF_INET6], &[libc::SOCK_STREAM], &[libc::IPPROTO_MPTCP])
}

pub(crate) fn udp(_: &Outside) -> Outcome {
    let kinds = [libc::SOCK_DGRAM, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC];
    let made = sockets(libc::SYS_socket, [libc::AF_INET, libc::AF_INET6], &kinds, &[0, libc::IPPROTO_UDP]);
    if !matches!(made, Outcome::Refused { .. }) {
        return made;
    }
    // As a resolver does it: a header and one question, to the port of DNS.
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07redoubt\x04test\x00\x00\x01\x00\x01";
    let sent =
        std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(query, "127.0.0.1:53"));
    one_with(REFUSED, None, sent)
}

pub(crate) fn raw(_: &Outside) -> Outcome {
    let protocols = [libc::IPPROTO_ICMP, libc::IPPROTO_UDP, libc::IPPROTO_RAW];
    sockets(libc::SYS_socket, [libc::AF_INET, libc::AF_INET6], &[libc::SOCK_RAW], &protocols)
}

pub(crate) fn listen(_: &Outside) -> Outcome {
    let stream = [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0, 0, 0, 0];
    let result = sys::attempt(libc::SYS_socket, stream)
        .and_then(|socket| sys::attempt(libc::SYS_listen, [socket, 1, 0, 0, 0, 0]));
    all_with(REFUSED, [("listen".to_owned(), result)])
}

pub(crate) fn unix_types(_: &Outside) -> Outcome {
    let types: Vec<i32> = TYPES.iter().copied().filter(|kind| *kind != libc::SOCK_STREAM).collect();
    sockets(libc::SYS_socket, [libc::AF_UNIX], &types, &[0])
}

pub(crate) fn unix_protocol(_: &Outside) -> Outcome {
    sockets(libc::SYS_socket, [libc::AF_UNIX], &[libc::SOCK_STREAM], &[1, libc::IPPROTO_MPTCP])
}

pub(crate) fn pair_families(_: &Outside) -> Outcome {
    let families = (0..64).filter(|family| *family != libc::AF_UNIX);
    sockets(libc::SYS_socketpair, families, &[libc::SOCK_STREAM], &[0])
}

pub(crate) fn pair_types(_: &Outside) -> Outcome {
    sockets(libc::SYS_socketpair, [libc::AF_UNIX], &[libc::SOCK_DGRAM, libc::SOCK_SEQPACKET], &[0])
}

/// `sendto` or `recvfrom` with these flags, of nothing.
fn with_flags(call: i64, socket: i32, flags: i32) -> Result<usize, i32> {
    sys::attempt(call, [socket as usize, 0, 0, flags as usize, 0, 0])
}

pub(crate) fn fast_open_send(_: &Outside) -> Outcome {
    on_stream(|socket| {
        vec![
            ("sendto".into(), with_flags(libc::SYS_sendto, socket, libc::MSG_FASTOPEN)),
            ("sendmsg".into(), sys::attempt_sendmsg(socket, libc::MSG_FASTOPEN)),
        ]
    })
}

pub(crate) fn send_flags(_: &Outside) -> Outcome {
    on_stream(|socket| {
        vec![
            ("sendto".into(), with_flags(libc::SYS_sendto, socket, libc::MSG_OOB)),
            ("sendmsg".into(), sys::attempt_sendmsg(socket, libc::MSG_OOB)),
        ]
    })
}

pub(crate) fn receive_flags(_: &Outside) -> Outcome {
    let flags = libc::MSG_OOB | libc::MSG_DONTWAIT;
    on_stream(|socket| {
        let message = [socket as usize, 0, flags as usize, 0, 0, 0];
        vec![
            ("recvfrom".into(), with_flags(libc::SYS_recvfrom, socket, flags)),
            ("recvmsg".into(), sys::attempt(libc::SYS_recvmsg, message)),
        ]
    })
}

pub(crate) fn send_address(_: &Outside) -> Outcome {
    on_stream(|socket| {
        let result = sys::attempt(libc::SYS_sendto, [socket as usize, 0, 0, 0, 1, 16]);
        vec![("sendto with an address".into(), result)]
    })
}

fn option(call: i64, socket: i32, level: i32, option: i32) -> Tried {
    let result = sys::attempt(call, [socket as usize, level as usize, option as usize, 0, 0, 0]);
    (format!("option {option} of level {level}"), result)
}

pub(crate) fn fast_open_option(_: &Outside) -> Outcome {
    let options = [libc::TCP_FASTOPEN, libc::TCP_FASTOPEN_CONNECT];
    on_stream(|socket| {
        options.iter().map(|tcp| option(libc::SYS_setsockopt, socket, libc::IPPROTO_TCP, *tcp)).collect()
    })
}

pub(crate) fn socket_options(_: &Outside) -> Outcome {
    on_stream(|socket| {
        vec![
            option(libc::SYS_setsockopt, socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            option(libc::SYS_setsockopt, socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
            option(libc::SYS_getsockopt, socket, libc::SOL_SOCKET, libc::SO_PEERPIDFD),
        ]
    })
}
