//! Linux system calls that no safe crate offers: many datagrams in one call, and one message that the kernel cuts into datagrams.
#![expect(unsafe_code, reason = "the only file of the project that may")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// The destination, in the address family of the socket.
    pub(super) to: SocketAddr,
    /// One datagram, or a run of them if `segment` is set.
    pub(super) bytes: &'a [u8],
    /// Length of each datagram except the last, in bytes; 0 for a single datagram.
    pub(super) segment: u16,
}

/// The arrays that sendmmsg reads, allocated once.
///
/// Every call of [`SendBatch::send`] sets the pointers of the entries it uses; between calls they are meaningless.
pub(super) struct SendBatch {
    names: Box<[Name; BATCH]>,
    slices: Box<[libc::iovec; BATCH]>,
    controls: Box<[Control; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
}

/// The arrays and buffers that recvmmsg fills, allocated once.
pub(super) struct ReceiveBatch<const LEN: usize> {
    names: Box<[Name; BATCH]>,
    slices: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
    buffers: Box<[[u8; LEN]]>,
}

// SAFETY: the raw pointers in the headers are written by `send` before each use and never read otherwise, so that a batch owns
// everything it reaches and can move to another thread.
unsafe impl Send for SendBatch {}
// SAFETY: as for `SendBatch`; `receive` sets every pointer before its call.
unsafe impl<const LEN: usize> Send for ReceiveBatch<LEN> {}

/// Messages in one sendmmsg or recvmmsg.
pub(super) const BATCH: usize = 64;

impl SendBatch {
    pub(super) fn new() -> SendBatch {
        SendBatch {
            names: Box::new([Name::EMPTY; BATCH]),
            slices: zeroed_slices(),
            controls: zeroed_controls(),
            headers: zeroed_headers(),
        }
    }

    /// Sends up to [`BATCH`] messages in one call and returns how many the kernel took. An error concerns the first message.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for message in messages.take(BATCH) {
            self.set(count, &message);
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `count` headers were just set; their names and controls are owned by `self`, and the bytes are borrowed for 'a,
        // which outlives this call. The kernel writes only `msg_len` of the headers.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                flags as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn set(&mut self, index: usize, message: &Message<'_>) {
        let name = &mut self.names[index];
        *name = Name::from(message.to);
        let slice = &mut self.slices[index];
        slice.iov_base = message.bytes.as_ptr().cast_mut().cast();
        slice.iov_len = message.bytes.len();
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = name.bytes.as_mut_ptr().cast();
        header.msg_namelen = name.len;
        header.msg_iov = slice;
        header.msg_iovlen = 1;
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        if message.segment > 0 {
            let control = &mut self.controls[index];
            control.header.cmsg_len = Control::LEN as _;
            control.header.cmsg_level = libc::SOL_UDP;
            control.header.cmsg_type = libc::UDP_SEGMENT;
            control.segment = message.segment;
            header.msg_control = std::ptr::from_mut(control).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
    }
}

impl<const LEN: usize> ReceiveBatch<LEN> {
    pub(super) fn new() -> ReceiveBatch<LEN> {
        ReceiveBatch {
            names: Box::new([Name::EMPTY; BATCH]),
            slices: zeroed_slices(),
            headers: zeroed_headers(),
            buffers: vec![[0; LEN]; BATCH].into_boxed_slice(),
        }
    }

