//! What only the kernel can do cheaply for thousands of sockets: dropping RTP before it takes memory, and counting it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Opens a non-blocking socket that is connected to `server`.
///
/// # Errors
/// Those of the system.
pub fn open_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(BUFFER)?;
    options.set_send_buffer_size(BUFFER)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Attaches a filter that drops RTP at the socket: payloads whose first byte is 128 to 191 and whose second is not an RTCP type
/// (RFC 7983, RFC 5761). STUN, DTLS and RTCP pass. The kernel counts what it drops.
///
/// # Errors
/// Those of the system.
#[cfg(target_os = "linux")]
pub fn drop_rtp(socket: &UdpSocket) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF: load a byte at an absolute offset, jump if greater or equal, return bytes to keep.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_GE: u16 = 0x35;
    const RETURN: u16 = 0x06;
    // The filter of a UDP socket sees the UDP header first.
    const PAYLOAD: u32 = 8;
    socket2::SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, PAYLOAD),
        SockFilter::new(JUMP_GE, 0, 5, 128),
        SockFilter::new(JUMP_GE, 4, 0, 192),
        SockFilter::new(LOAD_BYTE, 0, 0, PAYLOAD + 1),
        SockFilter::new(JUMP_GE, 0, 1, 192),
        SockFilter::new(JUMP_GE, 0, 1, 224),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Only Linux has this filter.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn drop_rtp(_: &UdpSocket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Datagrams that each IPv4 UDP socket dropped, by local port.
///
/// # Errors
/// When the kernel's table of sockets cannot be read.
pub fn drops_by_port() -> io::Result<HashMap<u16, u64>> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let port = fields.nth(1)?.split_once(':')?.1;
        Some((u16::from_str_radix(port, 16).ok()?, fields.last()?.parse().ok()?))
    };
    Ok(table.lines().skip(1).filter_map(row).collect())
}

/// Holds the backlog of a second, as far as the system permits.
const BUFFER: usize = 4 << 20;
