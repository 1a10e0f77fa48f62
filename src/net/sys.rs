//! Linux: many datagrams a system call, by sendmmsg with UDP_SEGMENT and recvmmsg. All `unsafe` of the project is here.
#![expect(unsafe_code, reason = "the system calls that std does not have")]

use std::collections::HashSet;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use libc::{cmsghdr, iovec, mmsghdr, sockaddr_in, sockaddr_in6, sockaddr_storage};
use mio::net::UdpSocket;

use super::portable;
use super::udp::{MediaSocket, SocketCounters, is_harmless, on_wire};
use crate::fanout::{Run, SendQueue};

/// Everything that the two system calls need, made once. No allocation when sending or receiving.
pub struct Batches {
    out: Box<[Message; SendQueue::RUNS_MAX]>,
    out_headers: Box<[mmsghdr; SendQueue::RUNS_MAX]>,
    incoming: Box<[Message; MediaSocket::RECEIVE_MAX]>,
    incoming_headers: Box<[mmsghdr; MediaSocket::RECEIVE_MAX]>,
    buffer: Box<[u8]>,
    /// Destinations whose path refuses UDP_SEGMENT.
    plain: HashSet<SocketAddr>,
    gso: bool,
}

/// What one header points to.
#[derive(Clone, Copy)]
#[repr(C)]
struct Message {
    address: sockaddr_storage,
    iov: iovec,
    control: Control,
}

/// Room for one control message with a 16-bit value, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: cmsghdr,
    segment: u16,
    padding: [u8; 6],
}

// SAFETY: the raw pointers point into the boxes beside them, and are written anew before every call.
unsafe impl Send for Batches {}

impl Batches {
    /// Destinations without UDP_SEGMENT that are remembered.
    const PLAIN_MAX: usize = 1_024;

    /// Empty batches.
    pub fn new() -> Batches {
        // SAFETY: all fields are integers and raw pointers, for which zero is a value.
        let (message, header): (Message, mmsghdr) = unsafe { (zeroed(), zeroed()) };
        Batches {
            out: Box::new([message; SendQueue::RUNS_MAX]),
            out_headers: Box::new([header; SendQueue::RUNS_MAX]),
            incoming: Box::new([message; MediaSocket::RECEIVE_MAX]),
            incoming_headers: Box::new([header; MediaSocket::RECEIVE_MAX]),
            buffer: vec![0; MediaSocket::RECEIVE_MAX * MediaSocket::DATAGRAM_MAX].into_boxed_slice(),
            plain: HashSet::new(),
            gso: true,
        }
    }