    /// Receives up to [`BATCH`] datagrams without waiting and returns how many.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for index in 0..BATCH {
            let slice = &mut self.slices[index];
            slice.iov_base = self.buffers[index].as_mut_ptr().cast();
            slice.iov_len = LEN;
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = self.names[index].bytes.as_mut_ptr().cast();
            header.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_iov = slice;
            header.msg_iovlen = 1;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: all headers were just set to names and buffers of the stated lengths that `self` owns and nothing else borrows.
        let received = unsafe {
            let none = std::ptr::null_mut();
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags as _,
                none,
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// A datagram of the last [`receive`](ReceiveBatch::receive): its source as the kernel names it, and its bytes. `None` when it
    /// was longer than a buffer.
    pub(super) fn datagram(&mut self, index: usize) -> Option<(SocketAddr, &mut [u8])> {
        let message = &self.headers[index];
        if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let name = &mut self.names[index];
        name.len = message.msg_hdr.msg_namelen;
        let from = name.address()?;
        Some((from, self.buffers[index].get_mut(..message.msg_len as usize)?))
    }
}

/// Waits until the socket is writable, at most `limit` (in whole milliseconds). False after the limit.
pub(super) fn wait_writable(socket: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut wanted = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd is passed and lives across the call.
    unsafe { libc::poll(&mut wanted, 1, limit.as_millis() as libc::c_int) > 0 }
}

/// Whether the kernel supports UDP_SEGMENT (Linux 4.18).
pub(super) fn knows_gso(socket: BorrowedFd<'_>) -> bool {
    let mut segment: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value and its length live across the call, and the length is that of the value.
    let result = unsafe {
        let value = std::ptr::from_mut(&mut segment).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, &mut len)
    };
    result == 0
}

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu_time() -> Option<Duration> {
    clock_time(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of a process have used, ended ones included; `None` when there is no such process.
pub(super) fn process_cpu_time(pid: u32) -> Option<Duration> {
    // 0 would name the calling process.
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid != 0)?;
    let mut clock = 0;
    // SAFETY: one clock id is written, which lives across the call.
    let result = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    (result == 0).then(|| clock_time(clock))?
}

fn clock_time(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives across the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Makes the kernel timestamp datagrams as they arrive at this socket.
pub(super) fn stamp_arrivals(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value lives across the call, and the length is its own.
    let result = unsafe {
        let value = std::ptr::from_ref(&on).cast();
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, value, len)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Receives one datagram: its length, and when it arrived as time since 1970 if the socket has
/// [`stamp_arrivals`]. A datagram longer than the buffer is truncated.
pub(super) fn receive_stamped(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the struct is integers, for which zero is a value.
    let mut control: Stamp = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is integers and raw pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut slice;
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<Stamp>() as _;
    // SAFETY: buffer and control live across the call and have the stated lengths; no name is asked for.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, 0) };
    let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let stamped = message.msg_controllen as usize >= Stamp::LEN
        && control.header.cmsg_level == libc::SOL_SOCKET
        && control.header.cmsg_type == libc::SCM_TIMESTAMPNS;
    let at = Duration::new(control.time.tv_sec as u64, control.time.tv_nsec as u32);
    Ok((len, stamped.then_some(at)))
}

/// Datagrams that this socket has dropped since its creation, by its filter or because its buffer was full.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into the words, which live across the call.
    let result = unsafe {
        let value = words.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, value, &mut len)
    };
    match words.last() {
        _ if result != 0 => Err(io::Error::last_os_error()),
        Some(&drops) if len as usize == size_of_val(&words) => Ok(drops),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// From `asm-generic/socket.h`; libc does not define it.
const SO_MEMINFO: libc::c_int = 55;

/// Raises the soft limit of open files to `wanted`, or as far as the hard limit allows, and returns the new limit.
pub(super) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one rlimit, which lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: the kernel reads one rlimit, which lives across the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// A socket address in the layout of the kernel:
///
/// ```text
///  sockaddr_in   family u16 | port u16 be | address 4
///  sockaddr_in6  family u16 | port u16 be | flow info u32 | address 16 | scope u32
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Name {
    bytes: [u8; NAME_BYTES],
    len: libc::socklen_t,
}

/// Length of a `sockaddr_in6`.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Length of a `sockaddr_in`.
const NAME_V4_BYTES: usize = size_of::<libc::sockaddr_in>();

impl Name {
    const EMPTY: Name = Name {
        bytes: [0; NAME_BYTES],
        len: 0,
    };

    fn address(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let family = libc::c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        match (family, self.len as usize) {
            (libc::AF_INET, NAME_V4_BYTES..) => {
                let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Some(SocketAddrV4::new(ip, port).into())
            }
            (libc::AF_INET6, NAME_BYTES..) => {
                let ip: [u8; 16] = bytes[8..24].try_into().ok()?;
                let flow = u32::from_ne_bytes(bytes[4..8].try_into().ok()?);
                let scope = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Name {
        let mut name = Name::EMPTY;
        let bytes = &mut name.bytes;
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, len) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, NAME_V4_BYTES)
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, NAME_BYTES)
            }
        };
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name.len = len as libc::socklen_t;
        name
    }
}

/// One control message: the length of the datagrams of a run.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    segment: u16,
}

impl Control {
    /// Header and value, without the padding to the next header.
    const LEN: usize = std::mem::offset_of!(Control, segment) + size_of::<u16>();
}

// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(size_of::<Control>() == unsafe { libc::CMSG_SPACE(2) } as usize);

/// One control message: when a datagram arrived.
#[repr(C)]
struct Stamp {
    header: libc::cmsghdr,
    time: libc::timespec,
}

impl Stamp {
    /// Header and value.
    const LEN: usize = std::mem::offset_of!(Stamp, time) + size_of::<libc::timespec>();
}

fn zeroed_headers() -> Box<[libc::mmsghdr; BATCH]> {
    // SAFETY: the struct is integers and raw pointers, for which zero is a value.
    Box::new([unsafe { std::mem::zeroed() }; BATCH])
}

fn zeroed_slices() -> Box<[libc::iovec; BATCH]> {
    // SAFETY: the struct is an integer and a raw pointer, for which zero is a value.
    Box::new([unsafe { std::mem::zeroed() }; BATCH])
}

fn zeroed_controls() -> Box<[Control; BATCH]> {
    // SAFETY: the struct is integers, for which zero is a value.
    Box::new(std::array::from_fn(|_| unsafe { std::mem::zeroed() }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Makes UDP_SEGMENT fail with EINVAL on this socket: segmentation needs the checksums that this turns off.
    pub(crate) fn refuse_gso(socket: BorrowedFd<'_>) {
        let on: libc::c_int = 1;
        // SAFETY: the value lives across the call, and the length is its own.
        let result = unsafe {
            let value = std::ptr::from_ref(&on).cast();
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, len)
        };
        assert_eq!(result, 0);
    }

    fn pair(ip: &str) -> (UdpSocket, UdpSocket) {
        let bind = || UdpSocket::bind((ip, 0)).unwrap();
        (bind(), bind())
    }

    fn exchange(ip: &str) {
        let (near, far) = pair(ip);
        let bytes: Vec<u8> = (0..250).collect();
        let to = far.local_addr().unwrap();
        let message = |segment, len| Message {
            to,
            bytes: &bytes[..len],
            segment,
        };
        let messages = [message(0, 40), message(100, 250), message(0, 101)];

        assert!(knows_gso(near.as_fd()));
        assert!(wait_writable(near.as_fd(), Duration::from_millis(1)));
        assert_eq!(SendBatch::new().send(near.as_fd(), messages.into_iter()).unwrap(), 3);

        let mut batch = ReceiveBatch::<100>::new();
        assert_eq!(batch.receive(far.as_fd()).unwrap(), 5);
        for (index, expected) in [&bytes[..40], &bytes[..100], &bytes[100..200], &bytes[200..]]
            .into_iter()
            .enumerate()
        {
            let (from, received) = batch.datagram(index).unwrap();
            assert_eq!((from, &*received), (near.local_addr().unwrap(), expected));
        }
        assert!(batch.datagram(4).is_none(), "101 bytes do not fit 100");
        assert_eq!(
            batch.receive(far.as_fd()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn runs_are_cut_and_datagrams_counted_over_ipv4() {
        exchange("127.0.0.1");
    }

    #[test]
    fn runs_are_cut_and_datagrams_counted_over_ipv6() {
        exchange("::1");
    }

    #[test]
    fn an_error_concerns_the_first_message() {
        let (near, far) = pair("127.0.0.1");
        let message = |to| Message {
            to,
            bytes: &[1],
            segment: 0,
        };
        let good = message(far.local_addr().unwrap());
        let bad = message("127.0.0.1:0".parse().unwrap());
        let mut batch = SendBatch::new();
        assert_eq!(batch.send(near.as_fd(), [good, bad].into_iter()).unwrap(), 1);
        let error = batch.send(near.as_fd(), [bad, good].into_iter()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn addresses_keep_every_field() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, 9).into();
        for address in [
            "1.2.3.4:80".parse().unwrap(),
            "[2001:db8::7]:65535".parse().unwrap(),
            scoped,
        ] {
            assert_eq!(Name::from(address).address(), Some(address));
        }
        assert_eq!(Name::EMPTY.address(), None);
    }

    #[test]
    fn the_kernel_reports_when_a_datagram_arrived() {
        let (near, far) = pair("127.0.0.1");
        let mut buffer = [0; 10];
        let before = crate::clock::unix_time();
        near.send_to(&[7; 3], far.local_addr().unwrap()).unwrap();
        assert_eq!(receive_stamped(far.as_fd(), &mut buffer).unwrap(), (3, None));
        stamp_arrivals(far.as_fd()).unwrap();
        near.send_to(&[7; 4], far.local_addr().unwrap()).unwrap();
        let (len, at) = receive_stamped(far.as_fd(), &mut buffer).unwrap();
        assert_eq!(len, 4);
        assert!((before..=crate::clock::unix_time()).contains(&at.unwrap()));
    }

    #[test]
    fn thread_time_advances_with_work() {
        let before = thread_cpu_time().unwrap();
        while thread_cpu_time().unwrap() == before {
            std::hint::black_box(before);
        }
    }

    #[test]
    fn process_time_includes_ended_threads() {
        let own = std::process::id();
        let before = process_cpu_time(own).unwrap();
        let used = std::thread::spawn(|| {
            while thread_cpu_time().unwrap() < Duration::from_millis(20) {
                std::hint::black_box(0);
            }
            thread_cpu_time().unwrap()
        });
        let used = used.join().unwrap();
        assert!(process_cpu_time(own).unwrap() - before >= used);
        assert_eq!((process_cpu_time(0), process_cpu_time(u32::MAX)), (None, None));
    }

    #[test]
    fn a_full_socket_reports_how_many_datagrams_it_dropped() {
        let (sender, receiver) = pair("127.0.0.1");
        assert_eq!(dropped(receiver.as_fd()).unwrap(), 0);
        socket2::SockRef::from(&receiver).set_recv_buffer_size(1).unwrap();
        for _ in 0..50 {
            sender.send_to(&[0; 1_000], receiver.local_addr().unwrap()).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let read = std::iter::from_fn(|| receiver.recv(&mut [0; 1_000]).ok()).count();
        assert_eq!(dropped(receiver.as_fd()).unwrap() as usize + read, 50);
        assert!(read < 50);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_and_never_lowered() {
        let before = raise_open_files(0).unwrap();
        assert!(before > 0);
        assert!(raise_open_files(before.saturating_add(1)).unwrap() >= before);
    }
}
