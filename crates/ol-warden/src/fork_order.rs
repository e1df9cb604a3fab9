//! Orders a zygote to fork into a shell, and reads what became of the child.
//!
//! The zygote's half is `runtime/python/native/forker.rs`, which reads the layout written here. The warden trusts nothing in the
//! reply except what the kernel vouches for: which process sent it, and in which pid namespace that process is.

use crate::cgroup::Entrances;
use crate::identity::ShellIdentity;
use ol_sys::confine::Rights;
use ol_sys::process::host_pid_of_sender;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The resource limits (setrlimit(2)) of a leaf or zygote.
///
/// The kernel counts pending signals and message queues per user, so without a limit for each process one child of a zygote could
/// use up what all of them share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceLimits {
    pub files: (u64, u64),
    pub largest_file: u64,
    pub pending_signals: u64,
    pub message_queues: u64,
}

/// The most descriptors sent with one order.
const MAX_FDS: usize = 12;

/// An order to a zygote: fork one child into a shell.
pub(crate) struct ForkOrder<'a> {
    pub identity: &'a ShellIdentity,
    pub rlimits: ResourceLimits,
    pub rights: Rights,
    /// The child's own seccomp filter, on top of the zygote's, as the kernel reads it; empty if the child gets none.
    pub filter: &'a [u8],
    pub keeper: BorrowedFd<'a>,
    pub guest: BorrowedFd<'a>,
    pub log: BorrowedFd<'a>,
    /// If the child is to be a zygote: the socket on which it receives its own orders.
    pub channel: Option<BorrowedFd<'a>>,
    pub entrances: &'a Entrances,
}

/// A fork that was ordered: the socket on which the child or the zygote reports its outcome.
#[derive(Debug)]
pub(crate) struct PendingFork(OwnedFd);

/// What became of a fork that was ordered.
#[derive(Debug)]
pub(crate) enum ForkProgress {
    /// Nothing yet.
    Pending,
    /// The child, which has this process number on the host, has confined itself and runs.
    Running(i32),
    /// There will be no child; why, as far as the zygote tells.
    Failed(String),
}

impl ForkOrder<'_> {
    fn bytes(&self) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (early, late) = (&self.entrances.early, &self.entrances.late);
        let ResourceLimits {
            files,
            largest_file,
            pending_signals,
            message_queues,
        } = self.rlimits;
        let mut bytes = Vec::with_capacity(128 + self.filter.len());
        for word in [u32::from(self.channel.is_some()), self.identity.tenant()] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [
            files.0,
            files.1,
            largest_file,
            pending_signals,
            message_queues,
            self.rights.handled,
            self.rights.reading,
            self.rights.of_a_file,
            self.rights.scoped,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [
            number(early.len()),
            number(late.len()),
            number(self.filter.len() / 8),
            0,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.filter);
        bytes
    }
}

/// Sends `order` on a zygote's `channel`; never waits.
///
/// # Errors
/// When the zygote is gone, or has so much to do already that the channel is full.
pub(crate) fn send(channel: BorrowedFd<'_>, order: &ForkOrder<'_>) -> io::Result<PendingFork> {
    let (ours, status) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::sockopt::set_socket_passcred(&ours, true)?;
    let mut fds = vec![order.keeper, order.guest, order.log, status.as_fd()];
    fds.extend(order.channel);
    fds.extend(order.entrances.early.iter().map(AsFd::as_fd));
    fds.extend(order.entrances.late.iter().map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many descriptors for one order"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(
        channel,
        &[IoSlice::new(&order.bytes())],
        &mut ancillary,
        flags,
    )?;
    Ok(PendingFork(ours))
}

impl AsFd for PendingFork {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PendingFork {
    /// The outcome as far as it is known by now; never waits.
    pub fn progress(&self) -> ForkProgress {
        let mut bytes = [0; 8];
        match host_pid_of_sender(self.0.as_fd(), &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ForkProgress::Pending,
            Err(error) => ForkProgress::Failed(error.to_string()),
            Ok((0, _)) => ForkProgress::Failed("the zygote let go of it without a word".to_owned()),
            Ok((1, Some(pid))) => ForkProgress::Running(pid),
            Ok((5, _)) => {
                let [step, a, b, c, d, ..] = bytes;
                ForkProgress::Failed(failure(step, i32::from_le_bytes([a, b, c, d])))
            }
            Ok(_) => ForkProgress::Failed("the zygote answered nonsense".to_owned()),
        }
    }
}

/// The text for a failure that the zygote or the child reports: a step (`Step` in `native/confine.rs`) and an error number.
fn failure(step: u8, number: i32) -> String {
    const STEPS: [&str; 14] = [
        "fork",
        "enter the cgroup",
        "join the shell",
        "fork inside",
        "make the cgroup namespace",
        "become the sandbox's uid",
        "setsid",
        "set a resource limit",
        "enter /handler",
        "arrange descriptors",
        "give up capabilities",
        "confine with Landlock",
        "install the seccomp filter",
        "an unknown step",
    ];
    if step == 1 {
        return format!(
            "the zygote has {number} threads, and a fork copies one: something that it imported started others"
        );
    }
    let step = usize::from(step).saturating_sub(2).min(STEPS.len() - 1);
    let step = STEPS.get(step).copied().unwrap_or_default();
    format!("{step}: {}", io::Error::from_raw_os_error(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The child has no C library and shares no code with this crate, so this test compares its list of steps with ours.
    #[test]
    fn every_step_of_a_child_has_its_words() {
        let source = include_str!("../../../runtime/python/native/confine.rs");
        let list = source
            .split("pub enum Step {")
            .nth(1)
            .and_then(|rest| rest.split('}').next());
        let names: Vec<&str> = list
            .expect("it has such a list")
            .split(',')
            .map(|line| line.trim().trim_end_matches("= 1").trim_end())
            .filter(|name| !name.is_empty())
            .collect();
        let words = [
            "threads",
            "fork",
            "enter the",
            "join the",
            "fork inside",
            "cgroup namespace",
            "uid",
            "setsid",
            "resource",
            "/handler",
            "descriptors",
            "capabilities",
            "Landlock",
            "seccomp",
        ];
        assert_eq!(names.len(), words.len(), "{names:?}");
        for (step, (name, word)) in (1_u8..).zip(names.iter().zip(words)) {
            let said = failure(step, 1);
            assert!(said.contains(word), "{name}: {said}");
        }
        assert!(failure(15, 1).starts_with("an unknown step"));
        assert!(failure(255, 1).starts_with("an unknown step"));
    }
}