    /// Sends every run of the queue. `failed` hears the owner of each that was not taken whole.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        v6: bool,
        queue: &SendQueue,
        counters: &SocketCounters,
        failed: &mut dyn FnMut(u32),
    ) {
        let runs = queue.runs();
        for (place, run) in runs.iter().enumerate() {
            self.prepare(place, run, queue.bytes(run), v6);
        }
        let mut at = 0;
        let mut waited = false;
        while at < runs.len() {
            let plain = self.is_plain(&runs[at]);
            if plain {
                send_plain(socket, v6, queue, &runs[at], counters, failed);
                at += 1;
                continue;
            }
            let stop = runs[at..]
                .iter()
                .position(|run| self.is_plain(run))
                .map_or(runs.len(), |ahead| at + ahead);
            counters.send_calls.add(1);
            match send_messages(socket.as_raw_fd(), &mut self.out_headers[at..stop]) {
                Ok(sent) => {
                    runs[at..at + sent].iter().for_each(|run| count(run, counters));
                    at += sent;
                }
                Err(error) => match error.raw_os_error() {
                    // What the path (or the kernel) does not take as segments is sent one by one, now and later.
                    Some(libc::EIO | libc::EMSGSIZE | libc::EINVAL | libc::ENOPROTOOPT) if runs[at].segments > 1 => {
                        self.note_plain(&runs[at], &error);
                    }
                    Some(libc::EAGAIN | libc::ENOBUFS) if !waited => {
                        waited = true;
                        wait_writable(socket.as_raw_fd());
                    }
                    Some(libc::EINTR) => {}
                    _ => {
                        counters.send_errors.add(1);
                        failed(runs[at].owner);
                        at += 1;
                    }
                },
            }
        }
    }

    fn prepare(&mut self, place: usize, run: &Run, bytes: &[u8], v6: bool) {
        let message = &mut self.out[place];
        let address_len = write_address(&mut message.address, on_wire(run.to, v6));
        message.iov = iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let header = &mut self.out_headers[place].msg_hdr;
        header.msg_name = (&raw mut message.address).cast();
        header.msg_namelen = address_len;
        header.msg_iov = &raw mut message.iov;
        header.msg_iovlen = 1;
        if run.segments > 1 {
            message.control.header.cmsg_level = libc::SOL_UDP;
            message.control.header.cmsg_type = libc::UDP_SEGMENT;
            message.control.header.cmsg_len = (size_of::<cmsghdr>() + size_of::<u16>()) as _;
            message.control.segment = run.segment;
            header.msg_control = (&raw mut message.control).cast();
            header.msg_controllen = size_of::<Control>() as _;
        } else {
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
        }
    }

    fn is_plain(&self, run: &Run) -> bool {
        run.segments > 1 && (!self.gso || (!self.plain.is_empty() && self.plain.contains(&run.to)))
    }

    fn note_plain(&mut self, run: &Run, error: &io::Error) {
        if error.raw_os_error() == Some(libc::ENOPROTOOPT) {
            self.gso = false;
            tracing::warn!(
                "this kernel has no UDP_SEGMENT: every datagram is sent by itself, which costs several times more"
            );
        }
        if self.plain.len() >= Batches::PLAIN_MAX {
            self.plain.clear();
        }
        tracing::debug!(to = %run.to, %error, "no UDP_SEGMENT on the way to this destination");
        self.plain.insert(run.to);
    }

    /// Receives what waits, one system call's worth.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        counters: &SocketCounters,
        each: &mut dyn FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<usize> {
        for (place, buffer) in self.buffer.chunks_mut(MediaSocket::DATAGRAM_MAX).enumerate() {
            let message = &mut self.incoming[place];
            message.iov = iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let header = &mut self.incoming_headers[place].msg_hdr;
            header.msg_name = (&raw mut message.address).cast();
            header.msg_namelen = size_of::<sockaddr_storage>() as _;
            header.msg_iov = &raw mut message.iov;
            header.msg_iovlen = 1;
            header.msg_flags = 0;
        }
        let received = match receive_messages(socket.as_raw_fd(), &mut self.incoming_headers[..]) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if is_harmless(&error) => return Ok(1),
            Err(error) => return Err(error),
        };
        for (place, datagram) in self
            .buffer
            .chunks_mut(MediaSocket::DATAGRAM_MAX)
            .take(received)
            .enumerate()
        {
            let (header, message) = (&self.incoming_headers[place], &self.incoming[place]);
            let len = header.msg_len as usize;
            counters.datagrams_in.add(1);
            counters.bytes_in.add(len as u64);
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                counters.oversized_in.add(1);
            } else if let Some(from) = read_address(&message.address) {
                each(from, &mut datagram[..len]);
            }
        }
        Ok(received)
    }
}

impl Default for Batches {
    fn default() -> Batches {
        Batches::new()
    }
}

fn send_plain(
    socket: &UdpSocket,
    v6: bool,
    queue: &SendQueue,
    run: &Run,
    counters: &SocketCounters,
    failed: &mut dyn FnMut(u32),
) {
    counters.gso_refused.add(1);
    let segments = queue.bytes(run).chunks(usize::from(run.segment));
    if !portable::send_segments(socket, on_wire(run.to, v6), segments, counters) {
        failed(run.owner);
    }
}

