//! The socket of the process connector: opened with rights, read without.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, sendto,
    socket_with,
};

use super::message::{MAX_BYTES, subscription};
use crate::Error;
use crate::sys;

/// `CN_IDX_PROC`, as the first bit of a group mask.
const PROC_GROUP: u32 = 1;

/// A socket that gets every process event.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What reading gave.
pub(crate) enum Received<'a> {
    /// From the kernel.
    Datagram(&'a [u8]),
    /// There was no room for some, since the last time that this was told.
    Overrun,
    /// Nothing more for now.
    Nothing,
}

impl Socket {
    /// Subscribes. The kernel's answer is the first acknowledgement that is read.
    pub(crate) fn subscribe(buffer_bytes: u32) -> Result<Self, Error> {
        let failed = |call| {
            move |errno: Errno| Error::Connector {
                call,
                source: errno.into(),
            }
        };
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::CONNECTOR),
        )
        .map_err(failed("socket"))?;
        enlarge(&socket, buffer_bytes).map_err(failed("setting the receive buffer"))?;
        bind(&socket, &SocketAddrNetlink::new(0, PROC_GROUP)).map_err(failed("bind"))?;
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&socket, &subscription(), SendFlags::empty(), &kernel)
            .map_err(failed("subscribing"))?;
        Ok(Self(socket))
    }

    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8; MAX_BYTES]) -> io::Result<Received<'a>> {
        loop {
            match recvfrom(&self.0, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((length, _, sender)) => {
                    if is_kernel(sender) {
                        return Ok(Received::Datagram(&buffer[..length]));
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::NOBUFS) => return Ok(Received::Overrun),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Messages that found no room, as the kernel counts them; 0 before Linux 4.12, which does not
    /// tell.
    pub(crate) fn dropped(&self) -> u64 {
        sys::socket_drops(self.0.as_fd()).map_or(0, u64::from)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Beyond the host's limit with `CAP_NET_ADMIN`, up to it without. The kernel doubles the value,
/// for its own overhead; a message takes about 830 bytes of it.
fn enlarge(socket: &OwnedFd, bytes: u32) -> Result<(), Errno> {
    let half = bytes as usize / 2;
    match set_socket_recv_buffer_size_force(socket, half) {
        Err(Errno::PERM) => set_socket_recv_buffer_size(socket, half),
        other => other,
    }
}

/// Processes can send to each other through netlink as well.
fn is_kernel(sender: Option<rustix::net::SocketAddrAny>) -> bool {
    sender
        .and_then(|address| SocketAddrNetlink::try_from(address).ok())
        .is_some_and(|address| address.pid() == 0)
}
