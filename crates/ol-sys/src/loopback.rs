//! Bringing `lo` up: a new network namespace has it down, and programs expect 127.0.0.1 to work.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::AsRawFd;

/// Sets `IFF_UP` on `lo` of the current network namespace (netdevice(7)). Needs `CAP_NET_ADMIN` over it.
///
/// # Errors
/// Those of socket(2) and ioctl(2).
pub fn up() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which zeroes are valid; the kernel reads the name and flags of this local only.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = 1; // IFF_UP
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