fn count(run: &Run, counters: &SocketCounters) {
    counters.datagrams_out.add(u64::from(run.segments));
    counters.bytes_out.add(u64::from(run.len));
    counters.gso_runs.add(u64::from(run.segments > 1));
}

fn send_messages(socket: RawFd, headers: &mut [mmsghdr]) -> io::Result<usize> {
    // SAFETY: `headers` is a valid array of its length; each header points to an address, an iovec and a control message in the
    // boxes of `Batches` and to bytes of the queue, all of which live until the call returns. The kernel writes only `msg_len`.
    let sent = unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(sent as usize)
    }
}

fn receive_messages(socket: RawFd, headers: &mut [mmsghdr]) -> io::Result<usize> {
    // SAFETY: `headers` is a valid array of its length; each header points to an address of the size it says and to a buffer of the
    // length it says, both exclusively ours until the call returns. No timeout is given.
    let received = unsafe {
        let (headers, len) = (headers.as_mut_ptr(), headers.len() as u32);
        libc::recvmmsg(socket, headers, len, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    if received < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(received as usize)
    }
}

/// Waits until the socket takes datagrams again, at most a millisecond: longer would cost the other viewers.
fn wait_writable(socket: RawFd) {
    let mut descriptor = libc::pollfd {
        fd: socket,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one valid pollfd, as the count says.
    unsafe { libc::poll(&raw mut descriptor, 1, 1) };
}

fn write_address(storage: &mut sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let raw = sockaddr_in {
                sin_family: libc::AF_INET as _,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than sockaddr_in and aligned for every address type.
            unsafe { (&raw mut *storage).cast::<sockaddr_in>().write(raw) };
            size_of::<sockaddr_in>() as _
        }
        SocketAddr::V6(v6) => {
            let raw = sockaddr_in6 {
                sin6_family: libc::AF_INET6 as _,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: sockaddr_storage is larger than sockaddr_in6 and aligned for every address type.
            unsafe { (&raw mut *storage).cast::<sockaddr_in6>().write(raw) };
            size_of::<sockaddr_in6>() as _
        }
    }
}

/// The address in canonical form: IPv4-mapped ones as IPv4.
fn read_address(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in.
            let raw = unsafe { (&raw const *storage).cast::<sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this is a sockaddr_in6.
            let raw = unsafe { (&raw const *storage).cast::<sockaddr_in6>().read() };
            let (ip, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port));
            match ip.to_ipv4_mapped() {
                Some(ip) => Some(SocketAddrV4::new(ip, port).into()),
                None => Some(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id).into()),
            }
        }
        _ => None,
    }
}

/// CPU time that the calling thread has used, user and system.
pub fn thread_cpu_time() -> std::time::Duration {
    // SAFETY: an all-zero timespec is a value, and the clock writes to nothing else.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Attaches a filter to a socket that lets the kernel drop whatever is RTP by its first two bytes, so that a load generator pays
/// nothing for it. `keep_one_in`: of so many random RTP packets one is kept; 0 keeps none.
///
/// # Errors
/// What the system says.
pub fn drop_rtp(socket: &impl AsRawFd) -> io::Result<()> {
    // BPF over the UDP datagram, header of 8 bytes first: RTP is 0x80..=0xbf, and not RTCP (192..=223 in the second byte).
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load_byte, and, equal) = (
        libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
        libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
    );
    let give = libc::BPF_RET | libc::BPF_K;
    let filter = [
        instruction(load_byte, 0, 0, 8),
        instruction(and, 0, 0, 0xc0),
        instruction(equal, 0, 3, 0x80),
        instruction(load_byte, 0, 0, 9),
        instruction(and, 0, 0, 0xe0),
        instruction(equal, 0, 1, 0xc0),
        instruction(give, 0, 0, u32::MAX),
        instruction(give, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the option takes a sock_fprog of that size; the kernel copies the filter before it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
